"""The dashboard that shows everything about the probe's routes."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards import probe_panels as panels
from mailstream.dashboards.model import Board, Row

ALL_IN_ONE: Final = Board(
    "mail-e2e-all-in-one",
    "Mail E2E: all in one",
    "Does mail arrive, how fast, and where does it break.",
    (
        Row("Now", (panels.traffic_light(),)),
        Row(
            "Success (24 h)",
            (
                panels.total_rate("send", "Sent"),
                panels.total_rate("receive", "Received"),
                panels.in_a_row(),
            ),
        ),
        Row(
            "By route",
            (panels.success_rate("send", "Sent"), panels.success_rate("receive", "Received")),
        ),
        Row("Times", (panels.roundtrip(), panels.phases())),
        Row("Latency", (panels.dns_times(), panels.connect_times())),
        Row("Server", (panels.reply_codes(), panels.rate_limited())),
        Row(
            "Delivery",
            (
                panels.mail_exchangers(),
                panels.folders(),
                panels.queue_depth(),
                panels.certificates(),
            ),
        ),
        Row("Errors", (panels.errors_by_class(), panels.errors_by_step())),
        Row("Last", (panels.last_times(),)),
    ),
    (panels.ROUTE, panels.STALE),
    tags=panels.PROBE_TAGS,
)
