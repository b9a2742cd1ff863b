"""Every setting, declared once: the models are the documentation (see ``docs/configuration.md``).

The models check single values; what one setting means for another is in ``settings_checks``,
and files, environment variables and secrets are read in ``settings_load``.  Durations are int
milliseconds, sizes bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.core.dimensions import DIMENSION_FIELDS, chosen
from pipeline.core.families import Family
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS, pane_length
from pipeline.core.publication import PUBLISHED
from pipeline.core.topics import TOPICS, Topic, TopicNames
from pipeline.kit.settings_base import (
    SECOND_MS,
    HeaderSecret,
    Listener,
    Name,
    Secret,
    Section,
    between,
)
from pipeline.kit.settings_cpanel import CpanelSettings
from pipeline.kit.settings_detect import DetectSettings
from pipeline.kit.settings_families import Dimensions, FamilyName, PublishedName
from pipeline.kit.settings_gelf import GelfSettings, WildDuckSettings
from pipeline.kit.settings_log_remote import LogRemoteSettings
from pipeline.kit.settings_nodes import WITHOUT_SYSTEM, NodesSettings, ZonemtaSettings
from pipeline.kit.settings_probe import ProbeSettings
from pipeline.kit.settings_sinks import SinksSettings
from pipeline.kit.settings_view import ViewSettings
from pipeline.kit.values import (
    Address,
    AddressValue,
    Duration,
    Items,
    Kind,
    PathValue,
    unusable,
)

HASH_KEY_VARIABLE: Final = "MAILSTREAM_HASH_KEY"
"""The one variable that the built-in defaults refer to; it may be unset."""

SOURCES: Final = ("zonemta", "haraka")
"""Sources that hook events may name."""

SENDERS: Final = (*SOURCES, "nodes")
"""Sources that heartbeats and observations may name: those of events, and node agents."""

KEY_SOURCES: Final = (*SENDERS, "gelf")
"""Sources that a key may be for."""

_WINDOW: Final = "a window of at most 24h: a multiple of 10s up to 5m, of 1m up to 1h, of 5m above"
_PREFIX: Final = (
    "letters, digits, dots, dashes and underscores, ending with one dot, at most 200 characters"
)


def _window(ms: int) -> int:
    try:
        pane_length(ms)
    except ValueError as exc:
        raise unusable(_WINDOW) from exc
    return ms


def _windows(windows: tuple[int, ...]) -> tuple[int, ...]:
    if not windows or len(set(windows)) < len(windows):
        raise unusable("at least one window, each once")
    return tuple(sorted(windows))


def _prefix(text: str) -> str:
    legal = all(char.isascii() and (char.isalnum() or char in "._-") for char in text)
    if not legal or not text.endswith(".") or text.endswith("..") or not 1 < len(text) <= 200:
        raise unusable(_PREFIX)
    if text.startswith("."):
        raise unusable(_PREFIX)
    return text


def _bootstrap(text: str) -> str:
    try:
        ports = [Address.parse(server.strip()).port for server in text.split(",")]
    except ValueError as exc:
        raise unusable("host:port, or several with commas between") from exc
    if 0 in ports:
        raise unusable("host:port with a port of 1 to 65535")
    return ",".join(server.strip() for server in text.split(","))


RETENTION_KEYS: Final = tuple(
    dict.fromkeys(topic.retention_key for topic in TOPICS if not topic.compacted)
)


def _retention_key(text: str) -> str:
    if text not in RETENTION_KEYS:
        raise PydanticCustomError("unknown_key", "unknown key", {"known": RETENTION_KEYS})
    return text


Window = Annotated[Duration, AfterValidator(_window), Kind("duration", _WINDOW)]


class KafkaSettings(Section):
    """How Kafka is reached; the keys mean what they mean in Kafka's own clients."""

    bootstrap_servers: Annotated[str, AfterValidator(_bootstrap)] | None = Field(
        default=None,
        description="Brokers as `host:port`, with commas between; null: the local broker that "
        "`mailstream kafka start` and `mailstream run` start.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to talk to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN",
        description="How to log in, when the protocol is SASL_PLAINTEXT or SASL_SSL.",
    )
    sasl_username: str | None = Field(default=None, description="Name to log in with.")
    sasl_password: Secret | None = Field(default=None, description="Password to log in with.")
    ssl_cafile: PathValue | None = Field(
        default=None, description="Certificates (PEM) to trust; null: those of the system."
    )
    ssl_certfile: PathValue | None = Field(default=None, description="Client certificate (PEM).")
    ssl_keyfile: PathValue | None = Field(
        default=None, description="Key (PEM) of the client certificate."
    )


RetentionKey = Annotated[str, AfterValidator(_retention_key)]
Retention = Annotated[Duration, AfterValidator(between(MINUTE_MS, 3650 * DAY_MS))]
_SEEN_SLACK_MS: Final = HOUR_MS


class TopicSettings(Section):
    """The topics that `mailstream topics create` and `mailstream run` create."""

    prefix: Annotated[str, AfterValidator(_prefix), Kind("prefix", _PREFIX)] = Field(
        default="mail.",
        description="Begins every topic name; without its dot it also begins the consumer group "
        "and the transactional ids.",
    )
    partitions: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Partitions of every topic, fixed once chosen; 12 to 48 on a cluster.",
    )
    replication_factor: int = Field(
        default=1, ge=1, le=32, description="Copies of every partition; 3 on a cluster."
    )
    retention: dict[RetentionKey, Retention] = Field(
        default_factory=dict,
        description="How long records are kept, by topic: " + ", ".join(RETENTION_KEYS) + ".",
    )
    retention_bytes: dict[RetentionKey, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Bytes kept per partition, by topic as in `retention`; absent: no limit.",
    )

    @property
    def names(self) -> TopicNames:
        """Return the full topic names under the prefix."""
        return TopicNames(self.prefix)


class ApiKey(Section):
    """One sender of events; a bare string is the key of origin `default`."""

    name: Name = Field(description="The `origin` of the events posted with it.")
    key: HeaderSecret = Field(description="What the sender puts into the header `X-API-Key`.")
    sources: Items[Literal["zonemta", "haraka", "nodes", "gelf"]] = Field(
        default=KEY_SOURCES, min_length=1, description="Sources that it may post for."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"name": "default", "key": value} if isinstance(value, str) else value


class IngestSettings(Listener):
    """The HTTP service that hooks and agents post events to."""

    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9780), description="Where it listens; port 0: any free one."
    )
    api_keys: Items[ApiKey] = Field(
        default=(),
        description="Keys of senders: a text, or `{name, key, sources}`; empty: no key needed.",
    )
    max_body_bytes: int = Field(
        default=8 << 20, ge=1024, le=1 << 30, description="Largest body taken."
    )
    max_inflated_bytes: int = Field(
        default=32 << 20, ge=1024, le=1 << 30, description="Largest body after gzip is undone."
    )
    max_batch_events: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Most events in one batch."
    )
    buffer_bytes: int = Field(
        default=64 << 20,
        ge=1 << 20,
        le=16 << 30,
        description="Most bytes of events held while Kafka has not acknowledged them.",
    )


class PipelineSettings(Section):
    """Enriching, counting and windows."""

    windows: Annotated[Items[Window], AfterValidator(_windows)] = Field(
        default=(MINUTE_MS, 5 * MINUTE_MS, HOUR_MS, DAY_MS),
        description=f"Sliding windows shown; each {_WINDOW}.",
    )
    commit_interval: Annotated[Duration, AfterValidator(between(10, 5 * SECOND_MS))] = Field(
        default=SECOND_MS, description="Longest time that one transaction collects records."
    )
    dedupe_horizon: Annotated[Duration, AfterValidator(between(MINUTE_MS, 7 * DAY_MS))] = Field(
        default=6 * HOUR_MS, description="How long an event id is remembered."
    )
    dedupe_max_ids: int = Field(
        default=20_000_000,
        ge=1000,
        le=1_000_000_000,
        description="Most event ids remembered per worker, 12 bytes each; more shorten the horizon.",
    )
    top_keys: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Keys per family that keep their name in `/metrics`.",
    )
    families_off: Items[FamilyName] = Field(
        default=(), description="Families that are neither counted nor shown; see docs/metrics.md."
    )
    publish_panes: Items[PublishedName] = Field(
        default=PUBLISHED,
        description="Families whose closed panes of 5 minutes are written to `mail.panes`, those of "
        "`families_off` apart; `[]`: none. See docs/consumers.md.",
    )
    dimensions: Dimensions = Field(
        default_factory=dict,
        description="Counts of your own, `{name: [field, field]}`: the metric `mail_<name>_events` by "
        "one or two fields of an event; of customer mail, and of all mail where `direction` is one "
        "of the fields. The fields are " + ", ".join(DIMENSION_FIELDS) + ".",
    )

    detect: DetectSettings = DetectSettings()

    @property
    def families(self) -> tuple[Family, ...]:
        """Return the families that are counted, folded and shown."""
        return chosen(self.families_off, self.dimensions)

    @property
    def published(self) -> frozenset[str]:
        """Return the families whose panes are published, by name."""
        return frozenset(self.publish_panes) - frozenset(self.families_off)


class MetricsSettings(Listener):
    """The worker's `/metrics`, `/health` and `/ready`."""

    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9781),
        description="Where worker 1 listens, worker i at this port + 10 + i; port 0: any free one.",
    )
    username: str | None = Field(default=None, min_length=1, description="Name for basic auth.")
    password: Secret | None = Field(default=None, description="Password for basic auth.")


Pseudonym = Literal["user", "client_ip"]


class SourcePrivacy(Section):
    """What is done for one source in place of what is done for all; null: the same."""

    keep_recipients: bool | None = Field(
        default=None, description="Instead of `privacy.keep_recipients`; null: the same."
    )
    pseudonymise: Items[Pseudonym] | None = Field(
        default=None, description="Instead of `privacy.pseudonymise`; null: the same."
    )


class PrivacySources(Section):
    """Sources for which something else is done than for the others."""

    cpanel: SourcePrivacy | None = Field(default=None, description="Of rows of cPanel servers.")
    zonemta: SourcePrivacy | None = Field(default=None, description="Of ZoneMTA: hooks and log.")
    haraka: SourcePrivacy | None = Field(default=None, description="Of Haraka's hooks.")
    gelf: SourcePrivacy | None = Field(default=None, description="Of GELF, logins included.")
    probe: SourcePrivacy | None = Field(default=None, description="Of roundtrip probes.")


class PrivacySettings(Section):
    """What is done to personal fields before anything is stored."""

    keep_recipients: bool = Field(
        default=False,
        description="Keep recipient addresses as they are instead of `<hash>@domain`.",
    )
    hash_key: Secret | None = Field(
        default=None,
        description="Key of the hashes. By default the environment variable "
        f"`{HASH_KEY_VARIABLE}`, else a random key made once in `data_dir`.",
    )
    pseudonymise: Items[Pseudonym] = Field(
        default=(), description="Fields that are hashed too: user, client_ip."
    )
    sources: PrivacySources = PrivacySources()

    def of_source(self, source: str) -> SourcePrivacy:
        """Return what is done for *source*, with nothing left open."""
        own: SourcePrivacy = getattr(self.sources, source) or SourcePrivacy()
        keep, hashed = own.keep_recipients, own.pseudonymise
        return SourcePrivacy(
            keep_recipients=self.keep_recipients if keep is None else keep,
            pseudonymise=self.pseudonymise if hashed is None else hashed,
        )


class Settings(Section):
    """The whole configuration."""

    data_dir: PathValue = Field(
        default=Path(".mailstream"),
        description="Folder for everything that this machine keeps; a relative path counts from "
        "the configuration file's folder.",
    )
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    ingest: IngestSettings = IngestSettings()
    gelf: GelfSettings = GelfSettings()
    wildduck: WildDuckSettings = WildDuckSettings()
    pipeline: PipelineSettings = PipelineSettings()
    metrics: MetricsSettings = MetricsSettings()
    view: ViewSettings | None = Field(
        default=ViewSettings(), description="The query API and the web page; null: off."
    )
    cpanel: CpanelSettings = CpanelSettings()
    probe: ProbeSettings = ProbeSettings()
    privacy: PrivacySettings = PrivacySettings()
    expected_origins: Items[Name] = Field(
        default=(), description="Origins whose silence must show in the metrics."
    )
    nodes: NodesSettings | None = Field(
        default=None, description="The node agent on this machine; null: off."
    )
    zonemta: ZonemtaSettings | None = Field(
        default=None, description="ZoneMTA nodes that are polled, and their logs; null: none."
    )
    sinks: SinksSettings = SinksSettings()

    @property
    def node_agent(self) -> NodesSettings | None:
        """Return what the node agent has to do beside polling ZoneMTA; None: it is off."""
        if self.nodes is None and self.zonemta is not None and self.zonemta.nodes:
            return WITHOUT_SYSTEM
        return self.nodes

    @property
    def probe_accounts(self) -> tuple[str, ...]:
        """Return the addresses whose mail is no customer's."""
        return self.probe.accounts

    @property
    def log_remote(self) -> LogRemoteSettings | None:
        """Return what is taken of ZoneMTA's ``log.remote``; None: nothing."""
        return None if self.zonemta is None else self.zonemta.log_remote

    def retention_ms(self, topic: Topic) -> int:
        """Return how long *topic*, which is not compacted, keeps its records: as configured, else as declared."""
        if topic.retention_key in self.topics.retention:
            return self.topics.retention[topic.retention_key]
        if topic.retention_ms is None:
            return self.pipeline.dedupe_horizon + _SEEN_SLACK_MS
        return topic.retention_ms
