"""TLS of both legs: whom to trust, and how long a certificate is still good."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

from producers.sources.probe.accounts import Account, ImapAccount, SmtpAccount
from producers.sources.probe.attempt import Course, ErrorClass, Failure, Phase
from producers.sources.probe.means import LegFailed

_DAY_MS: Final = 86_400_000
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_FIRST_YEAR: Final = 50
"""Of a two-digit year: 50 is 1950, 49 is 2049 (RFC 5280)."""


def client_context(
    *,
    ca_file: Path | None = None,
    verify: bool = True,
    client_cert: Path | None = None,
    client_key: Path | None = None,
) -> ssl.SSLContext:
    """Return how to speak TLS, made once for each set of files as they are now.

    Raises:
        OSError: A file cannot be read or is no certificate or key.
    """
    files = ca_file, client_cert, client_key
    changed = tuple(path.stat().st_mtime_ns if path else 0 for path in files)
    return _context(ca_file, verify, client_cert, client_key, changed)


@lru_cache(maxsize=256)
def _context(
    ca_file: Path | None,
    verify: bool,
    client_cert: Path | None,
    client_key: Path | None,
    changed: tuple[int, ...],  # noqa: ARG001  part of the key
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_cert is not None:
        # A key with a pass phrase must fail, not ask at a terminal.
        context.load_cert_chain(client_cert, client_key, password="")
    return context


def context_of(
    account: Account, leg: SmtpAccount | ImapAccount, phase: Phase, *, verify: bool
) -> ssl.SSLContext:
    """Return how to speak TLS with the server of *leg*; unusable files are a failure of *phase*.

    Raises:
        LegFailed: A file of the account cannot be used.
    """
    try:
        return client_context(
            ca_file=leg.ca_file,
            verify=verify,
            client_cert=leg.client_cert,
            client_key=leg.client_key,
        )
    except OSError as exc:
        files = ", ".join(str(f) for f in (leg.ca_file, leg.client_cert, leg.client_key) if f)
        text = f"TLS files of {account.name} cannot be used ({files}): {exc}"
        raise LegFailed(Failure(phase, ErrorClass.CONFIG, text)) from exc


@contextlib.asynccontextmanager
async def refused_is_read(
    course: Course, connect_again: Callable[[Course], Awaitable[None]]
) -> AsyncIterator[None]:
    """Where the server's certificate is refused, note its dates all the same.

    Args:
        course: To note them in.
        connect_again: Connects once more, trusting anyone and saying nothing, to read them.
    """
    try:
        yield
    except LegFailed as failed:
        if failed.failure.error_class is ErrorClass.CERTIFICATE:
            spare = Course()
            with contextlib.suppress(LegFailed):
                await connect_again(spare)
            course.certificate_days |= spare.certificate_days
        raise


def days_left(certificate: bytes | None, now_ms: int) -> float | None:
    """Return the days until a DER certificate expires, negative when it has; None if unreadable.

    Python tells the dates only of certificates that it found good; this reads any.
    """
    try:
        return (_not_after_ms(certificate or b"") - now_ms) / _DAY_MS
    except (ValueError, IndexError):
        return None


def _not_after_ms(der: bytes) -> int:
    inner, _ = _element(der, 0, _SEQUENCE)
    fields, _ = _element(inner, 0, _SEQUENCE)
    at = 0
    if fields[0] == _VERSION:
        _, at = _element(fields, at)
    for _ in range(3):  # serial number, signature algorithm, issuer
        _, at = _element(fields, at)
    validity, _ = _element(fields, at, _SEQUENCE)
    _, at = _element(validity, 0)
    kind, (written, _) = validity[at], _element(validity, at)
    text = written.decode("ascii")
    if kind == _UTC_TIME:
        text = ("19" if int(text[:2]) >= _FIRST_YEAR else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError("no time")
    when = datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    return int(when.timestamp() * 1000)


def _element(der: bytes, at: int, kind: int | None = None) -> tuple[bytes, int]:
    """Return the content of the element at *at*, and where the next one begins."""
    if kind is not None and der[at] != kind:
        raise ValueError("not the element that was expected")
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + size]), begin + size
    if begin + length > len(der):
        raise ValueError("cut off")
    return der[begin : begin + length], begin + length
