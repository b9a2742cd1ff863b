"""Panels about the probe's routes that several dashboards show."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards.model import Panel, Query, Variable, bars, gauge, lines, stat, table

P: Final = "mail_e2e_exporter_"
"""What the names of the probe's metrics begin with; the generator puts another in its place."""
ON: Final = '{route=~"$route"}'

ROUTE: Final = Variable("route", "Route", "", f"label_values({P}test_info, route)", many=True)
STALE: Final = Variable("stale_minutes", "Stale after minutes", "15")
WINDOW: Final = Variable(
    "window", "Window", "1d", choices=("1h", "6h", "12h", "1d", "3d", "7d", "30d")
)
OBJECTIVE: Final = Variable("slo", "Objective", "0.99", choices=("0.99", "0.995", "0.999"))

BAD_TO_GOOD: Final = ((0.95, "orange"), (0.99, "green"))
SUCCESS: Final = {"lowest": 0, "highest": 1, "base": "red", "steps": BAD_TO_GOOD}
LIGHT: Final = ((2, "OK", "green"), (1, "STALE", "orange"), (0, "FAIL", "red"))

PROBE_TAGS: Final = ("mailstream", "mail-e2e")


def traffic_light() -> Panel:
    """Return OK, STALE or FAIL per route; a route that never ran is stale."""
    fresh = f"(1 + (time() - {P}last_send_timestamp{ON} < bool 60 * $stale_minutes))"
    light = f"{P}send_success{ON} * {P}receive_success{ON} * {fresh}"
    never = f"max by (route) ({P}test_info{ON})"
    return stat(
        "Routes",
        Query(f"min by (route) ({light}) or {never}", "{{route}}"),
        description="OK: the last mail arrived. STALE: it did, but that is longer ago than $stale_minutes min, or no round has ended yet. FAIL: it did not arrive.",
        names=LIGHT,
        width=24,
        height=6,
    )


def success_rate(what: str, title: str) -> Panel:
    """Return the share of time over 24 h in which the last mail was sent (received)."""
    return gauge(
        title,
        Query(f"avg by (route) (avg_over_time({P}{what}_success{ON}[24h]))", "{{route}}"),
        unit="percentunit",
        **SUCCESS,
    )


def total_rate(what: str, title: str) -> Panel:
    """Return that share over all routes."""
    return stat(
        title,
        Query(f"avg(avg_over_time({P}{what}_success{ON}[24h]))", "all routes"),
        unit="percentunit",
        **SUCCESS,
    )


def roundtrip() -> Panel:
    """Return the last round trip of each route over time."""
    return lines(
        "Round trip",
        Query(f"max by (route) ({P}roundtrip_seconds{ON})", "{{route}}"),
        unit="s",
        description="From accepted to first seen; no point where the mail did not arrive.",
    )


def success_now() -> Panel:
    """Return sent and received, 1 or 0, over time."""
    return lines(
        "Success (1/0)",
        Query(f"min by (route) ({P}send_success{ON})", "{{route}} sent"),
        Query(f"min by (route) ({P}receive_success{ON})", "{{route}} received"),
        lowest=0,
        highest=1,
    )


def dns_times() -> Panel:
    """Return p50 and p95 of looking up names."""
    rate = f"sum by (le, route, type) (rate({P}dns_lookup_seconds_bucket{ON}[$__rate_interval]))"
    return _quantiles("DNS look-up p50 / p95", rate, "{{route}} {{type}}")


def connect_times() -> Panel:
    """Return p50 and p95 of connecting to the sender's server."""
    rate = f"sum by (le, route) (rate({P}smtp_connect_seconds_bucket{ON}[$__rate_interval]))"
    return _quantiles("SMTP connect p50 / p95", rate, "{{route}}")


def _quantiles(title: str, rate: str, name: str) -> Panel:
    return lines(
        title,
        Query(f"histogram_quantile(0.5, {rate})", f"{name} p50"),
        Query(f"histogram_quantile(0.95, {rate})", f"{name} p95"),
        unit="s",
        description="Needs a time range or interval that covers several rounds.",
    )


def reply_codes() -> Panel:
    """Return the sender's server's replies by code."""
    return bars(
        "SMTP reply codes (24 h)",
        Query(f"sum by (code) (increase({P}smtp_replies_total{ON}[24h]))", "{{code}}"),
    )


def rate_limited() -> Panel:
    """Return replies that asked to come again later."""
    return lines(
        "Asked to come again later",
        Query(
            f"sum by (route, code) (increase({P}send_rate_limited_total{ON}[1h]))",
            "{{route}} {{code}}",
        ),
        description="Greylisting and rate limits, per hour.",
    )


def mail_exchangers() -> Panel:
    """Return how many mail exchangers each recipient domain has."""
    return table("MX records", Query(f"max by (route) ({P}mx_records_total{ON})", "MX records"))


def queue_depth() -> Panel:
    """Return the depth of the queue that the probe was told to ask."""
    return lines(
        "Queue depth",
        Query(f"max by (type) ({P}queue_depth)", "{{type}}"),
        description="Of the ZoneMTA at exporter.queue_url; empty where none is set.",
    )


def folders() -> Panel:
    """Return where the last mails were found."""
    return table(
        "Found in folder",
        Query(f"max by (route, folder) ({P}found_in_folder{ON}) == 1", "found"),
        description="The folder of the last mail; in Junk or Spam it is not delivered well.",
    )


def errors_by_step() -> Panel:
    """Return failed rounds by route and step over a week."""
    return table(
        "Errors by route and step (7 d)",
        Query(f"sum by (route, step) (increase({P}test_errors_total{ON}[7d]))", "errors"),
    )


def errors_by_class() -> Panel:
    """Return failures by class over time."""
    return lines(
        "Errors by class",
        Query(
            f"sum by (route, class) (increase({P}errors_by_class_total{ON}[1h])) > 0"
            f" or sum by (route, class) (0 * {P}errors_by_class_total{ON})",
            "{{route}} {{class}}",
        ),
        description="Per hour, tries that were repeated included.",
    )


def last_times() -> Panel:
    """Return when each route last sent and last received."""
    by = "max by (route, from, to)"
    return table(
        "Last sent and received",
        Query(f"{by} ({P}last_send_timestamp{ON}) * 1000", "last sent", "dateTimeAsIso"),
        Query(f"{by} ({P}last_receive_timestamp{ON}) * 1000", "last received", "dateTimeAsIso"),
        width=24,
    )


def certificates() -> Panel:
    """Return how long certificates are still valid."""
    return bars(
        "Certificates: days left",
        Query(
            f"min by (route, endpoint) ({P}tls_cert_expiry_days_remaining{ON})",
            "{{route}} {{endpoint}}",
        ),
        unit="d",
        base="red",
        steps=((3, "orange"), (14, "green")),
    )


def phases() -> Panel:
    """Return how long each phase of the last round took."""
    return lines(
        "Phases",
        Query(f"max by (route, phase) ({P}phase_seconds{ON})", "{{route}} {{phase}}"),
        unit="s",
        stacked=True,
    )


def in_a_row() -> Panel:
    """Return failures in a row."""
    return bars(
        "Failures in a row",
        Query(f"max by (route, phase) ({P}consecutive_failures{ON})", "{{route}} {{phase}}"),
        steps=((1, "orange"), (3, "red")),
    )
