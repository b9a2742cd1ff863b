"""The exporter's metrics, by its names: ``<prefix>e2e_exporter_<name>``.

Gauges of success change at an outcome alone; after a round that failed the series of the round
trip is gone, so that no average counts an old one.  Series of a route that is gone go with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from producers.sources.probe.attempt import ErrorClass, Failure, Phase
from producers.sources.probe.config import Route
from producers.sources.probe.config_model import ExporterKeys
from producers.sources.probe.outcome import ARRIVED, OF_ROUNDS, SENDING, Outcome, Result

FAMILY: Final = "e2e_exporter_"
ROUTE: Final = ("route", "from", "to")
STEPS: Final = ("send", "receive", "config")
ENDPOINTS: Final = ("smtp", "imap")
MAX_FOLDERS: Final = 50
"""Of one route, whose names a server chooses; the rest are ``_other``."""
OTHER: Final = "_other"

_ERROR_NUMBERS: Final = 1_000_000
_LOOKUPS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CONNECTS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROUNDTRIPS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


def full_prefix(prefix: str) -> str:
    """Return what every name begins with: the configured prefix, and the exporter's own once."""
    return prefix if prefix.endswith(FAMILY) else prefix + FAMILY


def error_number(text: str) -> int:
    """Return the number that ``last_error_info`` shows for an error: 0 to 999,999, equal for equal texts."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % _ERROR_NUMBERS


class ProbeMetrics:
    """What ``/metrics`` of the probe shows of its routes."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        """Register everything in *registry* under *prefix*, which cannot change later."""
        self.prefix = full_prefix(prefix)
        self._registry = registry
        self._routes: dict[str, tuple[str, str, str]] = {}
        self._failures: dict[tuple[str, str], int] = {}
        """Failures in a row, by route and phase (send, receive)."""
        self._per_route: list[MetricWrapperBase] = []
        self._folders: dict[str, set[str]] = {}
        self._outcomes()
        self._times()
        self._errors()
        self._settings()

    def _outcomes(self) -> None:
        gauge = self._gauge
        self._send_success = gauge("send_success", "1: the last mail was accepted; 0: it was not.")
        self._receive_success = gauge(
            "receive_success", "1: the last mail arrived in time; 0: it did not."
        )
        self._receive_attempted = gauge(
            "receive_attempted", "1: the last round looked for its mail; 0: it did not get so far."
        )
        self._receive_skipped = gauge(
            "receive_skipped", "1: the last round did not look for a mail, as none was sent."
        )
        self._send_uncertain = gauge(
            "send_uncertain",
            "1: the connection broke after the last mail's last byte; nobody knows whether it was accepted.",
        )
        self._found_in = gauge(
            "found_in_folder", "1: the folder that the last mail was found in.", (*ROUTE, "folder")
        )
        self._info = gauge("test_info", "1 for each route of the configuration.")
        self._rounds = self._counter("rounds_total", "Rounds by result.", (*ROUTE, "result"))
        self._late = self._counter(
            "late_mails_total", "Mails that arrived after their round had given them up."
        )
        self._duplicates = self._counter(
            "duplicate_mails_total", "Rounds whose mail arrived more than once."
        )

    def _times(self) -> None:
        gauge = self._gauge
        self._roundtrip = gauge(
            "roundtrip_seconds",
            "From accepted to first seen, of the last mail; absent when that did not arrive.",
        )
        self._roundtrips = self._histogram(
            "roundtrip_duration_seconds", "From accepted to first seen.", ROUTE, _ROUNDTRIPS
        )
        self._last_send = gauge(
            "last_send_timestamp", "When the last round began to send, seconds since the epoch."
        )
        self._last_receive = gauge(
            "last_receive_timestamp", "When a mail was last found, seconds since the epoch."
        )
        self._phase = gauge(
            "phase_seconds",
            "Time of each phase of the last round that got to it.",
            (*ROUTE, "phase"),
        )
        self._dns = self._histogram(
            "dns_lookup_seconds",
            "Looking up names: the servers' addresses (type host) and the recipient's mail exchangers (type mx).",
            ("route", "type"),
            _LOOKUPS,
        )
        self._connect = self._histogram(
            "smtp_connect_seconds", "Connecting to the sender's server.", ("route",), _CONNECTS
        )
        self._mx = gauge(
            "mx_records_total", "Mail exchangers of the recipient's domain.", ("route",)
        )
        self._certificate = gauge(
            "tls_cert_expiry_days_remaining",
            "Days until the certificate expires; negative when it has.",
            ("route", "endpoint"),
        )

    def _errors(self) -> None:
        self._test_errors = self._counter(
            "test_errors_total",
            "Rounds that failed, by step (send, receive, config).",
            (*ROUTE, "step"),
        )
        self._by_class = self._counter(
            "errors_by_class_total",
            "Failures by class, those that were tried again included.",
            (*ROUTE, "class"),
        )
        self._last_error = self._gauge(
            "last_error_info",
            "A number that stands for the last error's text, 0 after a success; /errors has the text.",
        )
        self._in_a_row = self._gauge(
            "consecutive_failures",
            "Failures in a row, by phase (send, receive).",
            ("route", "phase"),
        )
        self._limited = self._counter(
            "send_rate_limited_total", "Replies that asked to come again later.", (*ROUTE, "code")
        )
        self._replies = self._counter(
            "smtp_replies_total",
            "The server's last replies to a mail: of its acceptance, or of what was refused.",
            (*ROUTE, "code"),
        )

    def _settings(self) -> None:
        self._config = {
            name: Gauge(
                f"{self.prefix}config_{name}", f"The setting {name}.", registry=self._registry
            )
            for name in (
                "delete_testmail_after_verify",
                "receive_timeout_seconds",
                "receive_poll_seconds",
                "check_interval_seconds",
                "smtp_timeout_seconds",
            )
        }
        self._queue = Gauge(
            f"{self.prefix}queue_depth",
            "Mails in the queue of the ZoneMTA at exporter.queue_url, by type (active, deferred).",
            ["type"],
            registry=self._registry,
        )
        Gauge(
            f"{self.prefix}build_info",
            "1; which program this is.",
            ["version", "revision", "build_date"],
            registry=self._registry,
        ).labels(version("mailstream"), "", "").set(1)

    def configure(self, exporter: ExporterKeys, routes: Iterable[Route]) -> None:
        """Show *routes* and the settings of *exporter*; what is of other routes goes."""
        wanted = {route.name: route.labels for route in routes}
        for name, labels in list(self._routes.items()):
            if wanted.get(name) != labels:
                self._forget(name)
        for name, labels in wanted.items():
            if name not in self._routes:
                self._begin(name, labels)
        for name, gauge in self._config.items():
            gauge.set(float(getattr(exporter, name)))

    def queue(self, depth: Mapping[str, int] | None) -> None:
        """Show the queue's depth by type; None: it is not known."""
        self._queue.clear()
        for kind, number in (depth or {}).items():
            self._queue.labels(kind).set(number)

    def show(self, outcome: Outcome) -> None:
        """Show an outcome, unless its route is gone."""
        labels = outcome.route.labels
        if self._routes.get(outcome.route.name) != labels:
            return
        if outcome.result is Result.LATE:
            self._late.labels(*labels).inc()
        elif outcome.result is Result.DUPLICATE:
            self._duplicates.labels(*labels).inc()
        if outcome.result in OF_ROUNDS:
            self._show_round(outcome, labels)

    def _show_round(self, outcome: Outcome, labels: tuple[str, str, str]) -> None:
        sent, found = outcome.sent, outcome.found
        arrived = outcome.result in ARRIVED
        accepted = arrived or (sent is not None and sent.accepted)
        looked = (
            arrived
            or outcome.result in (Result.LOST, Result.RECEIVE_FAILED)
            or bool(outcome.phases_ms.keys() - SENDING)
        )
        self._rounds.labels(*labels, outcome.result.value).inc()
        self._send_success.labels(*labels).set(accepted)
        self._receive_success.labels(*labels).set(arrived)
        self._receive_attempted.labels(*labels).set(looked)
        self._receive_skipped.labels(*labels).set(not looked)
        self._send_uncertain.labels(*labels).set(sent is not None and sent.uncertain)
        if outcome.began_ms is not None:
            self._last_send.labels(*labels).set(outcome.began_ms / 1000)
        self._show_found(outcome, labels)
        self._show_phases(outcome, labels)
        self._show_failures(outcome, labels, accepted=accepted, arrived=arrived)
        if sent is not None and sent.code is not None:
            self._replies.labels(*labels, str(sent.code)).inc()
        for endpoint, days in outcome.certificate_days.items():
            self._certificate.labels(labels[0], endpoint).set(days)
        if outcome.mx_records is not None:
            self._mx.labels(labels[0]).set(outcome.mx_records)
        if found is not None:
            self._last_receive.labels(*labels).set(found.first_seen_ms / 1000)

    def _show_found(self, outcome: Outcome, labels: tuple[str, str, str]) -> None:
        known = self._folders.setdefault(labels[0], set())
        for folder in known:
            self._found_in.labels(*labels, folder).set(0)
        if outcome.found is not None:
            folder = outcome.found.folder
            if folder not in known and len(known) >= MAX_FOLDERS:
                folder = OTHER
            known.add(folder)
            self._found_in.labels(*labels, folder).set(1)
        if outcome.roundtrip_ms is None:
            _remove(self._roundtrip, labels)
        else:
            self._roundtrip.labels(*labels).set(outcome.roundtrip_ms / 1000)
            self._roundtrips.labels(*labels).observe(outcome.roundtrip_ms / 1000)

    def _show_phases(self, outcome: Outcome, labels: tuple[str, str, str]) -> None:
        route, times = labels[0], outcome.phases_ms
        for phase, ms in times.items():
            self._phase.labels(*labels, phase.value).set(ms / 1000)
        for phase in (Phase.DNS, Phase.IMAP_DNS):
            if phase in times:
                self._dns.labels(route, "host").observe(times[phase] / 1000)
        if outcome.mx_lookup_ms is not None:
            self._dns.labels(route, "mx").observe(outcome.mx_lookup_ms / 1000)
        if Phase.CONNECT in times:
            self._connect.labels(route).observe(times[Phase.CONNECT] / 1000)

    def _show_failures(
        self, outcome: Outcome, labels: tuple[str, str, str], *, accepted: bool, arrived: bool
    ) -> None:
        failure = outcome.failure
        self._count_in_a_row(labels[0], "send", good=accepted)
        if accepted:
            self._count_in_a_row(labels[0], "receive", good=arrived)
        for one in (*outcome.troubles, *((failure,) if failure is not None else ())):
            self._by_class.labels(*labels, one.error_class.value).inc()
            if _asks_to_come_again(one):
                self._limited.labels(*labels, str(one.smtp_code)).inc()
        if outcome.step is not None:
            self._test_errors.labels(*labels, outcome.step).inc()
        text = failure.text if failure is not None else ""
        self._last_error.labels(*labels).set(error_number(text) if text else 0)

    def _count_in_a_row(self, route: str, phase: str, *, good: bool) -> None:
        number = 0 if good else self._failures.get((route, phase), 0) + 1
        self._failures[route, phase] = number
        self._in_a_row.labels(route, phase).set(number)

    def _begin(self, name: str, labels: tuple[str, str, str]) -> None:
        """Begin what counts at 0, so that ``increase()`` sees the first."""
        self._routes[name] = labels
        self._info.labels(*labels).set(1)
        for step in STEPS:
            self._test_errors.labels(*labels, step)
        for kind in ErrorClass:
            self._by_class.labels(*labels, kind.value)
        for result in OF_ROUNDS:
            self._rounds.labels(*labels, result.value)
        for phase in ("send", "receive"):
            self._in_a_row.labels(name, phase)
        self._late.labels(*labels)
        self._duplicates.labels(*labels)

    def _forget(self, name: str) -> None:
        del self._routes[name]
        self._folders.pop(name, None)
        for phase in ("send", "receive"):
            self._failures.pop((name, phase), None)
        for metric in self._per_route:
            metric.remove_by_labels({"route": name})

    def _gauge(self, name: str, meaning: str, labels: tuple[str, ...] = ROUTE) -> Gauge:
        return self._kept(Gauge(self.prefix + name, meaning, labels, registry=self._registry))

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...] = ROUTE) -> Counter:
        return self._kept(Counter(self.prefix + name, meaning, labels, registry=self._registry))

    def _histogram(
        self, name: str, meaning: str, labels: tuple[str, ...], bounds: tuple[float, ...]
    ) -> Histogram:
        metric = Histogram(
            self.prefix + name, meaning, labels, buckets=bounds, registry=self._registry
        )
        return self._kept(metric)

    def _kept(self, metric: Any) -> Any:
        self._per_route.append(metric)
        return metric


def _asks_to_come_again(failure: Failure) -> bool:
    return failure.error_class is ErrorClass.THROTTLED and failure.smtp_code is not None


def _remove(metric: Gauge, labels: tuple[str, ...]) -> None:
    """Remove a series that may not be there."""
    metric.remove_by_labels(dict(zip(ROUTE, labels, strict=True)))
