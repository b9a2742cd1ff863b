"""Settings of the node agent and of the ZoneMTA nodes that it polls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from pipeline.core.pane import HOUR_MS, MINUTE_MS
from pipeline.kit.settings_base import (
    SECOND_MS,
    HeaderSecret,
    Listener,
    Name,
    Secret,
    Section,
    between,
)
from pipeline.kit.settings_log_remote import LogRemoteSettings
from pipeline.kit.values import (
    Address,
    AddressValue,
    Duration,
    Items,
    Kind,
    PathValue,
    unusable,
)

_URL: Final = "a URL such as http://127.0.0.1:12080 or https://mta1.example:12443, without a login, query or fragment"


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as exc:
        raise unusable(_URL) from exc
    if not usable or "@" in parts.netloc or parts.query or parts.fragment or not text.isprintable():
        raise unusable(_URL)
    return text.rstrip("/")


def is_local(url: str) -> bool:
    """Tell whether what is sent to *url* stays on this machine."""
    return Address(urlsplit(url).hostname or "", 0).is_loopback


Url = Annotated[str, AfterValidator(_url), Kind("URL", _URL)]
Interval = Annotated[Duration, AfterValidator(between(SECOND_MS, HOUR_MS))]


class ZonemtaNode(Section):
    """One ZoneMTA, polled through its HTTP API."""

    name: Name = Field(description="The label `node`.")
    cluster: Name = Field(
        default="main",
        description="The label `cluster`: nodes on one database have one queue, shown once.",
    )
    url: Url = Field(
        default="http://127.0.0.1:12080",
        description="Its API, which has no authentication: loopback, or https behind a proxy "
        "that is known by `cafile` or asks for a login.",
    )
    interval: Interval = Field(default=15 * SECOND_MS, description="How often it is polled.")
    cafile: PathValue | None = Field(
        default=None, description="Certificates (PEM) to trust; null: those of the system."
    )
    username: str | None = Field(default=None, min_length=1, description="Name for basic auth.")
    password: Secret | None = Field(default=None, description="Password for basic auth.")


class ZonemtaSettings(Section):
    """ZoneMTA: nodes that the node agent polls, and the feed that needs no plugin."""

    nodes: Items[ZonemtaNode] = Field(
        default=(), min_length=1, description="Nodes that the node agent polls; absent: none."
    )
    log_remote: LogRemoteSettings | None = Field(
        default=None, description="Takes what ZoneMTA's `log.remote` sends; null: off."
    )


class WatchedProcess(Section):
    """A program that must run; a bare text is its name."""

    name: Name = Field(description="The label `process`.")
    match: str | None = Field(
        default=None,
        min_length=1,
        description="Text in its command line; null: the program itself is called `name`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class QueueFolder(Section):
    """A folder whose files are counted, such as the queue of a Haraka."""

    name: Name = Field(description="The label `folder`.")
    path: PathValue = Field(description="Where it is; the files in folders below it count too.")


class MongodbTarget(Section):
    """One MongoDB server."""

    name: Name | None = Field(default=None, description="The label `node`; null: `nodes.name`.")
    uri: Secret = Field(description="Connection string; name one member, not the replica set.")
    zonemta_database: Name | None = Field(
        default=None,
        description="Database with ZoneMTA's `zone-queue`, to count it by zone; null: not counted.",
    )
    interval: Interval = Field(default=30 * SECOND_MS, description="How often it is asked.")


class RedisTarget(Section):
    """One Redis server."""

    name: Name | None = Field(default=None, description="The label `node`; null: `nodes.name`.")
    address: AddressValue = Field(
        default=Address("127.0.0.1", 6379), description="Where it listens."
    )
    username: str | None = Field(default=None, min_length=1, description="Name to log in with.")
    password: Secret | None = Field(default=None, description="Password to log in with.")
    tls: bool = Field(default=False, description="Whether it talks TLS.")
    cafile: PathValue | None = Field(
        default=None, description="Certificates (PEM) to trust; null: those of the system."
    )
    interval: Interval = Field(default=30 * SECOND_MS, description="How often it is asked.")


class WildduckTarget(Section):
    """One WildDuck, asked through its REST API."""

    name: Name | None = Field(default=None, description="The label `node`; null: `nodes.name`.")
    url: Url = Field(default="http://127.0.0.1:8080", description="Its API; https off loopback.")
    token: HeaderSecret | None = Field(
        default=None, description="What goes into the header `X-Access-Token`."
    )
    cafile: PathValue | None = Field(
        default=None, description="Certificates (PEM) to trust; null: those of the system."
    )
    interval: Interval = Field(default=MINUTE_MS, description="How often it is asked.")
    storage_interval: Annotated[Duration, AfterValidator(between(MINUTE_MS, 24 * HOUR_MS))] = Field(
        default=10 * MINUTE_MS,
        description="How often the storage of all users is added up, 250 users a request.",
    )
    max_users: int = Field(
        default=50_000, ge=250, le=10_000_000, description="Most users that are added up."
    )


class PostTo(Section):
    """An ingest service that takes what the agent finds, instead of Kafka."""

    url: Url = Field(description="Where it is; https off loopback.")
    key: HeaderSecret | None = Field(default=None, description="One of its `ingest.api_keys`.")
    cafile: PathValue | None = Field(
        default=None, description="Certificates (PEM) to trust; null: those of the system."
    )


class NodesSettings(Listener):
    """The node agent, which looks at this machine and what runs on it; null: off."""

    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9784),
        description="Where its `/metrics` and `/health` are; port 0: any free one.",
    )
    name: Name | None = Field(
        default=None, description="The label `node` of this machine; null: its host name."
    )
    system: bool = Field(
        default=True,
        description="Whether CPU, memory, disks, network and connections of this machine are shown.",
    )
    system_interval: Interval = Field(
        default=15 * SECOND_MS,
        description="How often the machine, `processes` and `folders` are looked at.",
    )
    processes: Items[WatchedProcess] = Field(
        default=(), description="Programs that must run: names, or `{name, match}`."
    )
    folders: Items[QueueFolder] = Field(
        default=(), description="Folders whose files are counted: `{name, path}`."
    )
    mongodb: Items[MongodbTarget] = Field(default=(), description="MongoDB servers.")
    redis: Items[RedisTarget] = Field(default=(), description="Redis servers.")
    wildduck: Items[WildduckTarget] = Field(default=(), description="WildDuck APIs.")
    post_to: PostTo | None = Field(
        default=None,
        description="Ingest service that takes the observations; null: they go to Kafka.",
    )
    buffer_observations: int = Field(
        default=5_000,
        ge=100,
        le=1_000_000,
        description="Most observations held while that, or Kafka, is away; then the oldest go.",
    )


WITHOUT_SYSTEM: Final = NodesSettings(system=False)
"""The agent of a configuration that only has ZoneMTA nodes."""


def cafiles(nodes: NodesSettings | None, zonemta: ZonemtaSettings | None) -> dict[str, Path | None]:
    """Return the files of certificates that are named, by key."""
    found: dict[str, Path | None] = {}
    if nodes is not None:
        for place, redis in enumerate(nodes.redis):
            found[f"nodes.redis[{place}].cafile"] = redis.cafile
        for place, wildduck in enumerate(nodes.wildduck):
            found[f"nodes.wildduck[{place}].cafile"] = wildduck.cafile
        found["nodes.post_to.cafile"] = nodes.post_to.cafile if nodes.post_to else None
    for place, node in enumerate(zonemta.nodes if zonemta is not None else ()):
        found[f"zonemta.nodes[{place}].cafile"] = node.cafile
    return found
