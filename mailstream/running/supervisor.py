"""Keeping processes alive: each part in a session of its own, restarted when it dies, stopped in order.

Which processes were started is written to ``<data_dir>/run/parts``, so that a run after a
``kill -9`` of this one can find what was left behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailstream.processes import SUPERVISOR, identity
from mailstream.running.console import Console
from mailstream.running.part_log import PartLog
from pipeline.core.errors import ConfigError

STOP_S: Final = 30.0
"""A part that is still there this long after SIGTERM is killed: nothing it acknowledged is lost."""
ORPHAN_S: Final = 20.0
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 10.0
STEADY_S: Final = 60.0
"""A part that lived this long failed anew, not again."""
WRONG_CONFIG: Final = 2
"""Exit status of a part whose configuration is unusable: trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the installation."""

    name: str
    command: tuple[str, ...]

    @classmethod
    def of_program(cls, name: str, *arguments: str) -> Part:
        """Return the part that is ``mailstream`` with *arguments*."""
        return cls(name, (sys.executable, "-m", "mailstream", *arguments))


class _Kept:
    """A part and its present process."""

    def __init__(self, part: Part, log: PartLog) -> None:
        self.part = part
        self.log = log
        self.stopping = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        running = self.process is not None and self.process.returncode is None
        return self.process.pid if running and self.process is not None else None

    def signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Supervisor:
    """The parts of one ``mailstream run``."""

    def __init__(self, data_dir: Path, console: Console) -> None:
        """Keep logs and records in *data_dir*; nothing is started."""
        self._data_dir = data_dir
        self._console = console
        self._kept: dict[str, _Kept] = {}
        self._others: dict[str, int] = {}
        self.refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Set when a part's first process finds its configuration unusable: why."""

    @property
    def has_parts(self) -> bool:
        """Tell whether anything was started."""
        return bool(self._kept)

    def start(self, part: Part) -> None:
        """Start *part* and keep it alive until :meth:`stop`."""
        kept = _Kept(part, PartLog(self._data_dir / "log" / f"{part.name}.log"))
        self._kept[part.name] = kept
        kept.task = asyncio.create_task(self._keep(kept), name=part.name)

    def pid(self, name: str) -> int | None:
        """Return the process id of the part called *name* while it runs."""
        return self._kept[name].pid

    def adopt(self, name: str, pid: int) -> None:
        """Write down a process that someone else starts and stops for us."""
        self._others[name] = pid
        self._record()

    def restart(self) -> None:
        """Have every part end in order and start again."""
        for kept in self._kept.values():
            kept.signal(signal.SIGTERM)

    def surface(self) -> None:
        """Tell what parts have warned of since the last call, and bound their logs."""
        for name, kept in self._kept.items():
            for line in kept.log.important():
                self._console.warn(f"{name}: {line}")
            kept.log.trim()

    async def stop(self, names: Iterable[str], within_s: float = STOP_S) -> None:
        """End the parts called *names* together; kill what does not end *within_s* seconds."""
        stopped = [kept for name in names if (kept := self._kept.get(name)) is not None]
        for kept in stopped:
            kept.stopping.set()
            kept.signal(signal.SIGTERM)
        tasks = {kept.task for kept in stopped if kept.task is not None}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=within_s)
        for kept in stopped:
            if kept.task in late:
                self._console.warn(f"{kept.part.name} did not stop within {within_s:.0f} s: killed")
                kept.signal(signal.SIGKILL)
        await asyncio.gather(*tasks)

    def kill(self) -> None:
        """End every part at once."""
        for kept in self._kept.values():
            kept.stopping.set()
            kept.signal(signal.SIGKILL)

    async def _keep(self, kept: _Kept) -> None:
        failures = 0
        while not kept.stopping.is_set():
            begun = time.monotonic()
            try:
                code = await self._run(kept)
                why = _why(code, kept.log)
            except OSError as exc:  # no memory or no process left: that may pass
                code, why = 1, f"could not be started ({exc.strerror})"
            lived = time.monotonic() - begun
            if kept.stopping.is_set():
                return
            if code == WRONG_CONFIG and not self.refused.done() and failures == 0:
                self.refused.set_result(f"{kept.part.name}: {kept.log.last_words()}")
            failures = 1 if lived > STEADY_S else failures + 1
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures - 1, 10))
            self._console.warn(
                f"{kept.part.name} {why} after {lived:.0f} s; starting it again in "
                f"{wait:.1f} s (see {kept.log.path})"
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(kept.stopping.wait(), wait)

    async def _run(self, kept: _Kept) -> int:
        with kept.log.open() as output:
            kept.process = await asyncio.create_subprocess_exec(
                *kept.part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, SUPERVISOR: str(os.getpid())},
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor alone
            )
        self._record()
        if kept.stopping.is_set():
            kept.signal(signal.SIGTERM)
        return await kept.process.wait()

    def _record(self) -> None:
        alive = {name: kept.pid for name, kept in self._kept.items()} | self._others
        identities = {name: [pid, identity(pid)] for name, pid in alive.items() if pid is not None}
        path = _record_path(self._data_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".new")
        partial.write_text(json.dumps(identities))
        partial.replace(path)


def left_behind(data_dir: Path) -> dict[str, int]:
    """Return the process ids of parts that a run on *data_dir* started and that still live."""
    try:
        record = json.loads(_record_path(data_dir).read_text())
        parts = {str(name): (int(pid), str(known)) for name, (pid, known) in record.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {name: pid for name, (pid, known) in parts.items() if identity(pid) == known}


async def stop_left_behind(parts: dict[str, int]) -> None:
    """End *parts* of an earlier run, in order if they can, else by force.

    Raises:
        ConfigError: One of them belongs to another user.
    """
    known = {pid: identity(pid) for pid in parts.values()}
    for number, seconds in ((signal.SIGTERM, ORPHAN_S), (signal.SIGKILL, ORPHAN_S)):
        deadline = time.monotonic() + seconds
        alive = {pid for pid, one in known.items() if one is not None and identity(pid) == one}
        for pid in alive:
            _signal(pid, number)
        while alive and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            alive = {pid for pid in alive if identity(pid) == known[pid]}
        if not alive:
            return


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as exc:
        raise ConfigError(
            [f"process {pid} of an earlier run belongs to another user: stop it first"]
        ) from exc


def _record_path(data_dir: Path) -> Path:
    return data_dir / "run" / "parts"


def _why(code: int, log: PartLog) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    if code == 0:
        return "ended although nobody asked it to"
    return f"ended with status {code} ({log.last_words()})"
