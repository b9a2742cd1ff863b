"""The broker of ``mailstream run``: the configured cluster, or the local one, kept alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Final

from mailstream.local_kafka import LocalKafka, running_bootstrap
from mailstream.running.console import Console
from mailstream.running.supervisor import Supervisor
from pipeline.core.errors import MailstreamError
from pipeline.kit.settings import Settings

NAME: Final = "kafka"
LOOK_S: Final = 1.0
ANSWER_S: Final = 60.0
"""How long a broker that runs already may take to answer."""
LONGEST_WAIT_S: Final = 30.0


class Broker:
    """What the parts connect to."""

    def __init__(
        self, settings: Settings, supervisor: Supervisor, console: Console, inherited: int | None
    ) -> None:
        """Describe the broker; nothing is started.

        Args:
            settings: The configuration.
            supervisor: What restarts the parts if the broker's address changes.
            console: Where to tell what happens.
            inherited: Process id of a broker that an earlier run left behind.
        """
        self._data_dir = settings.data_dir
        self._configured = settings.kafka.bootstrap_servers
        self._supervisor = supervisor
        self._console = console
        self._inherited = inherited
        self._kafka = LocalKafka(settings.data_dir)
        self._starting: asyncio.Task[str] | None = None
        self._ours = False
        self._bootstrap = ""

    @property
    def begun(self) -> bool:
        """Tell whether a broker of ours was started, or may still come up."""
        if self._starting is None or not self._starting.done():
            return self._ours
        return not self._starting.cancelled() and self._starting.exception() is None

    async def start(self) -> str:
        """Return the bootstrap address of a broker that answers.

        Raises:
            ConfigError: Java or Maven is missing, or a port is taken.
            MailstreamError: The local broker did not come up.
        """
        if self._configured is not None:
            self._console.fact(NAME, self._configured)
            return self._configured
        if self._kafka.status().running:
            self._bootstrap = await self._adopt()
        else:
            self._bootstrap = await self._launch()
            self._console.fact(
                NAME, f"{self._bootstrap} (local; its data is in {self._kafka.folder})"
            )
        return self._bootstrap

    async def watch(self) -> None:
        """Start the local broker again whenever it has died; never returns."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._configured is not None or self._kafka.status().running:
                continue
            self._console.warn("the local Kafka broker died: starting it again")
            await self._revive()

    async def stop(self) -> None:
        """Stop the local broker, if it is ours to stop."""
        if self._starting is not None:
            with contextlib.suppress(MailstreamError):
                await asyncio.shield(self._starting)
        if self._ours:
            await asyncio.to_thread(self._kafka.stop)

    def kill(self) -> None:
        """End the local broker at once; its log recovers at the next start."""
        pid = self._kafka.status().pid
        if pid is not None and self._ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        elif self._starting is not None and not self._starting.done():
            os._exit(1)  # its thread cannot be interrupted while jars are fetched

    async def _adopt(self) -> str:
        """Use the broker that runs on our folder already."""
        pid = self._kafka.status().pid
        self._ours = pid is not None and pid == self._inherited
        async with asyncio.timeout(ANSWER_S):
            while (bootstrap := running_bootstrap(self._data_dir)) is None:
                if not self._kafka.status().running:
                    return await self._launch()
                await asyncio.sleep(0.1)
        if self._ours:
            told = "left running by an earlier run: used again"
        else:
            told = "was running already: used, and left running at the end"
        self._console.fact(NAME, f"{bootstrap} (local; {told})")
        self._write_down()
        return bootstrap

    async def _launch(self) -> str:
        self._ours = True
        self._starting = asyncio.create_task(asyncio.to_thread(self._kafka.start))
        # to_thread goes on when cancelled, and stop() must wait for it: hence the shield
        bootstrap = await asyncio.shield(self._starting)
        self._write_down()
        return bootstrap

    def _write_down(self) -> None:
        pid = self._kafka.status().pid
        if pid is not None and self._ours:
            self._supervisor.adopt(NAME, pid)

    async def _revive(self) -> None:
        wait = 0.5
        while True:
            try:
                bootstrap = await self._launch()
            except MailstreamError as exc:
                self._console.warn(f"{exc}; trying again in {wait:.1f} s")
                await asyncio.sleep(wait)
                wait = min(LONGEST_WAIT_S, 2 * wait)
                continue
            self._console.say(f"the local Kafka broker is back at {bootstrap}")
            if bootstrap != self._bootstrap:
                self._bootstrap = bootstrap
                self._supervisor.restart()
            return
