"""Dashboards about mail: overview, one user, addresses, providers, bounces."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards.mail_panels import (
    ATTEMPTS,
    OUTCOMES,
    WINDOW,
    W,
    complete,
    different,
    many,
    number,
    over_time,
    share,
    top,
)
from mailstream.dashboards.model import (
    Board,
    Panel,
    Query,
    Row,
    lines,
    pie,
    stat,
    table,
)

_TAGS: Final = ("mailstream", "mail")

OVERVIEW: Final = Board(
    "mailstream-overview",
    "Mail: overview",
    "What was sent, what arrived, what failed and whose it was.",
    (
        Row(
            "Now",
            (
                complete(),
                number("Sent", "mail_user_events", 'event_type="sent"'),
                number("Delivered", "mail_user_events", 'event_type="delivered"'),
                number("Bounced", "mail_user_events", 'event_type="bounced"'),
            ),
        ),
        Row(
            "Events",
            (
                over_time("Customer mail by outcome", "mail_user_events", "event_type"),
                over_time("All mail by direction", "mail_node_events", "direction", stacked=True),
                lines(
                    "Events per second by source",
                    Query("sum by (source) (rate(mail_events_total[5m]))", "{{source}}"),
                ),
                lines(
                    "Outcomes per second by provider",
                    Query(
                        "sum by (provider) (rate(mail_provider_outcomes_total[5m]))", "{{provider}}"
                    ),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Top",
            (
                top("Senders", "mail_user_events", "user", 'event_type="sent"'),
                top("Sender domains", "mail_domain_events", "domain"),
                top("Recipient domains", "mail_destination_events", "domain"),
                top("Failures", "mail_failures", "provider, bounce_class"),
            ),
        ),
    ),
    (WINDOW,),
    tags=_TAGS,
)

_USER: Final = 'user=~"$user"'
USER: Final = Board(
    "mailstream-user",
    "Mail: user detail",
    "One sender: volume, outcomes and logins.",
    (
        Row(
            "Now",
            (
                complete(),
                number("Sent", "mail_user_events", f'event_type="sent", {_USER}'),
                number("Recipients", "mail_user_recipients", _USER),
                stat(
                    "Bytes", Query(f"sum(mail_user_bytes{{{W}, {_USER}}})", "bytes"), unit="bytes"
                ),
            ),
        ),
        Row(
            "Over time",
            (
                over_time("Events", "mail_user_events", "user, event_type", _USER),
                over_time("Recipients", "mail_user_recipients", "user", _USER),
                over_time("Logins", "mail_user_auth", "user, result, scope", _USER),
                lines(
                    "How far from ordinary (1: an alert)",
                    Query(f"max by (user) (mail_user_anomaly_score{{{_USER}}})", "{{user}}"),
                ),
                over_time(
                    "How it logged in to send", "mail_user_auth_method", "user, auth_method", _USER
                ),
            ),
        ),
        Row(
            "How many different ones",
            (
                different("Recipient domains", "mail_user_destinations", "user", _USER),
                different("Addresses that it sent from", "mail_user_client_ips", "user", _USER),
                different(
                    "Addresses that it logged in from",
                    "mail_user_auth_client_ips",
                    "user, result",
                    _USER,
                ),
            ),
        ),
        Row("Table", (top("Events", "mail_user_events", "user, event_type", _USER, 200),)),
    ),
    (WINDOW, many("user", "User", "mail_user_events")),
    tags=_TAGS,
)

_IP: Final = 'ip=~"$ip"'
ADDRESSES: Final = Board(
    "mailstream-ips",
    "Mail: sending addresses and reputation",
    "Which address of ours is refused, by whom and why.",
    (
        Row(
            "Now",
            (
                complete(),
                stat(
                    "Replies that name a block list",
                    Query(
                        f'sum(mail_failures{{{W}, bounce_class="ip_blocked"}}) or vector(0)',
                        "replies",
                    ),
                    steps=((1, "orange"), (10, "red")),
                ),
                stat(
                    "Pairs that ZoneMTA avoids",
                    Query("sum(mail_zonemta_blacklisted_pairs) or vector(0)", "pairs"),
                    steps=((1, "red"),),
                ),
            ),
        ),
        Row(
            "By address",
            (
                share("Bounce rate", "mail_ip_events", "bounced", OUTCOMES, "ip", _IP),
                share("Deferral rate", "mail_ip_events", "deferred", ATTEMPTS, "ip", _IP),
                over_time("Events", "mail_ip_events", "ip, event_type", _IP),
                lines(
                    "Delivery time p95",
                    Query(
                        f"histogram_quantile(0.95, sum by (le, ip) (rate(mail_ip_delivery_seconds_bucket{{{_IP}}}[5m])))",
                        "{{ip}}",
                    ),
                    unit="s",
                ),
            ),
        ),
        Row(
            "Why, and by whom",
            (
                top("Failures by class", "mail_failures", "ip, provider, bounce_class", _IP),
                share(
                    "Bounce rate by provider",
                    "mail_ip_provider_events",
                    "bounced",
                    OUTCOMES,
                    "ip, provider",
                    _IP,
                ),
                table(
                    "Avoided by ZoneMTA",
                    Query("max by (ip, domain) (mail_zonemta_blacklisted)", "avoided"),
                ),
                table(
                    "Last event",
                    Query(
                        f"max by (ip, event_type) (mail_ip_last_event_timestamp_seconds{{{_IP}}}) * 1000",
                        "at",
                        "dateTimeAsIso",
                    ),
                ),
            ),
        ),
    ),
    (WINDOW, many("ip", "Sending address", "mail_ip_events")),
    tags=_TAGS,
)

_PROVIDER: Final = 'provider=~"$provider"'


def _provider_quantile(title: str, metric: str) -> Panel:
    rate = f"sum by (le, provider) (rate({metric}_bucket{{{_PROVIDER}}}[5m]))"
    return lines(
        title,
        Query(f"histogram_quantile(0.5, {rate})", "{{provider}} p50"),
        Query(f"histogram_quantile(0.95, {rate})", "{{provider}} p95"),
        unit="s",
    )


PROVIDERS: Final = Board(
    "mailstream-providers",
    "Mail: providers",
    "Who takes our mail, how fast, and who slows us down.",
    (
        Row("Now", (complete(),)),
        Row(
            "Rates",
            (
                share(
                    "Bounce rate",
                    "mail_ip_provider_events",
                    "bounced",
                    OUTCOMES,
                    "provider",
                    _PROVIDER,
                ),
                share(
                    "Deferral rate",
                    "mail_ip_provider_events",
                    "deferred",
                    ATTEMPTS,
                    "provider",
                    _PROVIDER,
                ),
            ),
        ),
        Row(
            "Times",
            (
                _provider_quantile("Delivery time", "mail_provider_delivery_seconds"),
                _provider_quantile("Time in the queue", "mail_provider_queue_seconds"),
                _provider_quantile("Time of the SMTP dialogue", "mail_provider_smtp_seconds"),
            ),
        ),
        Row(
            "Events",
            (
                over_time("Events", "mail_ip_provider_events", "provider, event_type", _PROVIDER),
                over_time(
                    "Failures by class", "mail_failures", "provider, bounce_class", _PROVIDER
                ),
            ),
        ),
    ),
    (WINDOW, many("provider", "Provider", "mail_ip_provider_events")),
    tags=_TAGS,
)

BOUNCES: Final = Board(
    "mailstream-bounces",
    "Mail: bounces",
    "What our failures mean.",
    (
        Row("Now", (complete(),)),
        Row(
            "Classes",
            (
                pie(
                    "By class",
                    Query(f"sum by (bounce_class) (mail_failures{{{W}}})", "{{bounce_class}}"),
                ),
                over_time("Over time", "mail_failures", "bounce_class, event_type", stacked=True),
                top("By provider and class", "mail_failures", "provider, bounce_class, event_type"),
                top(
                    "By recipient domain and class",
                    "mail_destination_failures",
                    "domain, bounce_class",
                ),
            ),
        ),
        Row(
            "Since the workers started",
            (
                lines(
                    "Failures per second",
                    Query(
                        "sum by (bounce_class) (rate(mail_failures_total[5m]))", "{{bounce_class}}"
                    ),
                ),
                table(
                    "Replies that no rule knows",
                    Query(
                        "topk(50, sum by (fingerprint) (mail_unclassified_replies_total))",
                        "replies",
                    ),
                    description="`mailstream classify` explains one; see docs/bounces.md.",
                ),
            ),
        ),
    ),
    (WINDOW,),
    tags=_TAGS,
)

BOARDS: Final[tuple[Board, ...]] = (
    OVERVIEW,
    USER,
    ADDRESSES,
    PROVIDERS,
    BOUNCES,
)
