"""Dashboards about what carries the mail: nodes, stores, and the pipeline."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards.mail_panels import WINDOW, complete, many, over_time
from mailstream.dashboards.model import Board, Panel, Query, Row, bars, lines, stat, table

_TAGS: Final = ("mailstream", "mailstream-service")
_UP: Final = ((1, "UP", "green"), (0, "DOWN", "red"))
_NODE: Final = '{node=~"$node"}'


def _up() -> Panel:
    return stat(
        "Targets",
        Query("min by (source, origin) (mailstream_up)", "{{source}} {{origin}}"),
        names=_UP,
        width=18,
    )


def _percent_full(title: str, free: str, size: str, name: str) -> Panel:
    return lines(
        title,
        Query(f"1 - {free}{_NODE} / {size}{_NODE}", name),
        unit="percentunit",
        lowest=0,
        highest=1,
    )


NODES: Final = Board(
    "mailstream-nodes",
    "Mail: sources, nodes and queues",
    "What comes from where, what waits, and how the machines are.",
    (
        Row("Sources", (complete(), _up())),
        Row(
            "Events",
            (
                over_time("Events by node and zone", "mail_node_events", "node, zone, event_type"),
                table(
                    "Last heard of",
                    Query(
                        "max by (origin) (mailstream_last_received_timestamp_seconds) * 1000",
                        "received",
                        "dateTimeAsIso",
                    ),
                    Query(
                        "max by (origin) (mailstream_event_delay_seconds)", "delay of events", "s"
                    ),
                ),
                lines(
                    "Held by senders",
                    Query(
                        "max by (source, origin) (mailstream_sender_buffered_events)",
                        "{{source}} {{origin}}",
                    ),
                ),
                lines(
                    "Lost by senders",
                    Query(
                        "sum by (source, origin) (increase(mailstream_sender_dropped_events_total[1h]))",
                        "{{source}} {{origin}} given up",
                    ),
                    Query(
                        "sum by (source, origin) (increase(mailstream_sender_missing_events_total[1h]))",
                        "{{source}} {{origin}} missing",
                    ),
                    description="Per hour.",
                ),
            ),
        ),
        Row(
            "Queues",
            (
                lines(
                    "Messages by zone and state",
                    Query(
                        "max by (cluster, zone, state) (mail_zonemta_queue_messages)",
                        "{{cluster}} {{zone}} {{state}}",
                    ),
                    stacked=True,
                ),
                lines(
                    "Oldest message",
                    Query(
                        "max by (cluster, zone) (mail_zonemta_queue_oldest_seconds)",
                        "{{cluster}} {{zone}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Messages that wait for longer",
                    Query(
                        "max by (zone, seconds) (mail_mongodb_queue_older_messages)",
                        "{{zone}} over {{seconds}} s",
                    ),
                    description="From ZoneMTA's database (`nodes.mongodb[].zonemta_database`).",
                ),
                table(
                    "Messages by recipient domain",
                    Query(
                        "topk(50, max by (domain) (mail_mongodb_queue_domain_messages))", "messages"
                    ),
                    description="From ZoneMTA's database (`nodes.mongodb[].zonemta_database`).",
                ),
            ),
        ),
        Row(
            "Machines",
            (
                lines("Load (1 min)", Query(f"mail_system_load1{_NODE}", "{{node}}")),
                _percent_full(
                    "Memory in use",
                    "mail_system_memory_available_bytes",
                    "mail_system_memory_size_bytes",
                    "{{node}}",
                ),
                _percent_full(
                    "File systems in use",
                    "mail_system_filesystem_available_bytes",
                    "mail_system_filesystem_size_bytes",
                    "{{node}} {{mountpoint}}",
                ),
                stat(
                    "Programs",
                    Query(
                        f"min by (node, process) (mail_system_process_up{_NODE})",
                        "{{node}} {{process}}",
                    ),
                    names=_UP,
                    width=12,
                    height=8,
                ),
            ),
        ),
    ),
    (WINDOW, many("node", "Node", "mail_system_load1")),
    tags=_TAGS,
)

STORES: Final = Board(
    "mailstream-stores",
    "Mail: MongoDB, Redis and WildDuck",
    "The databases under the mail servers.",
    (
        Row(
            "MongoDB",
            (
                table(
                    "Members",
                    Query("max by (member, state) (mail_mongodb_member_state)", "in this state"),
                ),
                lines(
                    "Behind the primary",
                    Query(
                        f"max by (member) (mail_mongodb_member_lag_seconds{_NODE} and on (node, member) mail_mongodb_member_up == 1)",
                        "{{member}}",
                    ),
                    unit="s",
                ),
                stat(
                    "Primaries",
                    Query(f"mail_mongodb_primaries{_NODE}", "{{node}}"),
                    base="red",
                    steps=((1, "green"),),
                ),
                lines(
                    "Operations per second",
                    Query(
                        f"sum by (type) (rate(mail_mongodb_operations_total{_NODE}[5m]))",
                        "{{type}}",
                    ),
                    width=18,
                ),
            ),
        ),
        Row(
            "Redis",
            (
                lines(
                    "Memory",
                    Query(f"mail_redis_memory_used_bytes{_NODE}", "{{node}} used"),
                    Query(f"mail_redis_memory_max_bytes{_NODE}", "{{node}} limit (0: none)"),
                    unit="bytes",
                ),
                lines(
                    "Keys dropped per hour",
                    Query(f"increase(mail_redis_evicted_keys_total{_NODE}[1h])", "{{node}}"),
                    steps=((1, "red"),),
                ),
            ),
        ),
        Row(
            "WildDuck",
            (
                stat("Accounts", Query("max(mail_wildduck_users)", "accounts")),
                lines(
                    "Storage",
                    Query("max(mail_wildduck_storage_used_bytes)", "used"),
                    Query("max(mail_wildduck_storage_allowed_bytes)", "allowed"),
                    unit="bytes",
                    width=18,
                ),
            ),
        ),
    ),
    (many("node", "Node", "mail_redis_memory_used_bytes"),),
    tags=_TAGS,
)

PIPELINE: Final = Board(
    "mailstream-pipeline",
    "mailstream: pipeline health",
    "Whether the numbers can be trusted, and what the pipeline is doing.",
    (
        Row(
            "Now",
            (
                complete(),
                stat(
                    "Delay",
                    Query("max(mailstream_delay_seconds)", "delay"),
                    unit="s",
                    steps=((10, "orange"), (30, "red")),
                ),
                stat(
                    "Records that wait",
                    Query("sum(mailstream_lag)", "records"),
                    steps=((10_000, "orange"), (100_000, "red")),
                ),
                stat(
                    "Stopped partitions",
                    Query("sum(mailstream_partitions_stopped)", "partitions"),
                    steps=((1, "red"),),
                ),
            ),
        ),
        Row(
            "Work",
            (
                lines(
                    "Events per second",
                    Query("sum by (source) (rate(mail_events_total[5m]))", "{{source}}"),
                ),
                lines("Lag", Query("sum by (topic) (mailstream_lag)", "{{topic}}")),
                lines(
                    "Transaction time p95",
                    Query(
                        "histogram_quantile(0.95, sum by (le) (rate(mailstream_transaction_seconds_bucket[5m])))",
                        "p95",
                    ),
                    unit="s",
                ),
                lines(
                    "Transactions per second",
                    Query("sum(rate(mailstream_transactions_total[5m]))", "committed"),
                    Query("sum(rate(mailstream_transactions_failed_total[5m]))", "failed"),
                ),
            ),
        ),
        Row(
            "What was left out",
            (
                table(
                    "Dead letters since the start",
                    Query("sum by (source, reason) (mail_events_dead_total)", "records"),
                ),
                lines(
                    "Left out per second",
                    Query("sum(rate(mail_events_duplicate_total[5m]))", "duplicate"),
                    Query("sum(rate(mail_events_late_total[5m]))", "late"),
                    Query("sum(rate(mail_events_future_total[5m]))", "future"),
                    Query("sum(rate(mail_events_ignored_total[5m]))", "ignored"),
                    Query("sum(rate(mail_events_shadow_total[5m]))", "shadow"),
                ),
                bars(
                    "Keys without a name",
                    Query("sum by (family) (mailstream_keys_folded)", "{{family}}"),
                ),
                lines(
                    "Spools",
                    Query("max by (job) (mailstream_spool_bytes)", "{{job}}"),
                    unit="bytes",
                ),
                lines(
                    "Free space for spools and the local Kafka",
                    Query("min by (instance) (mailstream_data_free_bytes)", "{{instance}}"),
                    unit="bytes",
                ),
            ),
        ),
        Row(
            "Components",
            (
                lines(
                    "Received per second",
                    Query(
                        "sum by (component) (rate(mailstream_component_received_events_total[5m]))",
                        "{{component}}",
                    ),
                ),
                lines(
                    "Discarded per second",
                    Query(
                        "sum by (component, reason) (rate(mailstream_component_discarded_events_total[5m]))",
                        "{{component}} {{reason}}",
                    ),
                ),
                lines(
                    "Polls",
                    Query(
                        "max by (source, origin) (time() - mailstream_poll_last_success_timestamp_seconds)",
                        "{{source}} {{origin}}",
                    ),
                    unit="s",
                    description="Time since the last success.",
                ),
                lines(
                    "Dedupe",
                    Query("min(mailstream_dedupe_horizon_seconds)", "horizon"),
                    unit="s",
                ),
            ),
        ),
    ),
    tags=_TAGS,
)

_ROUTE: Final = '{route=~"$route"}'
ROUTES: Final = Board(
    "mailstream-routes",
    "Mail: probe routes as the pipeline counts them",
    "Rounds of all probes by outcome, each counted once; two probes may run one route.",
    (
        Row("Now", (complete(),)),
        Row(
            "Rounds",
            (
                over_time(
                    "By outcome",
                    "mail_route_probes",
                    "route, origin, outcome",
                    'route=~"$route"',
                ),
                lines(
                    "Round trip p95",
                    Query(
                        f"histogram_quantile(0.95, sum by (le, route) (rate(mail_route_roundtrip_seconds_bucket{_ROUTE}[30m])))",
                        "{{route}}",
                    ),
                    unit="s",
                ),
                table(
                    "Last success",
                    Query(
                        f"max by (route, origin) (mail_route_last_success_timestamp_seconds{_ROUTE}) * 1000",
                        "at",
                        "dateTimeAsIso",
                    ),
                    width=24,
                ),
            ),
        ),
    ),
    (WINDOW, many("route", "Route", "mail_route_probes")),
    tags=_TAGS,
)

BOARDS: Final[tuple[Board, ...]] = (NODES, STORES, ROUTES, PIPELINE)
