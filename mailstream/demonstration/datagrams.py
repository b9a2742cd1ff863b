"""Simulated logins, sent as GELF over UDP as WildDuck sends them."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Iterable
from typing import Final

import httpx
import orjson

from mailstream.run import Running
from mailstream.running.watch import ANY_ADDRESS
from mailstream.simulation.logins import SimulatedLogin
from pipeline.kit.clock import Clock
from pipeline.kit.listen import is_allowed
from pipeline.kit.settings import Settings
from pipeline.kit.values import Address

TICK_MS: Final = 100
"""How long logins are gathered: a datagram may be sent so much later than it says."""
GELF: Final = "gelf"
_AGAIN_S: Final = 0.5
_THIS_MACHINE: Final = "127.0.0.1"


def takes_logins(settings: Settings) -> bool:
    """Tell whether an installation takes datagrams from this machine."""
    gelf = settings.gelf
    return gelf.udp is not None and (not gelf.allow or is_allowed(gelf.allow, _THIS_MACHINE))


class LoginSender:
    """Sends messages when they are due; nobody acknowledges a datagram."""

    def __init__(self, running: Running, clock: Clock) -> None:
        """Send to the GELF service of *running*."""
        self._running = running
        self._clock = clock
        self._line: socket.socket | None = None
        self.sent = 0

    async def send_all(self, logins: Iterable[SimulatedLogin]) -> None:
        """Send *logins*, each not before its time."""
        try:
            due: list[bytes] = []
            begun_ms = newest_ms = self._clock.now_ms()
            for login in logins:
                if due and login.at_ms - begun_ms >= TICK_MS:
                    await self._flush(due, newest_ms)
                if not due:
                    begun_ms = login.at_ms
                due.append(zlib.compress(orjson.dumps(login.message), 1))
                newest_ms = login.at_ms
            if due:
                await self._flush(due, newest_ms)
        finally:
            self._hang_up()

    async def _flush(self, due: list[bytes], newest_ms: int) -> None:
        await self._clock.sleep(max(0, newest_ms - self._clock.now_ms()) / 1000)
        for datagram in due:
            while not await self._send(datagram):
                await self._clock.sleep(_AGAIN_S)
            self.sent += 1
        due.clear()

    async def _send(self, datagram: bytes) -> bool:
        """Tell whether a datagram could be sent: the service may be restarting, elsewhere too."""
        try:
            if self._line is None:
                address = await self._address()
                if address is None:
                    return False
                self._line = await _connected(address)
            self._line.send(datagram)
        except OSError:  # what the network answered to the datagram before, or no room
            self._hang_up()
            return False
        return True

    async def _address(self) -> Address | None:
        """Return where datagrams are taken now: as configured, or the free port that was found."""
        configured = self._running.settings.gelf.udp
        assert configured is not None, "logins are sent only where they are taken"
        found = configured
        if not configured.port:
            url = self._running.producer_url(GELF)
            if url is None:
                return None
            try:
                answer = await self._running.probe.client.get(f"{url}/health")
                found = Address.parse(answer.json()["udp"])
            except (httpx.HTTPError, ValueError, KeyError):
                return None
        return Address(ANY_ADDRESS.get(found.host, found.host), found.port)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


async def _connected(address: Address) -> socket.socket:
    """Return a socket that hears when nobody takes its datagrams.

    Raises:
        OSError: The address is none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, where = found[0]
    line = socket.socket(family, kind, protocol)
    line.setblocking(False)
    line.connect(where)
    return line
