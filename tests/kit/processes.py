"""Real processes of the product, started, frozen and killed by tests.

Nothing here sleeps for luck: everything waits for a condition, within a deadline.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
"""Where modules are found, of the product and of the tests."""

POLL_S = 0.05
START_S = 60.0

ANY_GELF = {"listen": "127.0.0.1:0", "udp": "127.0.0.1:0", "tcp": "127.0.0.1:0"}
"""The section ``gelf`` of a configuration that takes any free ports."""
STOP_S = 40.0

# Its standard input is a pipe that only the tests hold open: when they end, even by SIGKILL, so
# do the processes that they started.
_WATCH = 'cat >/dev/null; kill -KILL "$1" 2>/dev/null'


def wait_until(
    condition: Callable[[], T | None], what: str, *, within_s: float, every_s: float = POLL_S
) -> T:
    """Return what *condition* returns once that is true.

    Raises:
        TimeoutError: It was not within *within_s*.
    """
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        time.sleep(every_s)
    return result


def fetch(url: str, *, timeout_s: float = 10.0) -> tuple[int, str] | None:
    """Return status and text of a GET, or None where nobody answers in time."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except (OSError, ValueError):
        return None


class Watch:
    """Kills a process when the tests end, however they end."""

    def __init__(self, pid: int) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", _WATCH, "watch", str(pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    def end(self) -> None:
        """Let the process be."""
        self._process.kill()
        self._process.communicate()


class Program:
    """One process; what it says goes to a file."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        self._said = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: Watch | None = None

    @property
    def pid(self) -> int:
        """Return the id of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def frozen(self) -> bool:
        """Tell whether its time stands still."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def start(self) -> None:
        """Start the process."""
        assert not self.running
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )
        self._watch = Watch(self.pid)

    def kill(self) -> None:
        """End it at once, with nothing tidied up (SIGKILL)."""
        self._signal(signal.SIGKILL)
        self._wait(STOP_S)

    def freeze(self) -> None:
        """Stop its time (SIGSTOP): to others it looks dead, to itself nothing happens."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its time go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Ask it to end in order (SIGTERM) without waiting."""
        self._signal(signal.SIGTERM)

    def stop(self, *, within_s: float = STOP_S) -> int:
        """End it in order and return its exit code.

        Raises:
            TimeoutError: It did not end; then it is killed.
        """
        self.ask_to_stop()
        try:
            return self._wait(within_s)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            raise TimeoutError(f"{self.name} did not stop:\n{self.said()}") from exc

    def end(self) -> None:
        """End it however it is, when a test is over."""
        if self.running:
            self._signal(signal.SIGKILL)
        if self._process is not None:
            self._wait(STOP_S)

    def said(self, most: int = 4000) -> str:
        """Return the end of what it wrote."""
        return self._said.read_text(errors="replace")[-most:] if self._said.exists() else ""

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process has used, its own and the kernel's for it."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """Return the most memory that it ever had resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def _signal(self, number: signal.Signals) -> None:
        assert self.running, f"{self.name} is not running:\n{self.said()}"
        os.kill(self.pid, number)

    def _wait(self, within_s: float) -> int:
        assert self._process is not None
        code = self._process.wait(within_s)
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        return code


class Service(Program):
    """A process of the product that announces where it listens."""

    def __init__(self, name: str, command: Sequence[str | Path], data_dir: Path) -> None:
        super().__init__(name, command, data_dir)
        self._announced = data_dir / "run" / f"{name}.json"

    def address(self) -> str | None:
        """Return ``host:port`` as announced by this very process, or None before that."""
        try:
            told = json.loads(self._announced.read_text())
        except (OSError, ValueError):
            return None
        return str(told["address"]) if told["pid"] == self.pid else None

    def get(self, path: str, *, timeout_s: float = 10.0) -> tuple[int, str] | None:
        """Return status and text of a GET, or None where nobody answers in time."""
        address = self.address()
        return fetch(f"http://{address}{path}", timeout_s=timeout_s) if address else None

    def answers(self, path: str) -> bool:
        """Tell whether a GET of *path* is answered with 200."""
        assert self.running, f"{self.name} ended:\n{self.said()}"
        answer = self.get(path)
        return answer is not None and answer[0] == 200

    def wait_for(self, path: str, *, within_s: float = START_S) -> None:
        """Wait until a GET of *path* is answered with 200."""
        try:
            wait_until(lambda: self.answers(path), f"{self.name} answers {path}", within_s=within_s)
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}\n{self.said()}") from exc


def mailstream(*arguments: str | Path) -> list[str | Path]:
    """Return the command line of the product's own program."""
    return [sys.executable, "-m", "mailstream", *arguments]


class Worker(Service):
    """One ``mailstream worker``."""

    def __init__(
        self, name: str, config: Path, data_dir: Path, instead: Sequence[str] = ()
    ) -> None:
        """Describe a worker.

        Args:
            name: ``worker-1`` and so on.
            config: Its configuration.
            data_dir: As configured.
            instead: Module and arguments of a program that stands in for ours, and bends it.
        """
        options: list[str | Path] = ["--config", config, "--name", name, "--listen", "127.0.0.1:0"]
        ours = "mailstream", "worker"
        command = [sys.executable, "-m", *(instead or ours), *options]
        super().__init__(name, command, data_dir)

    def ready(self) -> bool:
        """Tell whether all its partitions are open and folded."""
        return self.answers("/ready")

    def metrics(self) -> str | None:
        """Return its page, or None if it does not answer."""
        answer = self.get("/metrics", timeout_s=30.0)
        return answer[1] if answer is not None and answer[0] == 200 else None


class Ingest(Service):
    """One ``mailstream produce ingest``."""

    def __init__(self, config: Path, data_dir: Path) -> None:
        super().__init__("ingest", mailstream("produce", "ingest", "--config", config), data_dir)


class Receiver(Service):
    """A producer that takes messages on sockets and has its own ``/metrics`` and ``/health``."""

    def __init__(self, name: str, config: Path, data_dir: Path) -> None:
        super().__init__(name, mailstream("produce", name, "--config", config), data_dir)

    def health(self) -> dict[str, Any]:
        """Return what it says about itself, its ports too."""
        answer = self.get("/health")
        found: dict[str, Any] = json.loads(answer[1]) if answer is not None else {}
        return found

    def wait_until_listening(self) -> None:
        """Wait until it takes datagrams; Kafka may be away."""
        wait_until(lambda: self.port("udp"), f"{self.name} takes datagrams", within_s=START_S)

    def port(self, name: str) -> int:
        """Return the port of ``udp`` or ``tcp``, or 0 before it is open."""
        assert self.running, f"{self.name} ended:\n{self.said()}"
        return int(self.health().get(name, ":0").rpartition(":")[2])

    def value(self, metric: str, **labels: str) -> float:
        """Return the sum of a metric over the series with these labels."""
        answer = self.get("/metrics")
        total = 0.0
        for line in (answer[1] if answer is not None else "").splitlines():
            name, _, rest = line.partition("{" if "{" in line else " ")
            if name == metric and all(f'{key}="{value}"' in rest for key, value in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total


class Gelf(Receiver):
    """One ``mailstream produce gelf``."""

    def __init__(self, config: Path, data_dir: Path) -> None:
        super().__init__("gelf", config, data_dir)

    def wait_until_listening(self) -> None:
        """Wait until it takes datagrams and connections; Kafka may be away."""
        wait_until(lambda: self.port("udp") and self.port("tcp"), "GELF is taken", within_s=START_S)


class LogRemote(Receiver):
    """One ``mailstream produce log-remote``."""

    def __init__(self, config: Path, data_dir: Path) -> None:
        super().__init__("log-remote", config, data_dir)
