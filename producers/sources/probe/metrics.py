"""What the probe shows of its routes; success changes only when a round ends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry

from producers.sources.probe.attempt import ErrorClass, Phase
from producers.sources.probe.config import Options, ProbeConfig, Route
from producers.sources.probe.outcome import Kind, Outcome, Step, step_of
from producers.sources.probe.series import Families

_INFO: Final = 1_000_000
_LOOKUPS: Final = {Phase.DNS: "smtp", Phase.IMAP_DNS: "imap"}
_PHASES: Final = ("send", "receive")


@dataclass(slots=True)
class _Shown:
    """What is remembered of one route."""

    labels: tuple[str, str, str]
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_PHASES, 0))
    folders: set[str] = field(default_factory=set)
    error: dict[str, Any] | None = None
    """The last error, as ``/errors`` tells it."""


def number_of(text: str) -> int:
    """Return the number that stands for a text: below a million, never 0, always the same."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % (_INFO - 1) + 1


class ProbeMetrics:
    """The exporter's series, and the texts of ``/errors``."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        """Register in *registry* under *prefix*."""
        self._of = Families(registry, prefix)
        self._shown: dict[str, _Shown] = {}
        self._of.gauge["build_info"].labels(version("mailstream"), "", "").set(1)
        self.reloaded(successful=True)

    def configure(self, config: ProbeConfig) -> None:
        """Show the routes and options of *config*, and no others."""
        wanted = {route.name: route for route in config.routes}
        for name, shown in list(self._shown.items()):
            if name not in wanted or wanted[name].labels != shown.labels:
                self._of.forget(name)
                del self._shown[name]
        for route in config.routes:
            if route.name not in self._shown:
                self._shown[route.name] = _Shown(route.labels)
                self._begin(route)
        self._show_options(config.options)

    def reloaded(self, *, successful: bool) -> None:
        """Tell whether the file, as it is now, is in use."""
        self._of.gauge["config_last_reload_successful"].set(successful)

    def running(self, number: int) -> None:
        """Tell how many rounds go on."""
        self._of.gauge["routes_running"].set(number)

    def skipped(self, route: Route, rounds: int) -> None:
        """Count rounds that were due while an earlier one still went on."""
        if self._knows(route):
            self._of.counter["rounds_skipped_total"].labels(*route.labels).inc(rounds)

    def left_over(self, mails: int) -> None:
        """Count mails of earlier processes that were deleted."""
        self._of.counter["left_over_mails_total"].inc(mails)

    def queue(self, depth: Mapping[str, int] | None) -> None:
        """Show the depth of the queue by type; None: nobody knows it."""
        gauge = self._of.gauge["queue_depth"]
        gauge.clear()
        for kind, number in (depth or {}).items():
            gauge.labels(kind).set(number)

    def errors(self) -> list[dict[str, Any]]:
        """Return the last error of each route that has had one."""
        return [shown.error for shown in self._shown.values() if shown.error is not None]

    def take(self, outcome: Outcome, error_text: str | None) -> None:
        """Show *outcome*; *error_text* is what people may read of its failure."""
        if not self._knows(outcome.route):
            return  # it was taken out of the file while its last round went on
        labels, counter = outcome.route.labels, self._of.counter
        counter["outcomes_total"].labels(*labels, outcome.kind.value).inc()
        if outcome.kind is Kind.LATE:
            counter["late_mails_total"].labels(*labels).inc()
        elif outcome.kind is Kind.DUPLICATE:
            counter["duplicate_mails_total"].labels(*labels).inc()
        else:
            self._round(outcome)
            self._failure(outcome, error_text)

    def _knows(self, route: Route) -> bool:
        shown = self._shown.get(route.name)
        return shown is not None and shown.labels == route.labels

    def _begin(self, route: Route) -> None:
        """Show what can be shown before the first round, so that ``rate()`` sees the first error."""
        of, labels = self._of, route.labels
        of.gauge["test_info"].labels(*labels).set(1)
        for step in Step:
            of.counter["test_errors_total"].labels(*labels, step.value)
        for kind in ErrorClass:
            of.counter["errors_by_class_total"].labels(*labels, kind.value)
        for outcome in Kind:
            of.counter["outcomes_total"].labels(*labels, outcome.value)
        for name in ("late_mails_total", "duplicate_mails_total", "rounds_skipped_total"):
            of.counter[name].labels(*labels)
        for phase in _PHASES:
            of.gauge["consecutive_failures"].labels(route.name, phase).set(0)

    def _show_options(self, options: Options) -> None:
        gauge = self._of.gauge
        delete = options.delete_testmail_after_verify
        gauge["config_delete_testmail_after_verify"].set(delete)
        gauge["config_receive_timeout_seconds"].set(options.receive_timeout_seconds)
        gauge["config_receive_poll_seconds"].set(options.receive_poll_seconds)
        gauge["config_check_interval_seconds"].set(options.check_interval_seconds)
        gauge["config_smtp_timeout_seconds"].set(options.smtp_timeout_seconds)

    def _round(self, outcome: Outcome) -> None:
        labels, gauge = outcome.route.labels, self._of.gauge
        sent = outcome.sent
        # What was found was sent, however the sending ended.
        accepted = outcome.delivered or (sent is not None and sent.accepted)
        gauge["send_success"].labels(*labels).set(accepted)
        gauge["receive_success"].labels(*labels).set(outcome.delivered)
        gauge["receive_attempted"].labels(*labels).set(outcome.receive_attempted)
        gauge["receive_skipped"].labels(*labels).set(not outcome.receive_attempted)
        gauge["send_uncertain"].labels(*labels).set(sent is not None and sent.uncertain)
        if outcome.send_at_ms is not None:
            gauge["last_send_timestamp"].labels(*labels).set(outcome.send_at_ms / 1000)
        if outcome.found is not None:
            seen_ms = outcome.found.first_seen_ms
            gauge["last_receive_timestamp"].labels(*labels).set(seen_ms / 1000)
            self._folder(labels, outcome.found.folder)
        if outcome.roundtrip_ms is not None and outcome.delivered:
            gauge["roundtrip_seconds"].labels(*labels).set(outcome.roundtrip_ms / 1000)
        else:
            gauge["roundtrip_seconds"].remove(*labels)
        self._phases(outcome)
        self._servers(outcome)

    def _folder(self, labels: tuple[str, ...], folder: str) -> None:
        gauge, folders = self._of.gauge["found_in_folder"], self._shown[labels[0]].folders
        for other in folders:
            gauge.labels(*labels, other).set(0)
        folders.add(folder)
        gauge.labels(*labels, folder).set(1)

    def _phases(self, outcome: Outcome) -> None:
        labels, name = outcome.route.labels, outcome.route.name
        gauge, histogram = self._of.gauge["phase_seconds"], self._of.histogram
        for phase in Phase:
            ms = outcome.phases_ms.get(phase)
            if ms is None:
                gauge.remove(*labels, phase.value)
                continue
            gauge.labels(*labels, phase.value).set(ms / 1000)
            if phase in _LOOKUPS:
                histogram["dns_lookup_seconds"].labels(name, _LOOKUPS[phase]).observe(ms / 1000)
            elif phase is Phase.CONNECT:
                histogram["smtp_connect_seconds"].labels(name).observe(ms / 1000)
        if outcome.mx_lookup_ms is not None:
            seconds = outcome.mx_lookup_ms / 1000
            histogram["dns_lookup_seconds"].labels(name, "mx").observe(seconds)

    def _servers(self, outcome: Outcome) -> None:
        labels, name = outcome.route.labels, outcome.route.name
        gauge, counter = self._of.gauge, self._of.counter
        if outcome.mail_servers is not None:
            gauge["mx_records_total"].labels(name).set(len(outcome.mail_servers))
        for endpoint, days in outcome.certificate_days.items():
            gauge["tls_cert_expiry_days_remaining"].labels(name, endpoint).set(days)
        if outcome.sent is not None and outcome.sent.code is not None:
            counter["smtp_replies_total"].labels(*labels, str(outcome.sent.code)).inc()
        for code in outcome.throttled:
            counter["send_rate_limited_total"].labels(*labels, str(code)).inc()

    def _failure(self, outcome: Outcome, text: str | None) -> None:
        shown, labels = self._shown[outcome.route.name], outcome.route.labels
        of, failure = self._of, outcome.failure
        sent = outcome.kind not in (Kind.SEND_FAILED, Kind.UNCERTAIN)
        shown.failures["send"] = 0 if sent else shown.failures["send"] + 1
        if outcome.delivered:
            shown.failures["receive"] = 0
        elif sent:
            shown.failures["receive"] += 1
        for phase, number in shown.failures.items():
            of.gauge["consecutive_failures"].labels(outcome.route.name, phase).set(number)
        if outcome.delivered or failure is None or text is None:
            of.gauge["last_error_info"].labels(*labels).set(0)
            return
        of.counter["test_errors_total"].labels(*labels, step_of(failure).value).inc()
        of.counter["errors_by_class_total"].labels(*labels, failure.error_class.value).inc()
        number = number_of(text)
        of.gauge["last_error_info"].labels(*labels).set(number)
        shown.error = {
            **dict(zip(("route", "from", "to"), labels, strict=True)),
            "timestamp": outcome.at_ms / 1000,
            "outcome": outcome.kind.value,
            "step": step_of(failure).value,
            "phase": failure.phase.value,
            "class": failure.error_class.value,
            "error": text,
            "info": number,
        }
