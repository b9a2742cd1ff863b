"""The kinds of values a configuration holds: durations, addresses, networks, names, lists.

Each kind is an annotated type: it parses what YAML gives, says what it expected when it cannot,
and knows how it is written back.  No message ever repeats the value given: it may be a secret
that stands in the wrong place.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo
from pydantic_core import PydanticCustomError

Network = IPv4Network | IPv6Network

FROM_FILE: Final = "from_file"
"""Key of the validation context: values come from a file, so a duration needs its unit."""

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)", re.ASCII)
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_MAX_PORT: Final = 65535
_MAX_MAIL_ADDRESS: Final = 320
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is called in messages and in the table of options."""

    name: str
    expected: str


def unusable(expected: str) -> PydanticCustomError:
    """Return the error for a value that is not *expected*."""
    return PydanticCustomError("kind", "expected {expected}", {"expected": expected})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens or is reached; port 0 means any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address written as ``host:port`` or ``[IPv6]:port``.

        Raises:
            ValueError: The text is no such address.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not _PORT.fullmatch(port) or int(port) > _MAX_PORT:
            raise ValueError("not host:port")
        if host.startswith("[") and host.endswith("]"):
            return cls(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        if not _HOST.fullmatch(host):
            raise ValueError("not host:port")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can reach it; a name other than localhost may be any."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        """Return ``host:port``, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_open(address: Address, allow: tuple[Network, ...], *, has_credentials: bool) -> bool:
    """Tell whether strangers could use a service at *address*: such a service refuses to start."""
    return not (address.is_loopback or allow or has_credentials)


def duration_ms(text: str) -> int:
    """Return the milliseconds of ``500ms``, ``10s``, ``5m``, ``24h`` or ``7d``.

    Raises:
        ValueError: The text is no duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a duration")
    return int(match[1]) * _UNITS_MS[match[2]]


def duration_text(ms: int) -> str:
    """Return the shortest text that :func:`duration_ms` reads as *ms*."""
    unit = next(name for name in ("d", "h", "m", "s", "ms") if ms % _UNITS_MS[name] == 0)
    return f"{ms // _UNITS_MS[unit]}{unit}" if ms else "0s"


_DURATION_KIND: Final = Kind("duration", "a duration such as 500ms, 10s, 5m, 24h or 7d")
_ADDRESS_KIND: Final = Kind("address", "an address such as 127.0.0.1:9780 or [::1]:9780")
_NETWORK_KIND: Final = Kind(
    "network", "a network such as 10.0.0.0/8 or 2001:db8::/32 (no bits set after the prefix)"
)
_PATH_KIND: Final = Kind("path", "the path of a file or folder")
_MAIL_KIND: Final = Kind("mail address", "a mail address")


def _duration(value: object, info: ValidationInfo) -> int:
    from_file = bool(info.context and info.context.get(FROM_FILE))
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0 and not from_file:
        return value
    if not isinstance(value, str):
        raise unusable(_DURATION_KIND.expected)
    try:
        return duration_ms(value)
    except ValueError as exc:
        raise unusable(_DURATION_KIND.expected) from exc


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise unusable(_ADDRESS_KIND.expected)
    try:
        return Address.parse(value)
    except ValueError as exc:
        raise unusable(_ADDRESS_KIND.expected) from exc


def _network(value: object) -> Network:
    if isinstance(value, Network):
        return value
    if not isinstance(value, str):
        raise unusable(_NETWORK_KIND.expected)
    try:
        return ipaddress.ip_network(value)
    except ValueError as exc:
        raise unusable(_NETWORK_KIND.expected) from exc


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise unusable(_PATH_KIND.expected)
    return Path(value)


def is_mail_address(text: str) -> bool:
    """Tell whether *text* is one bare mail address, without a name beside it."""
    local, sign, domain = text.rpartition("@")
    return (
        bool(local and sign and domain)
        and len(text) <= _MAX_MAIL_ADDRESS
        and text.isprintable()
        and not set(text) & set(" <>,")
    )


def _mail_address(text: str) -> str:
    if not is_mail_address(text):
        raise unusable(_MAIL_KIND.expected)
    return text


def _items(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Duration = Annotated[
    int, BeforeValidator(_duration), PlainSerializer(duration_text), _DURATION_KIND
]
"""Milliseconds; in a file a number with its unit, in code an int."""

AddressValue = Annotated[Address, BeforeValidator(_address), PlainSerializer(str), _ADDRESS_KIND]
NetworkValue = Annotated[Network, BeforeValidator(_network), PlainSerializer(str), _NETWORK_KIND]
PathValue = Annotated[Path, BeforeValidator(_path), PlainSerializer(str), _PATH_KIND]
MailAddress = Annotated[str, AfterValidator(_mail_address), _MAIL_KIND]
Items = Annotated[tuple[_T, ...], BeforeValidator(_items)]
"""A YAML list, kept as a tuple."""


def kind_of(metadata: list[Any]) -> Kind | None:
    """Return the kind among an annotation's *metadata*."""
    return next((item for item in metadata if isinstance(item, Kind)), None)
