"""The section ``cpanel``: the WHM servers that are polled, and what is shown of them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.kit.settings_base import SECOND_MS, HeaderSecret, Listener, Name, Section, between
from pipeline.kit.values import Address, AddressValue, Duration, Items, Kind, PathValue, unusable

_URL: Final = (
    "https://host:2087 (http:// only on a loopback address), without path, user or parameters"
)
_ACCOUNT: Final = "printable ASCII characters without spaces and colons"
_TIMEZONE: Final = "a time zone of the IANA data base such as UTC or Europe/Berlin"
_IP: Final = "an IP address"


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise unusable(_URL) from exc
    known = parts.scheme == "https" or (
        parts.scheme == "http" and Address(host, port or 0).is_loopback
    )
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if not known or not host or extra or not text.isascii() or not text.isprintable():
        raise unusable(_URL)
    return f"{parts.scheme}://{parts.netloc}"


def _account(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text or ":" in text:
        raise unusable(_ACCOUNT)
    return text


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (OSError, ValueError, KeyError) as exc:  # ZoneInfoNotFoundError is a KeyError
        raise unusable(_TIMEZONE) from exc
    return text


def _ip(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as exc:
        raise unusable(_IP) from exc


class CpanelServer(Section):
    """One WHM server."""

    name: Name = Field(
        description="The `origin` of its events, and what follows the `@` in its users."
    )
    url: Annotated[str, AfterValidator(_url), Kind("URL", _URL)] = Field(
        description="Where WHM answers; https, or http on a loopback address."
    )
    user: Annotated[str, AfterValidator(_account), Kind("name", _ACCOUNT)] = Field(
        default="root", description="The WHM user whose token it is: root or a reseller."
    )
    token: HeaderSecret = Field(description="API token of WHM with the right `track-email`.")
    interval: Annotated[Duration, AfterValidator(between(SECOND_MS, HOUR_MS))] = Field(
        default=MINUTE_MS, description="How often it is asked."
    )
    timeout: Annotated[Duration, AfterValidator(between(SECOND_MS, 10 * MINUTE_MS))] = Field(
        default=30 * SECOND_MS, description="Longest wait for one answer."
    )
    history: Annotated[Duration, AfterValidator(between(0, 30 * DAY_MS))] = Field(
        default=DAY_MS, description="How far back the very first poll reaches."
    )
    timezone: Annotated[str, AfterValidator(_timezone), Kind("time zone", _TIMEZONE)] = Field(
        default="UTC", description="Whose midnight begins the day of `email_user_stats`."
    )
    sending_ip: Annotated[str, AfterValidator(_ip), Kind("IP address", _IP)] | None = Field(
        default=None,
        description="The address that its mail leaves from; WHM does not tell it. null: unknown.",
    )
    ca_file: PathValue | None = Field(
        default=None,
        description="Certificates (PEM) to trust for this server; null: those of the system.",
    )
    verify: bool = Field(
        default=True, description="Whether the server's certificate must be valid for its name."
    )


class CpanelSettings(Listener):
    """The poller of cPanel/WHM servers, with its own `/metrics`; off without servers."""

    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9783),
        description="Where its `/metrics` and `/health` are; port 0: any free one.",
    )
    servers: Items[CpanelServer] = Field(default=(), description="The servers that are polled.")
    compat_single: bool = Field(
        default=False,
        description="Leave the label `server` out of `email_user_stats`, `email_flag_stats` and "
        "`email_logs`, as dashboards for one server expect; for one server only.",
    )
    max_users: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Most accounts and domains per server shown in `email_user_stats`.",
    )
    logs: bool = Field(
        default=False,
        description="Whether `email_logs` is shown: one series for each of the newest rows.",
    )
    logs_max_series: int = Field(
        default=1000, ge=1, le=100_000, description="Most rows shown, of all servers together."
    )
    logs_max_age: Annotated[Duration, AfterValidator(between(MINUTE_MS, 7 * DAY_MS))] = Field(
        default=HOUR_MS, description="Rows whose attempt is older are not shown."
    )
