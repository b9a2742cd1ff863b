"""Asking our own services how they are: readiness, and the few numbers of the status line."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from pipeline.kit.settings import Settings
from pipeline.kit.settings_listeners import openings
from pipeline.kit.values import Address, duration_ms

ANSWER_S: Final = 5.0

_WANTED: Final = (
    "mail_events_total",
    "mail_events_dead_total",
    "mail_events_duplicate_total",
    "mailstream_lag",
    "mailstream_delay_seconds",
    "mailstream_windows_complete",
)
ANY_ADDRESS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  not bound
"""What "all addresses" is to a client."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one worker says."""

    events: float = 0.0
    """Events committed since its start."""
    dead: float = 0.0
    duplicates: float = 0.0
    lag: float = 0.0
    """Records that wait, over its partitions."""
    delay_s: float = 0.0
    partitions: int = 0
    """How many it holds; a worker beyond their number holds none, and stands by."""
    incomplete: frozenset[str] = frozenset()
    """Windows that do not show everything yet."""


@dataclass
class Totals:
    """The numbers of all workers, kept up over their restarts, which begin at zero."""

    events: float = 0.0
    dead: float = 0.0
    duplicates: float = 0.0
    _last: dict[str, Reading] = field(default_factory=dict)

    def take(self, worker: str, reading: Reading) -> None:
        """Add what *worker* did since its last reading."""
        last = self._last.get(worker, Reading())
        if reading.events < last.events or reading.dead < last.dead:
            last = Reading()
        self.events += reading.events - last.events
        self.dead += reading.dead - last.dead
        self.duplicates += max(0.0, reading.duplicates - last.duplicates)
        self._last[worker] = reading


def read(metrics: str) -> Reading:
    """Return the numbers in a worker's ``/metrics``; only the lines wanted are parsed."""
    lines = [line for line in metrics.splitlines() if line.startswith(_WANTED)]
    sums = dict.fromkeys(_WANTED, 0.0)
    incomplete = set()
    delay_s, partitions = 0.0, 0
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            if sample.name == "mailstream_windows_complete" and not sample.value:
                incomplete.add(sample.labels["window"])
            if sample.name == "mailstream_lag":
                partitions += 1
            if sample.name == "mailstream_delay_seconds":
                delay_s = max(delay_s, sample.value)
            if sample.name in sums:
                sums[sample.name] += sample.value
    return Reading(
        events=sums["mail_events_total"],
        dead=sums["mail_events_dead_total"],
        duplicates=sums["mail_events_duplicate_total"],
        lag=sums["mailstream_lag"],
        delay_s=delay_s,
        partitions=partitions,
        incomplete=frozenset(incomplete),
    )


class Probe:
    """A client of our own listeners, with their credentials."""

    def __init__(self, settings: Settings) -> None:
        """Read credentials and certificates from *settings*."""
        metrics = settings.metrics
        auth = None
        if metrics.username is not None and metrics.password is not None:
            auth = httpx.BasicAuth(metrics.username, metrics.password.get_secret_value())
        listeners = {one.section: one.listener for one in openings(settings)}
        self._tls = {name for name, one in listeners.items() if one.tls_cert is not None}
        certificates = {one.tls_cert for one in listeners.values()}
        self._auth = auth
        self.client = httpx.AsyncClient(
            timeout=ANSWER_S,
            headers={"Accept-Encoding": "identity"},  # to compress costs more than to copy
            trust_env=False,  # a proxy has no business between us and ourselves
            verify=_trusting(*(str(path) for path in certificates if path is not None)),
        )

    def producer_url(self, name: str, address: Address) -> str:
        """Return where to reach the producer that listens on *address*."""
        return _url(address, tls=name in self._tls)

    def ingest_url(self, address: Address) -> str:
        """Return where to reach the ingest service that listens on *address*."""
        return self.producer_url("ingest", address)

    def metrics_url(self, address: Address) -> str:
        """Return where to reach the worker that listens on *address*."""
        return _url(address, tls="metrics" in self._tls)

    async def ingest_is_ready(self, address: Address) -> bool:
        """Tell whether the ingest service takes events."""
        return await self._is_ok(f"{self.ingest_url(address)}/health", None)

    async def worker_is_ready(self, address: Address) -> bool:
        """Tell whether the worker has folded all its partitions."""
        return await self._is_ok(f"{self.metrics_url(address)}/ready", self._auth)

    async def reading(self, address: Address) -> Reading | None:
        """Return the worker's numbers, or None if it does not answer."""
        try:
            answer = await self.client.get(
                f"{self.metrics_url(address)}/metrics",
                # Nothing else is rendered, and the windows' zeros are left to Prometheus.
                params={"name[]": _WANTED},
                auth=self._auth or httpx.USE_CLIENT_DEFAULT,
            )
        except httpx.HTTPError:
            return None
        return read(answer.text) if answer.is_success else None

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def _is_ok(self, url: str, auth: httpx.Auth | None) -> bool:
        try:
            answer = await self.client.get(url, auth=auth or httpx.USE_CLIENT_DEFAULT)
        except httpx.HTTPError:
            return False
        return answer.is_success


def status_line(
    readings: Mapping[str, Reading | None], rate: float, totals: Totals, more: str
) -> str:
    """Return the line that tells how things are.

    Args:
        readings: The newest reading of each worker; None for one that does not answer.
        rate: Events per second since the line before.
        totals: All since the start.
        more: What else is to be told; may be empty.
    """
    answered = [reading for reading in readings.values() if reading is not None]
    silent = [name for name, reading in readings.items() if reading is None]
    parts = [
        f"{rate:,.1f} events/s",
        f"lag {sum(reading.lag for reading in answered):,.0f}",
        f"delay {max((reading.delay_s for reading in answered), default=0.0):.1f} s",
        f"dead {totals.dead:,.0f}",
        f"duplicates {totals.duplicates:,.0f}",
        _completeness(answered) if answered else "no worker answers",
    ]
    if silent and answered:
        parts.append(f"no answer from {', '.join(silent)}")
    return " | ".join([*parts, more] if more else parts)


def _completeness(readings: Sequence[Reading]) -> str:
    holding = [reading for reading in readings if reading.partitions]
    if not holding:
        return "no partition is assigned"
    incomplete = set().union(*(reading.incomplete for reading in holding))
    if incomplete:
        return f"windows incomplete: {' '.join(sorted(incomplete, key=duration_ms))}"
    return "windows complete"


def _url(address: Address, *, tls: bool) -> str:
    host = ANY_ADDRESS.get(address.host, address.host)
    return f"http{'s' if tls else ''}://{Address(host, address.port)}"


def _trusting(*certificates: str) -> ssl.SSLContext:
    """Trust exactly our own certificates; their names are the outside's, not 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # our own certificate is trust enough
    for path in certificates:
        context.load_verify_locations(path)
    return context
