"""Redis, and FerretDB in place of MongoDB: what a ZoneMTA keeps its queue in."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from mailstream.ports import free_port
from tests.kit.processes import ROOT, Program, wait_until
from tests.kit.programs import program

MTAS: Final = ROOT / ".cache" / "mtas"
"""What ``.ci/get-mtas`` built."""

START_S: Final = 60.0


class Stores(NamedTuple):
    """Where they listen, on 127.0.0.1."""

    redis: int
    mongodb: int


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def greets(port: int) -> bool:
    """Tell whether an SMTP server there takes a client."""
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=10):
            return True
    except (OSError, smtplib.SMTPException):
        return False


def wait_until_greets(program: Program, *ports: int) -> None:
    """Wait until *program* takes SMTP clients on all *ports*."""

    def ready() -> bool:
        assert program.running, f"{program.name} ended:\n{program.said()}"
        return all(greets(port) for port in ports)

    wait_until(ready, f"{program.name} takes mail", within_s=START_S)


def wait_until_listens(program: Program, *ports: int) -> None:
    """Wait until *program* listens on all *ports*."""

    def ready() -> bool:
        assert program.running, f"{program.name} ended:\n{program.said()}"
        return all(listens(port) for port in ports)

    wait_until(ready, f"{program.name} listens", within_s=START_S)


@contextmanager
def stores(folder: Path) -> Iterator[Stores]:
    """Yield both, empty."""
    redis, mongodb = free_port("127.0.0.1"), free_port("127.0.0.1")
    with ExitStack() as stack:
        for program, port in (
            (Program("redis", _redis(redis), folder), redis),
            (Program("ferretdb", _ferretdb(mongodb, folder), folder), mongodb),
        ):
            stack.callback(program.end)
            program.start()
            wait_until_listens(program, port)
        yield Stores(redis, mongodb)


def _redis(port: int) -> Sequence[str | Path]:
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return [program("redis-server"), *options]


def _ferretdb(port: int, folder: Path) -> Sequence[str | Path]:
    files = folder / "ferretdb"
    files.mkdir()
    return [
        MTAS / "ferretdb",
        "--handler=sqlite",
        f"--sqlite-url=file:{files}/",
        f"--listen-addr=127.0.0.1:{port}",
        "--debug-addr=-",
        f"--state-dir={files}",
        "--telemetry=disable",
    ]
