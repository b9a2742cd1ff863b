"""One IMAP connection of a leg: its blocking steps run in threads, each with a hard end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self, TypeVar

from producers.sources.probe.accounts import Account, ImapAccount
from producers.sources.probe.attempt import Course, Phase
from producers.sources.probe.box import Box
from producers.sources.probe.imap_client import Client
from producers.sources.probe.imap_failures import FAULTS, broken
from producers.sources.probe.means import LegFailed, Means, addresses, connected, timed
from producers.sources.probe.tls import context_of, days_left, refused_is_read

T = TypeVar("T")
_BYE_S: Final = 1.0
_CUT_S: Final = 5.0


class Mailbox:
    """A connection; every method raises :class:`LegFailed` when the server or the network does."""

    def __init__(self, account: Account, key: bytes, course: Course, means: Means) -> None:
        """Take whose mailbox it is, the key of our tokens, and what to fill."""
        assert account.imap is not None
        self._account = account
        self._imap: ImapAccount = account.imap
        self._key = key
        self._course = course
        self._means = means
        self._sock: socket.socket | None = None
        self._client: Client | None = None
        self._box: Box | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None and self._client is not None:
            with contextlib.suppress(LegFailed):
                await self._in_thread(Phase.VERIFY, self._client.logout, _BYE_S)
        self._close()

    async def do(self, phase: Phase, step: Callable[[Box], T]) -> T:
        """Return what *step* returns, which runs in a thread and belongs to *phase*."""
        box = self._box
        assert box is not None
        return await self._in_thread(phase, lambda: step(box))

    async def news(self, wait_s: float) -> None:
        """Return when the server says that something has come, or after *wait_s*."""
        box = self._box
        assert box is not None
        come = await self.do(Phase.FOUND, Box.wait_here) if box.idles else None
        if come is None:
            await self._means.clock.sleep(wait_s)
            return
        if not come:
            await self._readable(wait_s)
        await self.do(Phase.FOUND, Box.wait_no_more)

    async def _open(self) -> None:
        imap = self._imap
        found = await addresses(imap.host, Phase.IMAP_DNS, self._course, self._means)
        context = self._context(verify=imap.verify) if imap.ssl or imap.starttls else None
        async with refused_is_read(self._course, lambda spare: self._read_dates(found, spare)):
            await self._connect(found, context)
        client = self._client
        assert client is not None
        with self._phase(Phase.IMAP_AUTH):
            await self._in_thread(
                Phase.IMAP_AUTH, lambda: client.log_in(imap.username, imap.password)
            )
        self._box = await self._in_thread(
            Phase.FOUND, lambda: Box(client, imap.folder, imap.extra_folders, self._key)
        )

    async def _connect(self, found: list[str], context: ssl.SSLContext | None) -> None:
        imap = self._imap
        with self._phase(Phase.IMAP_CONNECT):
            try:
                sock = await connected(found, imap.port, timeout_s=imap.timeout_s)
            except OSError as exc:
                raise broken(Phase.IMAP_CONNECT, exc, self._account) from exc
            sock.setblocking(True)
            sock.settimeout(imap.timeout_s)
            self._sock = sock
            if not imap.ssl:
                self._client = await self._in_thread(
                    Phase.IMAP_CONNECT, lambda: Client(sock, imap.host, imap.port, imap.timeout_s)
                )
        if context is not None:
            with self._phase(Phase.IMAP_TLS):
                await self._begin_tls(sock, context)

    async def _begin_tls(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        imap, client = self._imap, self._client
        if client is not None:
            await self._in_thread(Phase.IMAP_TLS, client.ask_for_tls)
        # The handshake comes later: from here on the socket is the new one's, and so is cutting it.
        tls = context.wrap_socket(sock, server_hostname=imap.host, do_handshake_on_connect=False)
        self._sock = tls
        await self._in_thread(Phase.IMAP_TLS, tls.do_handshake)
        days = days_left(tls.getpeercert(binary_form=True), self._means.clock.now_ms())
        if days is not None:
            self._course.certificate_days["imap"] = days
        if client is not None:
            await self._in_thread(Phase.IMAP_TLS, lambda: client.begin_tls(tls))
        else:
            self._client = await self._in_thread(
                Phase.IMAP_TLS, lambda: Client(tls, imap.host, imap.port, imap.timeout_s)
            )

    async def _read_dates(self, found: list[str], course: Course) -> None:
        spare = Mailbox(self._account, self._key, course, self._means)
        try:
            await spare._connect(found, self._context(verify=False))
        finally:
            spare._close()

    def _context(self, *, verify: bool) -> ssl.SSLContext:
        return context_of(self._account, self._imap, Phase.IMAP_TLS, verify=verify)

    @contextlib.contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        with timed(self._course, phase, self._means.clock):
            yield

    async def _in_thread(
        self, phase: Phase, step: Callable[[], T], timeout_s: float | None = None
    ) -> T:
        """Run a blocking step; when its time is up the socket is cut, which ends the step."""
        job = self._means.executor.submit(step)
        future = asyncio.wrap_future(job)
        try:
            async with asyncio.timeout(timeout_s or self._imap.timeout_s):
                return await asyncio.shield(future)
        except FAULTS as exc:
            raise broken(phase, exc, self._account) from exc
        finally:
            if not future.done() and not job.cancel():
                self._cut()
                await asyncio.wait({future}, timeout=_CUT_S)
            if future.done() and not future.cancelled():
                future.exception()  # it is told already, or nobody waits for it

    async def _readable(self, wait_s: float) -> None:
        """Wait for bytes from the server, without a thread."""
        assert self._sock is not None
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._sock.fileno(), arrived.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await arrived.wait()
        finally:
            loop.remove_reader(self._sock.fileno())

    def _cut(self) -> None:
        """End the connection at once; a thread that reads from it gets an end of file."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        """Give the socket back, once no thread uses it any more."""
        self._cut()
        if self._client is not None:
            with contextlib.suppress(*FAULTS):
                self._client.shutdown()
        if self._sock is not None:
            self._sock.close()
        self._sock = self._client = self._box = None
