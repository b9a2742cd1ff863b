"""What one setting means for another: mistakes that stop a start, and warnings that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import SecretStr

from pipeline.core.pane import HOUR_MS
from pipeline.core.topics import TOPIC
from pipeline.kit.settings import Settings
from pipeline.kit.settings_checks_nodes import node_mistakes
from pipeline.kit.settings_listeners import Opening, openings
from pipeline.kit.settings_nodes import cafiles
from pipeline.kit.values import Address, Network, duration_text, is_open

_SHORT_SECRET: Final = 16


class Conflict(NamedTuple):
    """A mistake that only several settings together make."""

    keys: tuple[str, ...]
    """Dotted; the first is where the operator should look."""
    sentence: str


def mistakes_between(settings: Settings) -> Iterator[Conflict]:
    """Yield every conflict between settings that are each fine by themselves."""
    for check in _CHECKS:
        yield from check(settings)


def _listeners(settings: Settings) -> Iterator[Conflict]:
    taken: dict[Address, str] = {}
    for opening in openings(settings):
        yield from _listener(opening)
        key = f"{opening.section}.listen"
        listen = opening.listener.listen
        first = taken.setdefault(listen, key)
        if first != key and listen.port:
            yield Conflict((key, first), f"expected an address other than {first}")
    tcp = settings.gelf.tcp
    if tcp is not None and tcp.port and tcp in taken:
        yield Conflict(("gelf.tcp", taken[tcp]), f"expected an address other than {taken[tcp]}")
    metrics = settings.metrics
    if (metrics.username is None) != (metrics.password is None):
        yield Conflict(
            ("metrics.username", "metrics.password"), "expected username and password, or neither"
        )


def _listener(opening: Opening) -> Iterator[Conflict]:
    name, section = opening.section, opening.listener
    credentials = opening.credentials_key
    keys = (f"{name}.listen", credentials, f"{name}.allow")
    if is_open(section.listen, section.allow, has_credentials=opening.has_credentials):
        yield Conflict(
            keys,
            f"others can reach this address: expected {credentials} or {name}.allow, "
            "or a loopback address such as 127.0.0.1",
        )
    if (section.tls_cert is None) != (section.tls_key is None):
        yield Conflict(
            (f"{name}.tls_cert", f"{name}.tls_key"), "expected tls_cert and tls_key, or neither"
        )
    yield from _files({f"{name}.tls_cert": section.tls_cert, f"{name}.tls_key": section.tls_key})


def _gelf(settings: Settings) -> Iterator[Conflict]:
    gelf = settings.gelf
    for name, address in (("udp", gelf.udp), ("tcp", gelf.tcp)):
        yield from _without_password("gelf", name, address, gelf.allow)
    if (gelf.tcp_tls_cert is None) != (gelf.tcp_tls_key is None):
        yield Conflict(
            ("gelf.tcp_tls_cert", "gelf.tcp_tls_key"),
            "expected tcp_tls_cert and tcp_tls_key, or neither",
        )
    if gelf.tcp_client_ca is not None and gelf.tcp_tls_cert is None:
        yield Conflict(("gelf.tcp_client_ca",), "expected tcp_tls_cert and tcp_tls_key beside it")
    yield from _files(
        {
            "gelf.tcp_tls_cert": gelf.tcp_tls_cert,
            "gelf.tcp_tls_key": gelf.tcp_tls_key,
            "gelf.tcp_client_ca": gelf.tcp_client_ca,
        }
    )


def _log_remote(settings: Settings) -> Iterator[Conflict]:
    feed = settings.log_remote
    if feed is None:
        return
    yield from _without_password("zonemta.log_remote", "udp", feed.udp, feed.allow)
    if feed.udp.port and feed.udp == settings.gelf.udp:
        yield Conflict(
            ("zonemta.log_remote.udp", "gelf.udp"), "expected an address other than gelf.udp"
        )


def _without_password(
    section: str, name: str, address: Address | None, allow: tuple[Network, ...]
) -> Iterator[Conflict]:
    """Yield a conflict if strangers could send to *address*, where nobody needs a password."""
    if address is not None and is_open(address, allow, has_credentials=False):
        yield Conflict(
            (f"{section}.{name}", f"{section}.allow"),
            f"others can reach this address: expected {section}.allow, or a loopback address such "
            "as 127.0.0.1",
        )


def _files(paths: dict[str, Path | None]) -> Iterator[Conflict]:
    for key, path in paths.items():
        if path is not None and not _is_file(path):
            yield Conflict((key,), "expected the path of a file that is there")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _data_dir(settings: Settings) -> Iterator[Conflict]:
    folder = settings.data_dir
    try:
        usable = folder.is_dir() or not folder.exists()
    except OSError:
        usable = False
    if not usable:
        yield Conflict(("data_dir",), "expected the path of a folder")


def _kafka(settings: Settings) -> Iterator[Conflict]:
    kafka = settings.kafka
    sasl = kafka.security_protocol.startswith("SASL")
    given = kafka.sasl_username is not None, kafka.sasl_password is not None
    if sasl and not all(given):
        yield Conflict(
            ("kafka.sasl_username", "kafka.sasl_password", "kafka.security_protocol"),
            "expected sasl_username and sasl_password, as security_protocol asks for them",
        )
    if not sasl and any(given):
        yield Conflict(
            ("kafka.security_protocol", "kafka.sasl_username", "kafka.sasl_password"),
            "expected SASL_SSL or SASL_PLAINTEXT, as sasl_username or sasl_password is set",
        )
    certificates = {
        "kafka.ssl_cafile": kafka.ssl_cafile,
        "kafka.ssl_certfile": kafka.ssl_certfile,
        "kafka.ssl_keyfile": kafka.ssl_keyfile,
    }
    if not kafka.security_protocol.endswith("SSL") and any(certificates.values()):
        yield Conflict(
            ("kafka.security_protocol", *certificates),
            "expected SSL or SASL_SSL, as certificates are set",
        )
    if kafka.ssl_keyfile is not None and kafka.ssl_certfile is None:
        yield Conflict(
            ("kafka.ssl_certfile", "kafka.ssl_keyfile"), "expected the certificate of ssl_keyfile"
        )
    yield from _files(certificates)


def _api_keys(settings: Settings) -> Iterator[Conflict]:
    keys = [key.key.get_secret_value() for key in settings.ingest.api_keys]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            first = keys.index(key)
            yield Conflict(
                (f"ingest.api_keys[{place}].key",), f"expected a key other than api_keys[{first}]'s"
            )


def _cpanel(settings: Settings) -> Iterator[Conflict]:
    servers = settings.cpanel.servers
    names = [server.name for server in servers]
    for place, server in enumerate(servers):
        key = f"cpanel.servers[{place}]"
        if server.name in names[:place]:
            first = names.index(server.name)
            yield Conflict((f"{key}.name",), f"expected a name other than servers[{first}]'s")
        yield from _files({f"{key}.ca_file": server.ca_file})
    if settings.cpanel.compat_single and len(servers) > 1:
        yield Conflict(
            ("cpanel.compat_single", "cpanel.servers"),
            "expected false, as series of several servers differ by the label server",
        )


def _retention(settings: Settings) -> Iterator[Conflict]:
    longest = max(settings.pipeline.windows) + HOUR_MS
    seen = settings.pipeline.dedupe_horizon + HOUR_MS
    for topic in "deltas", "rollups":
        if settings.retention_ms(TOPIC[topic]) < longest:
            yield Conflict(
                (f"topics.retention.{topic}", "pipeline.windows"),
                f"expected {duration_text(longest)} or more: the longest window + 1h",
            )
    if settings.retention_ms(TOPIC["seen"]) < seen:
        yield Conflict(
            ("topics.retention.seen", "pipeline.dedupe_horizon"),
            f"expected {duration_text(seen)} or more: pipeline.dedupe_horizon + 1h",
        )


def _nodes(settings: Settings) -> Iterator[Conflict]:
    for keys, sentence in node_mistakes(settings):
        yield Conflict(keys, sentence)
    yield from _files(cafiles(settings.nodes, settings.zonemta))


def _sinks(settings: Settings) -> Iterator[Conflict]:
    postgres = settings.sinks.postgres
    if postgres is None:
        return
    kept, key = postgres.retention, "sinks.postgres.retention"
    if kept.hourly < kept.events:
        yield Conflict((f"{key}.hourly", f"{key}.events"), f"expected {key}.events or more")
    if kept.daily is not None and kept.daily < kept.hourly:
        yield Conflict((f"{key}.daily", f"{key}.hourly"), f"expected {key}.hourly or more")


_CHECKS: Final[tuple[Callable[[Settings], Iterator[Conflict]], ...]] = (
    _data_dir,
    _kafka,
    _listeners,
    _gelf,
    _log_remote,
    _api_keys,
    _cpanel,
    _retention,
    _nodes,
    _sinks,
)


def warnings(settings: Settings) -> list[str]:
    """Return what an operator should know although it stops nothing: one sentence each."""
    return [
        *_kafka_warnings(settings),
        *_secret_warnings(settings),
        *_open_warnings(settings),
        *_cpanel_warnings(settings),
    ]


def _kafka_warnings(settings: Settings) -> Iterator[str]:
    kafka, topics = settings.kafka, settings.topics
    for key in ("deltas", "seen"):
        if key in topics.retention_bytes:
            yield (
                f"topics.retention_bytes.{key}: a limit in bytes can drop what a restart needs; "
                "then counts are incomplete"
            )
    if kafka.bootstrap_servers is None:
        return
    servers = [Address.parse(server) for server in kafka.bootstrap_servers.split(",")]
    if all(server.is_loopback for server in servers):
        return
    if topics.replication_factor < 3:
        yield (
            f"topics.replication_factor: {topics.replication_factor} keeps fewer than 3 copies "
            "on a cluster and needs fewer than 2 of them to acknowledge (min.insync.replicas): "
            "the loss of one disk can lose acknowledged events"
        )
    if topics.partitions < 12:
        yield (
            f"topics.partitions: {topics.partitions} is few for a cluster; 12 to 48 leave room "
            "for more workers, and the number is fixed once topics exist"
        )
    if not kafka.security_protocol.endswith("SSL"):
        yield (
            f"kafka.security_protocol: {kafka.security_protocol} sends everything, credentials "
            "too, in clear text to a broker that is not on this machine"
        )


def _secret_warnings(settings: Settings) -> Iterator[str]:
    secrets: dict[str, SecretStr | None] = {
        f"ingest.api_keys[{place}].key": key.key
        for place, key in enumerate(settings.ingest.api_keys)
    }
    secrets |= {
        f"cpanel.servers[{place}].token": server.token
        for place, server in enumerate(settings.cpanel.servers)
    }
    secrets["metrics.password"] = settings.metrics.password
    secrets["privacy.hash_key"] = settings.privacy.hash_key
    for name, secret in secrets.items():
        if secret is not None and len(secret.get_secret_value()) < _SHORT_SECRET:
            yield f"{name}: shorter than {_SHORT_SECRET} characters, so it can be guessed"


def _open_warnings(settings: Settings) -> Iterator[str]:
    gelf = settings.gelf
    if gelf.is_on and any(net.prefixlen == 0 for net in gelf.allow):
        yield "gelf.allow: anyone may send messages; UDP senders can also be forged"
    feed = settings.log_remote
    if feed is not None and any(net.prefixlen == 0 for net in feed.allow):
        yield "zonemta.log_remote.allow: anyone may send entries; senders can also be forged"
    for name, section, _credentials, has_credentials in openings(settings):
        if section.listen.is_loopback:
            continue
        if has_credentials and section.tls_cert is None:
            yield f"{name}.tls_cert: without TLS its credentials cross the network in clear text"
        if not has_credentials and any(net.prefixlen == 0 for net in section.allow):
            yield f"{name}.allow: anyone may connect, as no credentials are set"


def _cpanel_warnings(settings: Settings) -> Iterator[str]:
    for place, server in enumerate(settings.cpanel.servers):
        if not server.verify:
            yield (
                f"cpanel.servers[{place}].verify: anyone on the way can pose as the server and "
                "read its token; ca_file makes its own certificate trusted"
            )
