"""What an IMAP server's refusals (RFC 5530) and a connection's faults mean."""

from __future__ import annotations

import base64
import imaplib
import re
import ssl
from typing import Final

from producers.sources.probe.accounts import Account, ImapAccount
from producers.sources.probe.attempt import ErrorClass, Failure, Phase
from producers.sources.probe.means import LegFailed, one_line

FAULTS: Final = (
    imaplib.IMAP4.error,
    OSError,
    EOFError,
    # What the client's parser raises on answers that are no IMAP.
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RecursionError,
)
"""All that a server or a network can make the client raise."""
_CODES: Final = {
    "AUTHENTICATIONFAILED": ErrorClass.AUTH,
    "AUTHORIZATIONFAILED": ErrorClass.AUTH,
    "EXPIRED": ErrorClass.AUTH,
    "CONTACTADMIN": ErrorClass.AUTH,
    "PRIVACYREQUIRED": ErrorClass.TLS,
    "UNAVAILABLE": ErrorClass.THROTTLED,
    "INUSE": ErrorClass.THROTTLED,
    "LIMIT": ErrorClass.THROTTLED,
    "THROTTLED": ErrorClass.THROTTLED,
    "SERVERBUG": ErrorClass.THROTTLED,
    "OVERQUOTA": ErrorClass.QUOTA,
    "NOPERM": ErrorClass.REJECTED,
    "NONEXISTENT": ErrorClass.REJECTED,
    "CANNOT": ErrorClass.REJECTED,
    "CLIENTBUG": ErrorClass.PROTOCOL,
}
TOO_LONG: Final = "the answer is too long"
_CODE: Final = re.compile(r"\[([A-Z-]+)[^\]]*\]")
_AGAIN: Final = {
    ErrorClass.CONNECT,
    ErrorClass.DNS,
    ErrorClass.TIMEOUT,
    ErrorClass.DROPPED,
    ErrorClass.THROTTLED,
}
"""Worth another connection within the time-out; never a login that was refused."""


class TlsWanted(imaplib.IMAP4.error):
    """The server takes no login before TLS, or offers no TLS."""


def broken(phase: Phase, exc: BaseException, account: Account) -> LegFailed:
    """Return what an exception in *phase* means."""
    assert account.imap is not None
    kind = _kind(phase, exc)
    text = one_line(_sentence(kind, exc, account.imap), _secrets_of(account.imap))
    if kind is ErrorClass.AUTH:
        text = f"{text}: {_where_to_look(account, account.imap)}"
    return LegFailed(Failure(phase, kind, text), again=kind in _AGAIN)


def _kind(phase: Phase, exc: BaseException) -> ErrorClass:  # noqa: PLR0911  a table with types
    if isinstance(exc, ssl.SSLCertVerificationError):
        return ErrorClass.CERTIFICATE
    if isinstance(exc, TimeoutError):
        return ErrorClass.TIMEOUT
    if isinstance(exc, TlsWanted | ssl.SSLError):
        return ErrorClass.TLS
    if isinstance(exc, UnicodeError) and phase is Phase.IMAP_AUTH:
        return ErrorClass.CONFIG
    if isinstance(exc, imaplib.IMAP4.error):
        return _refusal(phase, exc)
    if isinstance(exc, OSError | EOFError):
        if phase is Phase.IMAP_CONNECT and not isinstance(exc, ConnectionResetError):
            return ErrorClass.CONNECT
        return ErrorClass.TLS if phase is Phase.IMAP_TLS else ErrorClass.DROPPED
    return ErrorClass.PROTOCOL


def _refusal(phase: Phase, exc: imaplib.IMAP4.error) -> ErrorClass:
    code = _CODE.search(str(exc))
    if code is not None and code[1] in _CODES:
        return _CODES[code[1]]
    within = exc if isinstance(exc, imaplib.IMAP4.abort) else exc.__context__
    if isinstance(within, imaplib.IMAP4.abort):  # imapclient makes a refused login of it
        nonsense = "unexpected" in str(within) or TOO_LONG in str(within)
        return ErrorClass.PROTOCOL if nonsense else ErrorClass.DROPPED
    return ErrorClass.AUTH if phase is Phase.IMAP_AUTH else ErrorClass.PROTOCOL


def _sentence(kind: ErrorClass, exc: BaseException, imap: ImapAccount) -> str:
    where = f"{imap.host}:{imap.port}"
    if kind is ErrorClass.TIMEOUT:
        return f"{where} did not answer within {imap.timeout_s:g} s"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate of {where} is not good: {exc.verify_message}"
    if kind is ErrorClass.CONFIG:
        return f"{where} takes no login with letters outside ASCII"
    # imaplib passes on what the server said as the text of bytes.
    said = re.sub(r"""^b(['"])(.*)\1$""", r"\2", str(exc) or type(exc).__name__)
    if kind is ErrorClass.DROPPED and not _CODE.search(said):
        return f"{where} closed the connection ({said})"
    return f"{where}: {said}"


def _where_to_look(account: Account, imap: ImapAccount) -> str:
    if imap.password_env:
        return f"check {imap.password_env}, the IMAP password of {account.name}"
    return f"check imap.username and imap.password of {account.name}"


def _secrets_of(imap: ImapAccount) -> tuple[str, ...]:
    if not imap.password:
        return ()
    plain = base64.b64encode(f"\0{imap.username}\0{imap.password}".encode()).decode()
    return plain, base64.b64encode(imap.password.encode()).decode(), imap.password
