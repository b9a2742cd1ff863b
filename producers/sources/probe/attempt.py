"""What one leg of a roundtrip tells: how long each phase took, and what failed and why.

A *round* of a route is one mail: the sending leg (``send.py``) and the receiving leg
(``receive.py``).  Both fill a :class:`Course`; the round (``round.py``) makes an outcome of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """The phases of a round, in the order in which they are gone through."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    IMAP_DNS = "imap_dns"
    IMAP_CONNECT = "imap_connect"
    IMAP_TLS = "imap_tls"
    IMAP_AUTH = "imap_auth"
    FOUND = "found"
    """From the end of DATA to the moment in which the mail was first seen."""
    VERIFY = "verify"
    """Reading the mail's header, checking the token, deleting it."""


class ErrorClass(StrEnum):
    """Why a phase failed: the label ``class`` of ``errors_by_class_total``."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    CERTIFICATE = "certificate"
    AUTH = "auth"
    THROTTLED = "throttled"
    """A 4xx that asks to come again: greylisting, rate limits."""
    QUOTA = "quota"
    REJECTED = "rejected"
    TIMEOUT = "timeout"
    DROPPED = "dropped"
    """The other side closed the connection."""
    NOT_FOUND = "not_found"
    PROTOCOL = "protocol"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a leg ended."""

    phase: Phase
    error_class: ErrorClass
    text: str
    """One line for a person; never a secret, addresses as the server gave them."""
    smtp_code: int | None = None
    enhanced_status: str | None = None


@dataclass(slots=True)
class Course:
    """What is known of a leg so far; shown live, and complete when the leg has ended."""

    on_change: Callable[[Course], None] | None = None
    """Called after each change, in the event loop's thread."""
    running: Phase | None = None
    phases_ms: dict[Phase, float] = field(default_factory=dict)
    """Time of each phase that ended, the failed one included, in milliseconds."""
    failure: Failure | None = None
    certificate_days: dict[str, float] = field(default_factory=dict)
    """Days until the certificate of each endpoint (``smtp``, ``imap``) expires; may be negative."""
    reply_codes: dict[str, int] = field(default_factory=dict)
    """The last SMTP reply code by command (``connect``, ``auth``, ``mail``, ``rcpt``, ``data``)."""
    earlier: list[Failure] = field(default_factory=list)
    """Failures that were tried again, oldest first."""
    host: str | None = None
    """The server that was spoken to."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How the sending leg ended; :attr:`Course.failure` says why when it was not accepted."""

    accepted: bool
    uncertain: bool = False
    """The mail may have been accepted: the connection broke after its last byte."""
    at_ms: int | None = None
    """Wall clock at the end of DATA."""
    tries: int = 1
    at_monotonic: float | None = None
    """The same moment on the clock that never goes back."""
    code: int | None = None
    enhanced_status: str | None = None
    reply: str | None = None
    """The server's last words, in one line and without secrets."""


@dataclass(frozen=True, slots=True)
class Found:
    """A mail of ours that was seen in a folder."""

    token: str
    folder: str
    junk: bool
    """The folder is the account's spam folder, by its special-use flag or its name."""
    copies: int
    """How many mails with this token there are; above 1 the mail was delivered more than once."""
    first_seen_ms: int
    """Wall clock when it was first seen."""
    internal_date_ms: int | None = None
    """The server's INTERNALDATE, in its own clock."""
    hops_ms: tuple[int, ...] = ()
    """Times of the Received headers, oldest first."""
    sent_ms: int | None = None
    """When its round began, by its token."""
    deleted: bool = False
    """It is gone from the folder, or marked as deleted where the server cannot do more."""
