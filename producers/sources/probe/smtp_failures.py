"""What an SMTP server's refusals and a connection's faults mean."""

from __future__ import annotations

import base64
import re
import ssl
from typing import Final

import aiosmtplib

from producers.sources.probe.accounts import Account, SmtpAccount
from producers.sources.probe.attempt import ErrorClass, Failure, Phase
from producers.sources.probe.means import LegFailed, one_line

_ENHANCED: Final = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})\b")
_OF_TLS: Final = re.compile(r"\bTLS\b|certificate", re.IGNORECASE)
_FULL_MAILBOX: Final = {"4.2.2", "5.2.2"}
_TOO_BIG: Final = {"5.3.4", "5.2.3"}
_AUTH_LATER: Final = 454
_NO_SPACE: Final = 552


def secrets_of(account: SmtpAccount) -> tuple[str, ...]:
    """Return what a server might repeat of a login."""
    name, password = account.username or "", account.password or ""
    if not password:
        return ()
    plain = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
    return plain, base64.b64encode(password.encode()).decode(), password


def enhanced_status(reply: str) -> str | None:
    """Return the enhanced status code (RFC 3463) that a reply begins with."""
    match = _ENHANCED.match(reply)
    return match[1] if match else None


def refused(phase: Phase, code: int, reply: str, account: Account) -> LegFailed:
    """Return what a reply other than the hoped-for one means."""
    assert account.smtp is not None
    status = enhanced_status(reply)
    text = one_line(f"{code} {reply}", secrets_of(account.smtp))
    kind = _kind(phase, code, status)
    if phase is Phase.TLS and _OF_TLS.search(reply):
        kind = ErrorClass.TLS  # also of a 421, with which Postfix misses a client's certificate
    if kind is ErrorClass.AUTH:
        text = f"{text}: {where_to_look(account, account.smtp)}"
    later = 400 <= code < 500
    return LegFailed(Failure(phase, kind, text, code if code > 0 else None, status), again=later)


def where_to_look(account: Account, smtp: SmtpAccount) -> str:
    """Return where the password comes from, for a text."""
    if smtp.password_env:
        return f"check {smtp.password_env}, the SMTP password of {account.name}"
    return f"check smtp.username and smtp.password of {account.name}"


def _kind(phase: Phase, code: int, status: str | None) -> ErrorClass:
    if not 400 <= code < 600:
        return ErrorClass.PROTOCOL
    if phase is Phase.AUTH and (code >= 500 or code == _AUTH_LATER):
        return ErrorClass.AUTH
    if status in _FULL_MAILBOX or (code == _NO_SPACE and status not in _TOO_BIG):
        return ErrorClass.QUOTA
    if code < 500:
        return ErrorClass.THROTTLED
    # "Authentication required" comes in reply to MAIL or RCPT.
    return ErrorClass.AUTH if code == 530 else ErrorClass.REJECTED


def broken(phase: Phase, exc: Exception, account: Account) -> LegFailed:
    """Return what an exception in *phase* means."""
    assert account.smtp is not None
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        return refused(phase, exc.code, exc.message, account)
    cause = _cause(exc)
    kind = _fault(phase, cause)
    text = one_line(_sentence(kind, cause, account.smtp), secrets_of(account.smtp))
    # A server that does not answer may be busy; one that refuses has said so.
    return LegFailed(Failure(phase, kind, text), again=kind is ErrorClass.TIMEOUT)


def _cause(exc: BaseException) -> BaseException:
    """Return the fault of TLS or of the network that aiosmtplib wrapped, else the exception."""
    wrapped = exc.__cause__
    if isinstance(wrapped, OSError) and not isinstance(exc, TimeoutError):
        return wrapped
    return exc


def _fault(phase: Phase, exc: BaseException) -> ErrorClass:  # noqa: PLR0911  a table with types
    if isinstance(exc, ssl.SSLCertVerificationError):
        return ErrorClass.CERTIFICATE
    if isinstance(exc, ssl.SSLError):
        return ErrorClass.TLS
    if isinstance(exc, TimeoutError):
        return ErrorClass.TIMEOUT
    if isinstance(exc, aiosmtplib.SMTPServerDisconnected):
        return ErrorClass.DROPPED
    if isinstance(exc, OSError):
        if phase is Phase.CONNECT and not isinstance(exc, ConnectionResetError):
            return ErrorClass.CONNECT
        return ErrorClass.TLS if phase is Phase.TLS else ErrorClass.DROPPED
    if phase is Phase.AUTH:
        return ErrorClass.AUTH
    return ErrorClass.TLS if phase is Phase.TLS else ErrorClass.PROTOCOL


def _sentence(kind: ErrorClass, exc: BaseException, smtp: SmtpAccount) -> str:
    where = f"{smtp.host}:{smtp.port}"
    if kind is ErrorClass.TIMEOUT:
        return f"{where} did not answer within {smtp.timeout_s:g} s"
    if kind is ErrorClass.CERTIFICATE and isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate of {where} is not good: {exc.verify_message}"
    if kind is ErrorClass.DROPPED:
        return f"{where} closed the connection"
    return f"{where}: {str(exc) or type(exc).__name__}"
