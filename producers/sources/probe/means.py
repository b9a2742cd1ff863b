"""What both legs work with: the clock, the look-up of names, threads; and how phases are timed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

from pipeline.kit.clock import Clock, SystemClock
from producers.sources.probe.attempt import Course, ErrorClass, Failure, Phase
from producers.sources.probe.names import NameFailure, Names

_MOST_TEXT: Final = 300
_NOT_TEXT: Final = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Means:
    """What the legs of all routes share."""

    executor: Executor
    """For IMAP.  A leg uses one thread at a time, and none while it waits for mail: with as many
    threads as routes that run side by side, nobody waits for another's server."""
    names: Names = field(default_factory=Names)
    clock: Clock = field(default_factory=SystemClock)


class LegFailed(Exception):  # noqa: N818  it carries a Failure, which is what others see
    """A phase failed."""

    def __init__(self, failure: Failure, *, again: bool = False, uncertain: bool = False) -> None:
        """Take what failed, whether to try again, and whether the mail may be on its way."""
        super().__init__(failure.text)
        self.failure = failure
        self.again = again
        self.uncertain = uncertain


@contextlib.contextmanager
def timed(course: Course, phase: Phase, clock: Clock) -> Iterator[None]:
    """Note how long a phase took, however it ended."""
    course.running = phase
    tell(course)
    begun = clock.monotonic()
    try:
        yield
    finally:
        course.phases_ms[phase] = (clock.monotonic() - begun) * 1000
        course.running = None
        tell(course)


def tell(course: Course) -> None:
    """Say that a course has changed."""
    if course.on_change is not None:
        course.on_change(course)


def one_line(text: str, secrets: Iterable[str] = ()) -> str:
    """Return *text* as one printable line of bounded length without *secrets*."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _NOT_TEXT.sub(" ", text).strip()[:_MOST_TEXT]


async def addresses(host: str, phase: Phase, course: Course, means: Means) -> list[str]:
    """Return the addresses of a server, as a phase of a leg."""
    with timed(course, phase, means.clock):
        try:
            return await means.names.addresses(host)
        except NameFailure as exc:
            raise LegFailed(Failure(phase, ErrorClass.DNS, one_line(str(exc)))) from exc


async def connected(
    addresses: list[str], port: int, *, timeout_s: float, source: str | None = None
) -> socket.socket:
    """Return a socket that is connected to the first of *addresses* that answers.

    Raises:
        TimeoutError: None did within *timeout_s*.
        OSError: All refused.
    """
    loop = asyncio.get_running_loop()
    refused: OSError | None = None
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            # imapclient writes the end of a line by itself: that must not wait for the server's ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source is not None:
                sock.bind((source, 0))
            # A share each: one address that swallows everything leaves time for the others.
            async with asyncio.timeout(timeout_s / len(addresses)):
                await loop.sock_connect(sock, (address, port))
        except OSError as exc:  # a time-out is one, too
            sock.close()
            refused = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise refused or OSError("there is no address to connect to")
