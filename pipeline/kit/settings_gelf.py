"""The sections ``gelf`` and ``wildduck`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.kit.settings_base import SECOND_MS, HeaderSecret, Listener, Name, Section, between
from pipeline.kit.values import (
    Address,
    AddressValue,
    Duration,
    Items,
    Kind,
    NetworkValue,
    PathValue,
    unusable,
)

_PORT: Final = 12201
_URL: Final = "a URL such as http://127.0.0.1:8080"


def _url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if scheme not in ("http", "https") or not separator or not rest or " " in rest:
        raise unusable(_URL)
    return text.rstrip("/")


class GelfSettings(Listener):
    """GELF over UDP and TCP, about mail and logins; over HTTP it goes to `ingest`."""

    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9786),
        description="Where `/metrics` and `/health` of the service are; port 0: any free one.",
    )
    allow: Items[NetworkValue] = Field(
        default=(),
        description="Networks that may send messages, a must where others can reach `udp` or "
        "`tcp`; beside this machine they alone may read `listen`.",
    )
    tls_cert: PathValue | None = Field(
        default=None, description="Certificate chain (PEM) of `listen`; null: no TLS."
    )
    udp: AddressValue | None = Field(
        default=Address("127.0.0.1", _PORT), description="Where datagrams are taken; null: nowhere."
    )
    tcp: AddressValue | None = Field(
        default=Address("127.0.0.1", _PORT),
        description="Where connections are taken; null: nowhere.",
    )
    tcp_tls_cert: PathValue | None = Field(
        default=None, description="Certificate chain (PEM) of `tcp`; null: no TLS."
    )
    tcp_tls_key: PathValue | None = Field(
        default=None, description="Key (PEM) of the certificate of `tcp`."
    )
    tcp_client_ca: PathValue | None = Field(
        default=None,
        description="Certificates (PEM) one of which must have signed a client's; null: clients "
        "need none.",
    )
    udp_host: Name | None = Field(
        default=None,
        description="Stands for the `host` of every message that came as datagrams; null: what it says.",
    )
    tcp_host: Name | None = Field(
        default=None,
        description="Stands for the `host` of every message that came over connections; null: what it says.",
    )
    strict: bool = Field(
        default=False,
        description="Refuse messages that break the format: a version other than 1.1, no host.",
    )
    mta_events: bool = Field(
        default=False,
        description="Count what ZoneMTA did (`_component` mta) from GELF: only where its hooks do "
        "not post, or it counts twice.",
    )
    keep_unknown: bool = Field(
        default=False,
        description="Keep other programs' messages on the raw topic, cut to GELF's own fields.",
    )
    samples_per_minute: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="Most samples of bad messages a minute, for each reason, on `mail.dead`; none "
        "with `privacy.pseudonymise`.",
    )
    spool_bytes: int = Field(
        default=256 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="Most bytes of messages from datagrams kept on disk while Kafka is away.",
    )
    receive_buffer_bytes: int = Field(
        default=8 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Receive buffer asked of the kernel for datagrams (`net.core.rmem_max` caps it).",
    )
    max_message_bytes: int = Field(
        default=1 << 20,
        ge=1 << 10,
        le=4 << 20,
        description="Largest message, after inflation; over TCP the largest frame.",
    )
    pending_bytes: int = Field(
        default=16 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Most bytes of chunks that wait for the rest of their message, one sender a "
        "quarter; and of unfinished TCP frames.",
    )
    max_connections: int = Field(
        default=1000, ge=1, le=100_000, description="Most TCP connections at a time."
    )
    idle_timeout: Annotated[Duration, AfterValidator(between(SECOND_MS, DAY_MS))] = Field(
        default=5 * MINUTE_MS,
        description="A TCP connection is closed that says nothing for so long before its first "
        "message or within one; between messages it may be silent.",
    )
    buffer_bytes: int = Field(
        default=32 << 20,
        ge=1 << 20,
        le=16 << 30,
        description="Most bytes of messages held in memory while Kafka has not acknowledged them.",
    )

    @property
    def is_on(self) -> bool:
        """Tell whether there is anything to take."""
        return self.udp is not None or self.tcp is not None


class WildDuckUsers(Section):
    """How the names of accounts are learnt from WildDuck's REST API."""

    url: Annotated[str, AfterValidator(_url), Kind("url", _URL)] | None = Field(
        default=None,
        description="Where the API is, such as `http://127.0.0.1:8080`; null: ids stay, and "
        "messages with nothing else name no account.",
    )
    token: HeaderSecret | None = Field(
        default=None, description="Access token; null: the API needs none."
    )
    remember: Annotated[Duration, AfterValidator(between(10 * SECOND_MS, 7 * DAY_MS))] = Field(
        default=HOUR_MS, description="How long a name is used before it is asked for again."
    )


class WildDuckSettings(Section):
    """WildDuck, whose messages come over GELF."""

    users: WildDuckUsers = WildDuckUsers()
