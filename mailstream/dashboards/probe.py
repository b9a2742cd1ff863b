"""The dashboards about the probe's routes, each with one question."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards import probe_panels as panels
from mailstream.dashboards.model import Board, Panel, Query, Row, bars, lines, stat, table
from mailstream.dashboards.probe_panels import ON, P

OVERVIEW: Final = Board(
    "mail-e2e-overview",
    "Mail E2E: overview",
    "Success rates, round trips and errors of all routes.",
    (
        Row("Now", (panels.traffic_light(),)),
        Row(
            "Success (24 h)",
            (
                panels.total_rate("send", "Sent"),
                panels.total_rate("receive", "Received"),
                bars(
                    "Received by route",
                    Query(
                        f"avg by (route) (avg_over_time({P}receive_success{ON}[24h]))", "{{route}}"
                    ),
                    unit="percentunit",
                    **panels.SUCCESS,
                ),
            ),
        ),
        Row("Times", (panels.roundtrip(), panels.success_now())),
        Row("Errors", (panels.errors_by_step(), panels.folders())),
    ),
    (panels.ROUTE, panels.STALE),
    tags=panels.PROBE_TAGS,
)

ROUTE_DETAIL: Final = Board(
    "mail-e2e-route-detail",
    "Mail E2E: route detail",
    "One route, or several side by side.",
    (
        Row("Now", (panels.traffic_light(),)),
        Row(
            "Success (24 h)",
            (panels.success_rate("send", "Sent"), panels.success_rate("receive", "Received")),
        ),
        Row("Times", (panels.roundtrip(), panels.success_now())),
        Row("Phases", (panels.phases(), panels.in_a_row())),
        Row("Latency", (panels.dns_times(), panels.connect_times())),
        Row("Delivery", (panels.folders(), panels.certificates())),
        Row("Errors (7 d)", (panels.errors_by_step(), panels.errors_by_class())),
        Row("Last", (panels.last_times(),)),
    ),
    (panels.ROUTE, panels.STALE),
    tags=panels.PROBE_TAGS,
)


def _worst() -> Panel:
    failed = f"sum by (route, step) (increase({P}test_errors_total{ON}[24h]))"
    return bars(
        "Most errors by route and step (24 h)",
        Query(f"topk(10, {failed})", "{{route}} {{step}}"),
        steps=((1, "orange"), (10, "red")),
    )


def _last_error() -> Panel:
    return table(
        "Last error",
        Query(f"max by (route, from, to) ({P}last_error_info{ON})", "number of the text"),
        description="0: none. The number stands for the error's text, which the probe tells at /errors.",
    )


def _odd_mails() -> Panel:
    return table(
        "Late and duplicate mails (7 d)",
        Query(f"sum by (route) (increase({P}late_mails_total{ON}[7d]))", "late"),
        Query(f"sum by (route) (increase({P}duplicate_mails_total{ON}[7d]))", "duplicate"),
    )


def _outcomes() -> Panel:
    return lines(
        "Outcomes",
        Query(f"sum by (outcome) (increase({P}outcomes_total{ON}[1h]))", "{{outcome}}"),
        stacked=True,
        description="Per hour.",
    )


ERRORS: Final = Board(
    "mail-e2e-errors",
    "Mail E2E: errors",
    "Which route fails at which step, and why.",
    (
        Row("Worst", (_worst(), panels.in_a_row())),
        Row("By step and class", (panels.errors_by_step(), panels.errors_by_class())),
        Row("Replies", (panels.reply_codes(), panels.rate_limited())),
        Row("Outcomes", (_outcomes(), _odd_mails())),
        Row("Last", (_last_error(), panels.certificates(), panels.last_times())),
    ),
    (panels.ROUTE,),
    since="now-7d",
    tags=panels.PROBE_TAGS,
)


def _available(window: str, by: str = "") -> str:
    return f"avg{by} (avg_over_time({P}receive_success{ON}[{window}]))"


def _burn(window: str, by: str = "") -> str:
    return f"(1 - {_available(window, by)}) / (1 - $slo)"


def _availability() -> Row:
    budget = f"1 - {_burn('$window')}"
    burn_steps = ((1, "orange"), (6, "red"))
    return Row(
        "All routes over $window, objective $slo",
        (
            stat(
                "Availability",
                Query(_available("$window"), "received"),
                unit="percentunit",
                **panels.SUCCESS,
            ),
            stat(
                "Error budget left",
                Query(budget, "left"),
                unit="percentunit",
                base="red",
                steps=((0, "orange"), (0.25, "green")),
            ),
            stat("Burn rate", Query(_burn("$window"), "times the budget"), steps=burn_steps),
            stat("Burn rate, last hour", Query(_burn("1h"), "times the budget"), steps=burn_steps),
        ),
    )


def _by_route() -> Row:
    by = " by (route)"
    return Row(
        "By route",
        (
            table(
                "Availability, budget and burn rate",
                Query(_available("$window", by), "availability", "percentunit"),
                Query(f"1 - {_burn('$window', by)}", "budget left", "percentunit"),
                Query(_burn("$window", by), "burn rate", "short"),
                width=24,
            ),
            lines(
                "Burn rate",
                *(Query(_burn(one, by), f"{{{{route}}}} {one}") for one in ("1h", "6h", "3d")),
                steps=((1, "orange"), (6, "red")),
                description="1: the budget is used up exactly at the end of the objective's period.",
            ),
            lines(
                "Error budget left",
                Query(f"1 - {_burn('$window', by)}", "{{route}}"),
                unit="percentunit",
            ),
        ),
    )


def _roundtrips() -> Row:
    last = f"{P}roundtrip_seconds{ON}[$window]"
    return Row(
        "Round trip over $window",
        (
            bars(
                "Average",
                Query(f"avg by (route) (avg_over_time({last}))", "{{route}}"),
                unit="s",
            ),
            bars(
                "95th percentile",
                Query(f"max by (route) (quantile_over_time(0.95, {last}))", "{{route}}"),
                unit="s",
            ),
        ),
    )


SLO: Final = Board(
    "mail-e2e-slo",
    "Mail E2E: SLO",
    "Availability against an objective: error budget and how fast it burns.",
    (_availability(), _by_route(), _roundtrips()),
    (panels.ROUTE, panels.WINDOW, panels.OBJECTIVE),
    since="now-7d",
    tags=panels.PROBE_TAGS,
)
