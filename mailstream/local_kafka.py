"""The local broker: Apache Kafka in KRaft mode, one node, with its log in the data folder.

The broker is a process of its own session that outlives whoever started it.  It inherits a
locked file, so "a broker runs on this folder" is true exactly as long as it lives, whatever was
killed; a record beside it tells its address and which process it is.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from mailstream.kafka import config as kafka_config
from mailstream.kafka.jars import POM, jars, java
from mailstream.ports import free_port, is_free
from mailstream.processes import identity
from pipeline.core.errors import ConfigError, MailstreamError

HOST: Final = "127.0.0.1"
PORT: Final = 9092
START_S: Final = 60.0
STOP_S: Final = 30.0
"""A broker that is still there this long after SIGTERM is killed; its log recovers at the start."""
LOW_DISK: Final = 0.10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of the broker of one data folder."""

    running: bool
    bootstrap: str | None
    """Where it listens, or listened last."""
    pid: int | None
    folder: Path
    log: Path


@dataclass(frozen=True, slots=True)
class _Record:
    """``<data_dir>/kafka/broker.json``; kept after the end for the port."""

    pid: int
    identity: str
    bootstrap: str

    @property
    def alive(self) -> bool:
        return bool(self.identity) and identity(self.pid) == self.identity


class LocalKafka:
    """The broker of one data folder."""

    def __init__(
        self, data_dir: Path, *, port: int | None = None, heap: str = "1g", pom: Path = POM
    ) -> None:
        """Name the broker; nothing is started.

        Args:
            data_dir: Its files go to ``<data_dir>/kafka``.
            port: Exactly this one; None prefers the one it had, then 9092, then any free one;
                0 prefers the one it had, then any free one.
            heap: The JVM's ``-Xmx``.
            pom: What to run.
        """
        self.folder = data_dir.resolve() / "kafka"
        self._port = port
        self._heap = heap
        self._pom = pom
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start the broker, wait until it answers, and return its bootstrap address.

        Raises:
            ConfigError: One runs on this folder already, the port is taken, or Java or Maven
                is missing.
            MailstreamError: It ended or did not answer while starting.
        """
        program = java()
        class_path = f"{jars(self._pom, java_program=program)}/*"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError([f"cannot use {self.folder}: {exc.strerror}"]) from exc
        with _lock(self.folder) as lock, ExitStack() as undo:
            _warn_of_low_disk(self.folder)
            port = self._choose_port()
            kafka_config.write(self.folder, host=HOST, port=port, controller_port=free_port(HOST))
            self._format(program, class_path)
            self._spawn(program, class_path, lock)
            undo.callback(self._end)
            bootstrap = f"{HOST}:{port}"
            self._record(bootstrap)
            self._await_answer(port)
            undo.pop_all()
        log.info("The local Kafka broker is up", extra={"bootstrap": bootstrap})
        return bootstrap

    def stop(self) -> bool:
        """End the broker in order and wait for it; return False if none was running."""
        record = _read(self.folder)
        if record is None or not record.alive:
            self._reap()
            return False
        _signal(record, signal.SIGTERM)
        if not _await_end(record, STOP_S):
            log.warning(
                "The local Kafka broker does not end: killing it", extra={"pid": record.pid}
            )
            _signal(record, signal.SIGKILL)
            _await_end(record, STOP_S)
        self._reap()
        return True

    def status(self) -> Status:
        """Return what is known of the broker, without changing anything."""
        record = _read(self.folder)
        alive = record is not None and record.alive
        return Status(
            running=alive,
            bootstrap=record.bootstrap if record else None,
            pid=record.pid if record and alive else None,
            folder=self.folder,
            log=kafka_config.server_log(self.folder),
        )

    def _choose_port(self) -> int:
        if self._port:
            if is_free(HOST, self._port):
                return self._port
            raise ConfigError([f"port {self._port} of {HOST} is taken: the broker cannot use it"])
        record = _read(self.folder)
        # The same address after a restart lets clients that stayed alive find the broker again.
        wanted = [int(record.bootstrap.rpartition(":")[2])] if record else []
        if self._port is None:
            wanted.append(PORT)
        return next((port for port in wanted if is_free(HOST, port)), 0) or free_port(HOST)

    def _format(self, program: Path, class_path: str) -> None:
        """Give the log folder its identity, once; data that is there is never touched."""
        if kafka_config.is_formatted(self.folder):
            return
        # A leading "-" would be read as an option.
        cluster_id = "M" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        command: list[str | Path] = [program, "-Xmx128m", *_logging(self.folder), "-cp", class_path]
        command += ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["-t", cluster_id, "-c", kafka_config.properties(self.folder)]
        answer = subprocess.run(  # noqa: S603  a fixed command, without a shell
            command, capture_output=True, text=True, check=False, start_new_session=True
        )
        if answer.returncode != 0:
            said = (answer.stderr or answer.stdout).strip().splitlines() or ["it said nothing"]
            raise MailstreamError(f"cannot format the log folder of Kafka: {said[-1]}")

    def _spawn(self, program: Path, class_path: str, lock: IO[str]) -> None:
        command: list[str | Path] = [program, f"-Xmx{self._heap}", "-XX:+ExitOnOutOfMemoryError"]
        command += [*_logging(self.folder), "-cp", class_path]
        command += ["kafka.Kafka", kafka_config.properties(self.folder)]
        with kafka_config.output(self.folder).open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  a fixed command, without a shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C in the terminal is for our supervisor alone
                pass_fds=(lock.fileno(),),
            )

    def _record(self, bootstrap: str) -> None:
        assert self._process is not None
        pid = self._process.pid
        record = _Record(pid, identity(pid) or "", bootstrap)
        partial = self.folder / "broker.json.new"
        partial.write_text(json.dumps(asdict(record)))
        partial.rename(self.folder / "broker.json")

    def _await_answer(self, port: int) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if (code := self._process.poll()) is not None:
                raise MailstreamError(
                    f"the local Kafka broker ended while starting (exit {code}): "
                    f"{kafka_config.last_words(self.folder)}"
                )
            if time.monotonic() > deadline:
                raise MailstreamError(
                    f"the local Kafka broker did not answer within {START_S:.0f} s: "
                    f"see {kafka_config.server_log(self.folder)}"
                )
            time.sleep(0.05)

    def _end(self) -> None:
        """End a broker that did not come up."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None


def running_bootstrap(data_dir: Path) -> str | None:
    """Return the address of the live broker of *data_dir*, or None."""
    record = _read(data_dir.resolve() / "kafka")
    if record is None or not record.alive:
        return None
    port = int(record.bootstrap.rpartition(":")[2])
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return record.bootstrap
    return None


def low_disk(folder: Path) -> float | None:
    """Return the free share of *folder*'s disk if it is below 10 %, else None."""
    usage = shutil.disk_usage(folder)
    share = usage.free / usage.total
    return share if share < LOW_DISK else None


def _warn_of_low_disk(folder: Path) -> None:
    share = low_disk(folder)
    if share is not None:
        log.warning(
            "The disk under the data folder is nearly full: Kafka stops when it is",
            extra={"folder": str(folder), "free_percent": round(100 * share, 1)},
        )


def _read(folder: Path) -> _Record | None:
    try:
        record = json.loads((folder / "broker.json").read_text())
        return _Record(int(record["pid"]), str(record["identity"]), str(record["bootstrap"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _signal(record: _Record, number: signal.Signals) -> None:
    if record.alive:
        with suppress(ProcessLookupError):
            os.kill(record.pid, number)


def _await_end(record: _Record, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while record.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def _lock(folder: Path) -> Iterator[IO[str]]:
    """Hold the folder's lock while starting; the broker inherits and keeps it.

    Raises:
        ConfigError: Another broker runs, or another process is starting one.
    """
    deadline = time.monotonic() + 3.0
    with (folder / "lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                record = _read(folder)
                if record is not None and record.alive:
                    mistake = (
                        f"a Kafka broker runs on {folder} already: process {record.pid} "
                        f"at {record.bootstrap}"
                    )
                    raise ConfigError([mistake]) from exc
                # A killed broker's memory takes a moment to be freed, and its lock with it.
                if time.monotonic() > deadline:
                    raise ConfigError(
                        [f"another process is starting a Kafka broker on {folder}"]
                    ) from exc
                time.sleep(0.05)
        yield file


def _answers(port: int) -> bool:
    """Return whether a broker answers an ApiVersions request (Kafka protocol, version 0).

    The port alone is no sign: Kafka listens long before it serves.
    """
    client = b"mailstream"
    request = struct.pack(f">hhih{len(client)}s", 18, 0, 1, len(client), client)
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.recv(10, socket.MSG_WAITALL)
        return len(answer) == 10 and struct.unpack(">iih", answer)[1:] == (1, 0)
    return False


def _logging(folder: Path) -> list[str]:
    return [f"-Dlog4j2.configurationFile={kafka_config.log4j(folder)}"]
