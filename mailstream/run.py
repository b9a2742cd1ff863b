"""``mailstream run``: everything in the configuration on one machine, until Ctrl-C.

Start: lock, leftovers of an earlier run, ports, broker, topics, then workers, producers, view and sinks together.
Stop: producers and view first (they write what they took), then the workers (they commit), then the sinks (they
store), the broker last.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

from consumers.sinks import registry as sinks
from mailstream.local_kafka import low_disk
from mailstream.running import broker, watch
from mailstream.running.console import Console, open_console
from mailstream.running.folder_lock import folder_lock
from mailstream.running.listeners import check_listeners, worker_addresses
from mailstream.running.supervisor import Part, Supervisor, left_behind, stop_left_behind
from pipeline.core.errors import ConfigError, MailstreamError
from pipeline.kit.service import announce, announced, withdraw
from pipeline.kit.settings import Settings
from pipeline.kit.topic_admin import create_topics
from pipeline.kit.values import Address
from producers.registry import configured

NAME: Final = "run"
INGEST: Final = "ingest"
VIEW: Final = "view"
STATUS_S: Final = 5.0
SURFACE_S: Final = 1.0
DISK_S: Final = 60.0
POLL_S: Final = 0.1
SLOW_START_S: Final = 20.0
"""A start that takes longer says what it waits for, and again each time this has passed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Running:
    """A ready installation, as what runs beside it sees it."""

    settings: Settings
    console: Console
    probe: watch.Probe
    ingest_url: Callable[[], str | None]
    """Where ingest listens now; None while it is down.  With port 0 a restart moves it."""
    producer_url: Callable[[str], str | None]
    """Where another producer shows its metrics and health, by name; None while it is down."""
    metrics_urls: tuple[str, ...]
    """Where each worker shows its metrics: a key is on one of them."""
    note: Callable[[str], None]
    """Sets what the status line says besides."""


Beside = Callable[[Running], Awaitable[None]]
"""Runs beside a ready installation; when it ends, the installation is stopped."""


async def run(
    settings: Settings, beside: Beside, *, config: Path | None = None, workers: int = 1
) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP, or until *beside* ends; then stop it in order.

    Args:
        settings: The configuration.
        beside: What to do once everything is ready, such as :func:`serve`.
        config: The file that was read, for the parts to read it too; None: they look for it
            where we did.
        workers: How many worker processes share the partitions.

    Raises:
        ConfigError: A port is taken, another run uses the folder, Java or Maven is missing, or a
            part finds its configuration unusable.
        MailstreamError: The broker did not come up, or the topics cannot be used.
    """
    interrupt = _Interrupt()
    with (
        _signals(interrupt),
        folder_lock(settings.data_dir),
        contextlib.closing(open_console()) as console,
    ):
        left = left_behind(settings.data_dir)
        inherited = left.pop(broker.NAME, None)
        if left:
            names = ", ".join(f"{name} ({pid})" for name, pid in sorted(left.items()))
            console.warn(f"an earlier run did not stop in order: stopping what it left, {names}")
            await stop_left_behind(left)
        check_listeners(settings, workers)
        installation = _Installation(settings, config, workers, console, inherited)
        interrupt.on_second = installation.kill
        try:
            if await _unless(interrupt.event, installation.start()):
                await _unless(interrupt.event, installation.work(beside))
        finally:
            await installation.stop()


async def serve(running: Running) -> None:
    """Tell how to post a first event, then do nothing: let the installation run."""
    settings, console = running.settings, running.console
    key = ' -H "X-API-Key: $KEY"' if settings.ingest.api_keys else ""
    login = f" -u {settings.metrics.username}" if settings.metrics.username else ""
    console.say("post a first event, and see it in /metrics:")
    console.command(
        f"curl -sS {running.ingest_url()}/api/v1/email-events{key} "
        "-H 'Content-Type: application/json' -d '"
        '{"timestamp":"\'$(date -u +%FT%TZ)\'","event_type":"delivered","message_id":"first",'
        '"from_user":"alice@example.com","to_domain":"gmail.com","sending_ip":"203.0.113.7",'
        '"mta_node":"mta1","response_code":250}\'\n'
        f"curl -sS{login} {' '.join(running.metrics_urls)} | grep mail_user_events"
    )
    await asyncio.Event().wait()


class _Interrupt:
    """What Ctrl-C and SIGTERM do: the first asks to stop, a second hurries."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.on_second: Callable[[], None] = lambda: None


class _Installation:
    """Broker, topics, workers, producers and sinks of one run."""

    def __init__(
        self,
        settings: Settings,
        config: Path | None,
        workers: int,
        console: Console,
        inherited: int | None,
    ) -> None:
        self._settings = settings
        self._console = console
        self._supervisor = Supervisor(settings.data_dir, console)
        self._broker = broker.Broker(settings, self._supervisor, console, inherited)
        self._probe = watch.Probe(settings)
        self._listens = worker_addresses(settings, workers)
        self._services: dict[str, tuple[str, ...]] = {
            one.name: ("produce", one.name) for one in configured(settings)
        }
        if settings.view is not None:
            self._services[VIEW] = (VIEW,)
        self._sinks = {row.process: row.name for row in sinks.configured(settings)}
        self._arguments = () if config is None else ("--config", str(config.absolute()))
        self._note = ""
        self._hurried = False
        self._announced: Address | None = None

    async def start(self) -> bool:
        """Start everything; return when all services and workers are ready."""
        begun = time.monotonic()
        settings, console = self._settings, self._console
        console.say(f"mailstream {version('mailstream')} is starting")
        console.fact("data", f"{settings.data_dir} (logs in {settings.data_dir / 'log'})")
        self._warn_of_low_disk()
        bootstrap = await self._broker.start()
        await create_topics(settings, bootstrap)
        topics = settings.topics
        console.fact("topics", f"{topics.prefix}*, {topics.partitions} partitions each")
        for name, listen in self._listens.items():
            place = ("--name", name, "--listen", str(listen))
            self._supervisor.start(Part.of_program(name, "worker", *self._arguments, *place))
        for name, command in self._services.items():
            self._supervisor.start(Part.of_program(name, *command, *self._arguments))
        for process, name in self._sinks.items():
            self._supervisor.start(Part.of_program(process, "sink", name, *self._arguments))
        await self._until_ready()
        addresses = self._addresses()
        console.fact(INGEST, self._probe.ingest_url(addresses[INGEST]))
        for name in (*self._services, *self._sinks):
            if name == VIEW:
                console.fact(name, self._probe.producer_url(name, addresses[name]))
            elif name != INGEST:
                console.fact(name, f"{addresses[name]} (/metrics, /health)")
        for name in self._listens:
            if name in addresses:
                console.fact(name, f"{self._probe.metrics_url(addresses[name])}/metrics")
        self._announce(addresses[INGEST])
        console.say(f"ready in {time.monotonic() - begun:.1f} s; Ctrl-C stops everything")
        return True

    async def work(self, beside: Beside) -> None:
        """Watch over the installation until cancelled, or until *beside* ends."""
        running = Running(
            self._settings,
            self._console,
            self._probe,
            self._ingest_url,
            self._producer_url,
            self._metrics_urls(),
            self._set_note,
        )
        endless = (self._tell_status(), self._surface(), self._look_at_disk(), self._broker.watch())
        tasks = [asyncio.create_task(one) for one in endless]
        tasks.append(asyncio.ensure_future(beside(running)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Stop what was started, in order; nothing that was acknowledged is lost.

        Raises:
            MailstreamError: It was hurried.
        """
        begun = self._supervisor.has_parts or self._broker.begun
        self._console.status("")
        if begun:
            names = ", ".join(self._services)
            then = "".join(f", then {name}" for name in self._sinks)
            self._console.say(
                f"stopping {names}, then the workers{then}, then Kafka; Ctrl-C again hurries"
            )
        withdraw(self._settings.data_dir, NAME)
        await self._supervisor.stop(self._services)
        await self._supervisor.stop(self._listens)
        await self._supervisor.stop(self._sinks)
        await self._broker.stop()
        await self._probe.close()
        self._supervisor.surface()
        if self._hurried:
            raise MailstreamError("everything was ended at once, by a second signal")
        if begun:
            self._console.say("stopped")

    def kill(self) -> None:
        """End everything at once; what was acknowledged is in Kafka's log all the same."""
        self._hurried = True
        self._console.warn("hurrying: ending everything at once")
        self._supervisor.kill()
        self._broker.kill()

    async def _until_ready(self) -> None:
        told = time.monotonic()
        services = {*self._services, *self._sinks}
        waiting = {*services, *self._listens}
        # a worker beyond the number of partitions has none, and stands by
        standing_by = max(0, len(self._listens) - self._settings.topics.partitions)
        while not waiting.isdisjoint(services) or len(waiting) > standing_by:
            if self._supervisor.refused.done():
                raise ConfigError([self._supervisor.refused.result()])
            addresses = self._addresses()
            for name in waiting & addresses.keys():
                if await self._is_ready(name, addresses[name]):
                    waiting.discard(name)
            self._supervisor.surface()
            if time.monotonic() - told > SLOW_START_S:
                told = time.monotonic()
                self._console.say(f"still waiting for {', '.join(sorted(waiting))}")
            await asyncio.sleep(POLL_S)

    async def _is_ready(self, name: str, address: Address) -> bool:
        if name == INGEST:
            return await self._probe.ingest_is_ready(address)
        # What waits for something else, such as a database, is up: its health tells.
        return name not in self._listens or await self._probe.worker_is_ready(address)

    def _addresses(self) -> dict[str, Address]:
        """Return where the present process of each part listens."""
        return {
            name: found.address
            for name, found in announced(self._settings.data_dir).items()
            if name in (*self._services, *self._listens, *self._sinks)
            and found.pid == self._supervisor.pid(name)
        }

    def _announce(self, ingest: Address) -> None:
        """Announce where the installation takes events; with port 0 a restart moves it."""
        self._announced = ingest
        announce(self._settings.data_dir, NAME, ingest)

    def _ingest_url(self) -> str | None:
        return self._producer_url(INGEST)

    def _producer_url(self, name: str) -> str | None:
        address = self._addresses().get(name)
        return None if address is None else self._probe.producer_url(name, address)

    def _metrics_urls(self) -> tuple[str, ...]:
        found = self._addresses()
        return tuple(
            f"{self._probe.metrics_url(found.get(name, configured))}/metrics"
            for name, configured in self._listens.items()
        )

    def _set_note(self, note: str) -> None:
        self._note = note

    async def _tell_status(self) -> None:
        totals, at = watch.Totals(), 0.0
        counted: float | None = None
        while True:
            readings = dict.fromkeys(self._listens, None) | await self._read_all()
            for name, reading in readings.items():
                if reading is not None:
                    totals.take(name, reading)
            now = time.monotonic()
            rate = 0.0 if counted is None else (totals.events - counted) / (now - at)
            counted, at = totals.events, now
            self._console.status(watch.status_line(readings, rate, totals, self._note))
            await asyncio.sleep(STATUS_S)

    async def _read_all(self) -> dict[str, watch.Reading | None]:
        addresses = {name: at for name, at in self._addresses().items() if name in self._listens}
        answers = await asyncio.gather(*(self._probe.reading(at) for at in addresses.values()))
        return dict(zip(addresses, answers, strict=True))

    async def _surface(self) -> None:
        while True:
            self._supervisor.surface()
            ingest = self._addresses().get(INGEST)
            if ingest is not None and ingest != self._announced:
                self._announce(ingest)
            await asyncio.sleep(SURFACE_S)

    async def _look_at_disk(self) -> None:
        while True:
            await asyncio.sleep(DISK_S)
            self._warn_of_low_disk()

    def _warn_of_low_disk(self) -> None:
        share = low_disk(self._settings.data_dir)
        if share is not None and self._settings.kafka.bootstrap_servers is None:
            self._console.warn(
                f"only {share:.1%} of the disk under {self._settings.data_dir} is free: "
                "Kafka stops when it is full"
            )


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what *work* returns, or None if *stop* comes first: then *work* is cancelled."""
    working, waiting = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if not working.done():
            working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return await working
    return None


@contextlib.contextmanager
def _signals(interrupt: _Interrupt) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if interrupt.event.is_set():
            interrupt.on_second()
        interrupt.event.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's wish is kept
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
