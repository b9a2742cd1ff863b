"""The life of a process: start in order, run until told to stop, stop in reverse order.

Also how other processes learn where a service listens: ``<data_dir>/run/<name>.json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import tempfile
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from pipeline.core.errors import MailstreamError
from pipeline.kit.values import Address

log = logging.getLogger(__name__)

STOP_DEADLINE_S: Final = 20.0
FORCED_EXIT: Final = 1


_T = TypeVar("_T")


async def outcome(call: Awaitable[_T]) -> _T | Exception:
    """Return what *call* returns, or the exception that it raised, whatever it is.

    For the outermost ring alone, which must answer or go on: elsewhere an error is handled by
    its class.  Cancellation is not an outcome and passes.
    """
    try:
        return await call
    except Exception as exc:  # noqa: BLE001  this is the one place for it
        return exc


class Part(Protocol):
    """One part of a process."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    async def start(self) -> None:
        """Begin; return when it serves."""

    async def run(self) -> None:
        """Work until cancelled; returning or raising ends the process."""

    async def stop(self) -> None:
        """Finish what was begun, within the deadline; only called after a start that succeeded."""


async def serve(parts: Sequence[Part], *, deadline_s: float = STOP_DEADLINE_S) -> None:
    """Run *parts* until SIGTERM, SIGINT or the end of one of them, then stop them all.

    A second signal while stopping ends the process at once.  Parts are stopped in reverse order;
    one that fails to stop does not keep the others from stopping.

    Raises:
        MailstreamError: A part failed to start, failed while running, or did not stop in time.
    """
    stopping = asyncio.Event()
    started: list[Part] = []
    with _signals(stopping):
        failure = await outcome(_run(parts, started, stopping))
        failed = await _stop(started, deadline_s)
    if failure is not None:
        raise failure
    if failed:
        raise MailstreamError("did not stop in order: " + ", ".join(failed))


async def _run(parts: Sequence[Part], started: list[Part], stopping: asyncio.Event) -> None:
    for part in parts:
        if not await _start(part, stopping):
            return
        started.append(part)
    await _until_stopped(started, stopping)


async def _start(part: Part, stopping: asyncio.Event) -> bool:
    """Start *part*, which may wait for others for long: a signal ends the wait.  Tell if it did."""
    starting = asyncio.create_task(part.start())
    waiter = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({starting, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (starting, waiter):
            task.cancel()
        await asyncio.gather(starting, waiter, return_exceptions=True)
    if starting.cancelled():
        return False
    starting.result()
    return True


async def _until_stopped(parts: Sequence[Part], stopping: asyncio.Event) -> None:
    tasks = [asyncio.create_task(part.run(), name=part.name) for part in parts]
    waiter = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait({*tasks, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, waiter):
            task.cancel()
        await asyncio.gather(*tasks, waiter, return_exceptions=True)
    for task in done - {waiter}:
        task.result()
    if waiter not in done:
        ended = ", ".join(sorted(task.get_name() for task in done))
        raise MailstreamError(f"ended although nobody asked it to: {ended}")


async def _stop(started: list[Part], deadline_s: float) -> list[str]:
    """Stop in reverse order and return the names of parts that did not stop cleanly."""
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline_s
    failed = []
    for part in reversed(started):
        error = await outcome(_stop_one(part, until))
        if error is not None:
            reason = "took too long" if isinstance(error, TimeoutError) else str(error)
            log.error("a part did not stop", extra={"part": part.name, "error": reason})
            failed.append(part.name)
    return failed


async def _stop_one(part: Part, until: float) -> None:
    async with asyncio.timeout_at(until):
        await part.stop()


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():
            log.warning("stopped at once, by a second signal")
            os._exit(FORCED_EXIT)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@dataclass(frozen=True, slots=True)
class Announcement:
    """One service that runs on this machine."""

    name: str
    pid: int
    address: Address


def announce(data_dir: Path, name: str, address: Address) -> None:
    """Tell other processes that this one serves *name* at *address*, atomically."""
    folder = data_dir / "run"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"pid": os.getpid(), "address": str(address)})
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(folder / f"{name}.json")
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def withdraw(data_dir: Path, name: str) -> None:
    """Take back this process's announcement of *name*; another process's stays."""
    path = data_dir / "run" / f"{name}.json"
    found = _read(path)
    if found is not None and found.pid == os.getpid():
        path.unlink(missing_ok=True)


def announced(data_dir: Path) -> dict[str, Announcement]:
    """Return the services whose announcing process is alive, by name."""
    read = (_read(path) for path in sorted((data_dir / "run").glob("*.json")))
    return {found.name: found for found in read if found is not None and _alive(found.pid)}


def _read(path: Path) -> Announcement | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Announcement(path.stem, int(fields["pid"]), Address.parse(fields["address"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
