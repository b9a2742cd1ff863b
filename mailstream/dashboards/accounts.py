"""Dashboards about accounts: logins, and what cPanel servers count."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards.mail_panels import (
    WINDOW,
    W,
    complete,
    different,
    many,
    number,
    over_time,
    top,
)
from mailstream.dashboards.model import Board, Panel, Query, Row, bars, pie, table

_TAGS: Final = ("mailstream", "mail")


def _after_failures() -> Panel:
    failed = f'sum by (ip) (mail_client_ip_auth{{{W}, result="failed", ip!="_other"}})'
    succeeded = f'sum by (ip) (mail_client_ip_auth{{{W}, result="succeeded", ip!="_other"}})'
    return table(
        "Success after failures",
        Query(f"topk(50, {failed} > 0 and {succeeded} > 0)", "failed"),
        Query(f"{succeeded} > 0 and topk(50, {failed} > 0 and {succeeded} > 0)", "succeeded"),
        description="Addresses from which logins failed and others did not.",
    )


LOGINS: Final = Board(
    "mailstream-logins",
    "Mail: logins",
    "Who guesses passwords, and whose.",
    (
        Row(
            "Now",
            (
                complete(),
                number("Failed", "mail_client_ip_auth", 'result="failed"'),
                number("Succeeded", "mail_user_auth", 'result="succeeded"'),
            ),
        ),
        Row(
            "Over time",
            (
                over_time("By result and service", "mail_user_auth", "result, scope"),
                over_time("Failed by address", "mail_client_ip_auth", "ip", 'result="failed"'),
            ),
        ),
        Row(
            "Top",
            (
                top("Failed by address", "mail_client_ip_auth", "ip, scope", 'result="failed"'),
                top("Failed by account", "mail_user_auth", "user, scope", 'result="failed"'),
                top("Succeeded by account", "mail_user_auth", "user", 'result="succeeded"'),
                top("Submitting addresses", "mail_client_ip_events", "ip, direction"),
                _after_failures(),
            ),
        ),
        Row(
            "Many names, many addresses",
            (
                different("Names tried by address", "mail_client_ip_auth_users", "ip, result"),
                different("Addresses by account", "mail_user_auth_client_ips", "user, result"),
            ),
        ),
    ),
    (WINDOW,),
    tags=_TAGS,
)

_SERVER: Final = 'server=~"$server"'


def _stats(title: str, by: str, stat_type: str, kind: str = "pie") -> Panel:
    most = f'topk(10, sum by ({by}) (email_user_stats{{{_SERVER}, stat_type="{stat_type}"}}))'
    name = f"{{{{{by}}}}}"
    return pie(title, Query(most, name)) if kind == "pie" else bars(title, Query(most, name))


CPANEL: Final = Board(
    "mailstream-cpanel",
    "Mail: cPanel servers",
    "What WHM counts of its accounts since midnight; single rows are in mail.events.",
    (
        Row(
            "By primary domain",
            (
                table(
                    "Summary",
                    *(
                        Query(
                            f'sum by (server, primary_domain) (email_user_stats{{{_SERVER}, stat_type="{kind}"}})',
                            name,
                        )
                        for kind, name in (
                            ("send_count", "sent"),
                            ("success_count", "delivered"),
                            ("fail_count", "failed"),
                            ("defer_count", "deferred"),
                        )
                    ),
                    Query(
                        f'sum by (server, primary_domain) (email_user_stats{{{_SERVER}, stat_type="total_size"}})',
                        "size",
                        "bytes",
                    ),
                    width=24,
                    height=10,
                ),
            ),
        ),
        Row(
            "Success",
            (
                _stats("Top 10 domains", "domain", "success_count"),
                _stats("Top 10 senders", "user", "success_count"),
            ),
        ),
        Row(
            "Failure",
            (
                _stats("Top 10 domains", "domain", "fail_count"),
                _stats("Top 10 senders", "user", "fail_count"),
                _stats("Deferred: top 10 domains", "domain", "defer_count", "bars"),
                table(
                    "Limits reached",
                    Query(
                        f"max by (server, domain, user, flag) (email_flag_stats{{{_SERVER}}})",
                        "1: reached",
                    ),
                ),
            ),
        ),
    ),
    (many("server", "Server", "email_user_stats"),),
    tags=_TAGS,
)
