"""Where test mail goes: a real SMTP server whose reply the recipient's name chooses, and its DNS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from dnslib import MX, QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSLogger, DNSServer

HOST: Final = "mx1"
REFUSING: Final = "refused.example"
"""A domain at whose address nobody listens."""
UNKNOWN: Final = "unknown.example"
"""A domain that does not exist."""
_NOBODY: Final = "127.0.0.9"

REPLIES: Final = {
    "tmp": "451 4.7.1 Greylisted, please try again in 300 seconds",
    "full": "452 4.2.2 The email account that you tried to reach is over quota",
    "hard": "550 5.1.1 <{address}>: Recipient address rejected: User unknown",
}
"""To RCPT, by the recipient's name up to a plus sign."""


class Sink:
    """Takes mail, except for recipients of :data:`REPLIES`."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.taken: list[tuple[str, str]] = []
        """Sender and recipient of what was taken."""

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer RCPT TO."""
        reply = REPLIES.get(address.partition("@")[0].partition("+")[0])
        if reply is not None:
            return reply.format(address=address)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Answer the end of DATA."""
        sender = (envelope.mail_from or "").strip("<>")
        self.taken += [(sender, address) for address in envelope.rcpt_tos]
        return f"250 2.0.0 Ok: queued as SINK{len(self.taken)}"


@contextmanager
def mail_sink(port: int) -> Iterator[Sink]:
    """Yield a sink that listens on 127.0.0.1."""
    sink = Sink()
    controller = Controller(sink, hostname="127.0.0.1", port=port, server_hostname=HOST)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()


class _Resolver(BaseResolver):  # type: ignore[misc]  # dnslib has no types
    """Every domain has one MX, on this machine."""

    def resolve(self, request: DNSRecord, handler: Any) -> DNSRecord:
        """Answer one question."""
        answer = request.reply()
        name = str(request.q.qname).rstrip(".").lower()
        if name.endswith(UNKNOWN):
            answer.header.rcode = RCODE.NXDOMAIN
        elif QTYPE[request.q.qtype] == "MX":
            answer.add_answer(RR(name, QTYPE.MX, rdata=MX(f"{HOST}.{name}", 10), ttl=60))
        elif QTYPE[request.q.qtype] == "A":
            address = _NOBODY if name.endswith(REFUSING) else "127.0.0.1"
            answer.add_answer(RR(name, QTYPE.A, rdata=A(address), ttl=60))
        return answer


@contextmanager
def dns_stub() -> Iterator[int]:
    """Yield the port of a DNS server, UDP on 127.0.0.1."""
    silent = DNSLogger("-request,-reply", prefix=False)
    server = DNSServer(_Resolver(), address="127.0.0.1", port=0, logger=silent)
    server.start_thread()
    try:
        yield server.server.server_address[1]
    finally:
        server.server.shutdown()
        server.server.server_close()
