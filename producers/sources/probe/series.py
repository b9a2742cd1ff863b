"""Families of the probe's ``/metrics``: names, labels and meanings, under the configured prefix."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ROUTE: Final = ("route", "from", "to")

GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "send_success": ("1: the last round's mail was accepted, 0: it was not.", ROUTE),
    "receive_success": ("1: the last round's mail was found in time, 0: it was not.", ROUTE),
    "roundtrip_seconds": (
        "From the beginning of the last round until its mail was seen; absent after a failed one.",
        ROUTE,
    ),
    "last_send_timestamp": ("When the last round began to send, seconds since the epoch.", ROUTE),
    "last_receive_timestamp": (
        "When a mail was last seen in time, seconds since the epoch.",
        ROUTE,
    ),
    "last_error_info": (
        "A number that stands for the text of the last error (see /errors); 0: the last round was fine.",
        ROUTE,
    ),
    "test_info": ("1 for each configured route.", ROUTE),
    "receive_attempted": ("1: the last round's mail was looked for.", ROUTE),
    "receive_skipped": ("1: the last round's mail was not looked for, as it was not sent.", ROUTE),
    "send_uncertain": (
        "1: whether the last round's mail was accepted is unknown; the connection broke.",
        ROUTE,
    ),
    "found_in_folder": (
        "1: the last mail that was found was in this folder, 0: an earlier one was.",
        (*ROUTE, "folder"),
    ),
    "phase_seconds": (
        "How long each phase of the last round took (dns to data: sending; imap_dns to verify: receiving).",
        (*ROUTE, "phase"),
    ),
    "consecutive_failures": (
        "Rounds in a row that failed in this phase (send, receive).",
        ("route", "phase"),
    ),
    "mx_records_total": ("Mail exchangers of the recipient's domain.", ("route",)),
    "tls_cert_expiry_days_remaining": (
        "Days until the certificate of an endpoint (smtp, imap) expires; negative: it has.",
        ("route", "endpoint"),
    ),
    "queue_depth": ("Messages in the queue of exporter.queue_url, by type.", ("type",)),
    "build_info": ("1; the version is in the labels.", ("version", "revision", "build_date")),
    "config_delete_testmail_after_verify": ("1: mails are deleted once they were found.", ()),
    "config_receive_timeout_seconds": ("How long a mail is waited for.", ()),
    "config_receive_poll_seconds": ("How often a mailbox is looked into.", ()),
    "config_check_interval_seconds": ("How often each route is tried.", ()),
    "config_smtp_timeout_seconds": ("How long an SMTP server may take to answer.", ()),
    "config_last_reload_successful": ("0: the file has changed and cannot be used.", ()),
    "routes_running": ("Rounds that go on now.", ()),
}
COUNTERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "test_errors_total": ("Failed rounds by step (send, receive, config).", (*ROUTE, "step")),
    "errors_by_class_total": ("Failed rounds by what failed.", (*ROUTE, "class")),
    "send_rate_limited_total": (
        "Replies that asked to come again (4xx), by code; tries that were repeated count, too.",
        (*ROUTE, "code"),
    ),
    "smtp_replies_total": ("Last replies of rounds, by SMTP code.", (*ROUTE, "code")),
    "outcomes_total": (
        "Outcomes; those of one round, late mails and duplicates.",
        (*ROUTE, "outcome"),
    ),
    "late_mails_total": ("Mails of earlier rounds that were seen after their time.", ROUTE),
    "duplicate_mails_total": ("Mails of which another copy was seen.", ROUTE),
    "rounds_skipped_total": ("Rounds that were due while an earlier one still went on.", ROUTE),
    "left_over_mails_total": ("Mails of earlier processes that were deleted.", ()),
}
HISTOGRAMS: Final[dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]]] = {
    "dns_lookup_seconds": (
        "Time of look-ups, by type (smtp and imap: the server's address; mx: the recipient's domain).",
        ("route", "type"),
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    ),
    "smtp_connect_seconds": (
        "Time to connect to the SMTP server.",
        ("route",),
        (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    ),
}


class Families:
    """All families under one prefix; a family's name is without it here."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        """Register in *registry*."""
        self.gauge = {
            name: Gauge(prefix + name, meaning, labels, registry=registry)
            for name, (meaning, labels) in GAUGES.items()
        }
        self.counter = {
            name: Counter(prefix + name, meaning, labels, registry=registry)
            for name, (meaning, labels) in COUNTERS.items()
        }
        self.histogram = {
            name: Histogram(prefix + name, meaning, labels, buckets=bounds, registry=registry)
            for name, (meaning, labels, bounds) in HISTOGRAMS.items()
        }

    def forget(self, route: str) -> None:
        """Remove every series of *route*."""
        kinds = (self.gauge, GAUGES), (self.counter, COUNTERS), (self.histogram, HISTOGRAMS)
        for families, declared in kinds:
            for name, family in families.items():
                if "route" in declared[name][1]:
                    family.remove_by_labels({"route": route})
