"""One connection to an SMTP server, taken through its phases one by one."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self, cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from producers.sources.probe.accounts import Account, SmtpAccount
from producers.sources.probe.attempt import Course, Phase
from producers.sources.probe.means import LegFailed, Means, addresses, connected, timed
from producers.sources.probe.message import Message
from producers.sources.probe.smtp_failures import broken
from producers.sources.probe.tls import context_of, days_left, refused_is_read

_BYE_S: Final = 1.0
_MOST_TURNS: Final = 100
_GO_AHEAD: Final = 354
_OK: Final = 250
_NOT_THIS_WAY: Final = {502, 503, 504, 534, 538}
"""Replies to AUTH that speak of the mechanism, not of the login."""
_DOTS: Final = re.compile(rb"^\.", re.MULTILINE)


class SmtpSession:
    """A connection; every method raises :class:`LegFailed` when its phase does."""

    def __init__(self, account: Account, course: Course, means: Means) -> None:
        """Take whose server it is and what to fill."""
        assert account.smtp is not None
        self._account = account
        self._smtp: SmtpAccount = account.smtp
        self._course = course
        self._means = means
        self._client: aiosmtplib.SMTP | None = None
        self._protocol: SMTPProtocol | None = None
        self._given = False
        """The content is out, and nobody knows whether it was taken until the reply is there."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        protocol = self._protocol
        if exc is None or (isinstance(exc, LegFailed) and exc.failure.smtp_code):
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=_BYE_S)
        client.close()
        if protocol is not None:
            await _gone(protocol)

    async def open(self) -> None:
        """Look the server up, connect, begin TLS, log in."""
        found = await addresses(self._smtp.host, Phase.DNS, self._course, self._means)
        self._course.host = self._smtp.host
        context = self._context(verify=self._smtp.verify)
        async with refused_is_read(self._course, lambda spare: self._read_dates(found, spare)):
            await self._connect(found, context)
        if self._smtp.username:
            async with self._phase(Phase.AUTH):
                await self._log_in(self._smtp.username, self._smtp.password or "")

    async def give(self, message: Message) -> aiosmtplib.SMTPResponse:
        """Hand *message* over and return the reply to its last byte."""
        client = self._client
        assert client is not None
        async with self._phase(Phase.MAIL):
            self._note("mail", (await client.mail(message.sender)).code)
        async with self._phase(Phase.RCPT):
            self._note("rcpt", (await client.rcpt(message.recipient)).code)
        async with self._phase(Phase.DATA):
            ready = await client.execute_command(b"DATA")
            if ready.code != _GO_AHEAD:
                raise aiosmtplib.SMTPDataError(ready.code, ready.message)
            reply = await self._content(client, message.content)
            if reply.code != _OK:
                raise aiosmtplib.SMTPDataError(reply.code, reply.message)
            self._note("data", reply.code)
            return reply

    async def _content(self, client: aiosmtplib.SMTP, content: bytes) -> aiosmtplib.SMTPResponse:
        protocol = client.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        self._given = True
        protocol.write(_DOTS.sub(b"..", content) + b".\r\n")
        return await protocol.read_response(timeout=self._smtp.timeout_s)

    async def _connect(self, found: list[str], context: ssl.SSLContext) -> None:
        smtp = self._smtp
        async with self._phase(Phase.CONNECT):
            sock = await connected(
                found, smtp.port, timeout_s=smtp.timeout_s, source=smtp.source_address
            )
            self._client = aiosmtplib.SMTP(
                hostname=smtp.host,
                sock=sock,
                use_tls=smtp.implicit_tls,
                start_tls=False,
                tls_context=context,
                local_hostname=smtp.helo or _own_name(sock),
                timeout=smtp.timeout_s,
            )
            if not smtp.implicit_tls:
                await self._greeted(self._client, sock)
        if smtp.implicit_tls:
            async with self._phase(Phase.TLS):
                await self._greeted(self._client, sock)
        elif smtp.starttls:
            async with self._phase(Phase.TLS):
                # Without it nothing more is said: a password must not go over in the clear.
                await self._client.starttls()
                await self._client.ehlo()
        self._note_certificate(self._client)

    async def _greeted(self, client: aiosmtplib.SMTP, sock: socket.socket) -> None:
        try:
            self._note("connect", (await client.connect()).code)
            self._protocol = client.protocol
        except BaseException:
            sock.close()
            raise
        await client.ehlo()

    async def _log_in(self, name: str, password: str) -> None:
        """Log in by the first mechanism that the server takes, with one try of the password."""
        client = self._client
        assert client is not None
        offered = [way for way in self._ways(client) if way in client.server_auth_methods]
        if not offered:
            raise aiosmtplib.SMTPException("the server offers no login that this program knows")
        for way in offered:
            log_in = getattr(client, f"auth_{way.replace('-', '')}")
            try:
                self._note("auth", (await log_in(name, password)).code)
            except aiosmtplib.SMTPAuthenticationError as exc:
                if exc.code not in _NOT_THIS_WAY or way == offered[-1]:
                    raise
            else:
                return

    @staticmethod
    def _ways(client: aiosmtplib.SMTP) -> tuple[str, ...]:
        """Return the mechanisms to try: inside TLS the plain ones, which every server can check."""
        plain = "plain", "login"
        safe = client.get_transport_info("sslcontext") is not None
        return (*plain, "cram-md5") if safe else ("cram-md5", *plain)

    async def _read_dates(self, found: list[str], course: Course) -> None:
        async with SmtpSession(self._account, course, self._means) as session:
            await session._connect(found, self._context(verify=False))

    def _context(self, *, verify: bool) -> ssl.SSLContext:
        return context_of(self._account, self._smtp, Phase.TLS, verify=verify)

    def _note_certificate(self, client: aiosmtplib.SMTP) -> None:
        tls: ssl.SSLObject | None = client.get_transport_info("ssl_object")
        if tls is not None:
            days = days_left(tls.getpeercert(binary_form=True), self._means.clock.now_ms())
            if days is not None:
                self._course.certificate_days["smtp"] = days

    def _note(self, command: str, code: int) -> None:
        self._course.reply_codes[command] = code

    @contextlib.asynccontextmanager
    async def _phase(self, phase: Phase) -> AsyncIterator[None]:
        """Time a phase, bound it, and name what goes wrong in it."""
        with timed(self._course, phase, self._means.clock):
            try:
                async with asyncio.timeout(self._smtp.timeout_s):
                    yield
            except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
                failed = broken(phase, exc, self._account)
                code = failed.failure.smtp_code
                if code is not None:
                    self._note("connect" if phase is Phase.TLS else phase.value, code)
                failed.uncertain = self._given and not (code and 400 <= code < 600)
                raise failed from exc


async def _gone(protocol: SMTPProtocol) -> None:
    """Let go of a connection at once: closing TLS in order would wait for the server."""
    if protocol.transport is not None:
        # Told by no type: uvloop's transports are none of asyncio's classes.
        cast("asyncio.WriteTransport", protocol.transport).abort()
    for _ in range(_MOST_TURNS):  # of the loop, which tells the protocol; it is one or two
        if protocol.transport is None:
            return
        await asyncio.sleep(0)


def _own_name(sock: socket.socket) -> str:
    """Return this machine's name if it has a domain, else its address as RFC 5321 writes it."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    address = ipaddress.ip_address(str(sock.getsockname()[0]).partition("%")[0])
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
