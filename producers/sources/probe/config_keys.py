"""The keys of the probe's file: their kinds and bounds, and the nearest known key to an unknown one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

Check = Callable[[Any], Any]
"""Returns the value as it is used; raises ValueError with what was expected."""

_WORDS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MOST_TEXT: Final = 1000
_DAY_S: Final = 86_400.0


def text(value: Any) -> str:
    """Return a text that is not empty; numbers are texts, too: a password may be one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("text")  # noqa: TRY004  one kind of error for one kind of mistake
    found = str(value)
    if not found or len(found) > _MOST_TEXT:
        raise ValueError(f"text of 1 to {_MOST_TEXT} characters")
    return found


def line(value: Any) -> str:
    """Return a text on one line."""
    found = text(value)
    if not found.isprintable():
        raise ValueError("text on one line")
    return found


def secret(value: Any) -> str:
    """Return a text on one line that may be empty."""
    return "" if value in ("", None) else line(value)


def truth(value: Any) -> bool:
    """Return a truth value, also of the words that YAML 1.1 and variables give."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _WORDS:
        raise ValueError("true or false")
    return _WORDS[word]


def seconds(lowest: float, highest: float = _DAY_S) -> Check:
    """Return a check of seconds in this range."""
    expected = f"seconds from {lowest:g} to {highest:g}"

    def check(value: Any) -> float:
        found = math.nan
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                found = float(value)
            except (ValueError, OverflowError):
                found = math.nan
        if not lowest <= found <= highest:
            raise ValueError(expected)
        return found

    return check


def whole(lowest: int, highest: int) -> Check:
    """Return a check of whole numbers in this range."""
    expected = f"a whole number from {lowest} to {highest}"

    def check(value: Any) -> int:
        digits = isinstance(value, str) and value.isascii() and value.strip().isdigit()
        if isinstance(value, bool) or not (isinstance(value, int) or digits):
            raise ValueError(expected)
        if not lowest <= int(value) <= highest:
            raise ValueError(expected)
        return int(value)

    return check


def prefix(value: Any) -> str:
    """Return what names of metrics may begin with; it may be empty."""
    found = "" if value is None else str(value)
    legal = all(char.isascii() and (char.isalnum() or char in "_:") for char in found)
    if not legal or found[:1].isdigit() or len(found) > 64:
        raise ValueError("letters, digits and underscores, beginning with a letter")
    return found


def url(value: Any) -> str:
    """Return the URL of an API."""
    found = line(value)
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL such as http://127.0.0.1:12080")
    return found.rstrip("/")


def texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts; a single one is a list, too."""
    items = [] if value is None else value if isinstance(value, list) else [value]
    return tuple(map(line, items))


_port = whole(1, 65_535)

EXPORTER: Final[Mapping[str, Check]] = {
    "listen_addr": line,
    "listen_port": whole(0, 65_535),
    "check_interval_seconds": seconds(1),
    "receive_poll_seconds": seconds(0.1, 3600),
    "receive_timeout_seconds": seconds(0.1),
    "smtp_timeout_seconds": seconds(0.1, 3600),
    "delete_testmail_after_verify": truth,
    "subject_prefix": line,
    "metrics_prefix": prefix,
    "uncertain_probe_on_timeout": truth,
    "uncertain_probe_timeout_seconds": seconds(0.1, 3600),
    "uncertain_probe_poll_seconds": seconds(0.1, 3600),
    "min_smtp_interval_seconds": seconds(0, 3600),
    "send_jitter_max_seconds": seconds(0, 3600),
    "queue_url": url,
    "max_parallel_routes": whole(1, 4096),
    "origin": line,
}

_TLS: Final[Mapping[str, Check]] = {
    "host": line,
    "port": _port,
    "starttls": truth,
    "username": line,
    "password": secret,
    "timeout_seconds": seconds(0.1, 3600),
    "ca_file": line,
    "verify": truth,
    "client_cert": line,
    "client_key": line,
}
SMTP: Final[Mapping[str, Check]] = {**_TLS, "source_address": line, "helo": line}
IMAP: Final[Mapping[str, Check]] = {**_TLS, "ssl": truth, "folder": line, "extra_folders": texts}
TEST: Final[Mapping[str, Check]] = {
    "name": line,
    "from": line,
    "to": line,
    "check_interval_seconds": EXPORTER["check_interval_seconds"],
    "receive_timeout_seconds": EXPORTER["receive_timeout_seconds"],
}
ACCOUNT: Final = ("address", "smtp", "imap")
SECTIONS: Final = ("exporter", "accounts", "tests")


def unknown(place: str, name: str, known: Iterable[str]) -> str:
    """Return the warning about an unknown key, which names the nearest known one."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    shown = name.encode("unicode_escape").decode()[:64]
    dotted = f"{place}.{shown}" if place else shown
    return f"{dotted}: unknown key; it is ignored; the nearest known key is {near[0]}"
