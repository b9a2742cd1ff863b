"""The table of families: what is counted, by which key, and under which metric name.

Enrich, fold, exporter, docs and tests all read this table; nothing else names a family.

A *family* is a key (one or more ``MailEvent`` fields) whose events are added up per
``event_type`` and pane.  Its *sums* are the numbers added, its *distincts* the fields whose
different values are counted; its *exports* are the gauges shown of the sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pipeline.core.pane import HOUR_MS, MINUTE_MS

KEY_SEPARATOR: Final = "\x1f"
"""Joins the fields of a key in frames and on the board; never part of a value."""

NO_VALUE: Final = "none"
"""Stands for an absent field where that is a value of its own."""

UNKNOWN: Final = "_unknown"
"""Stands for the name of a login that belongs to no known account."""

FAILURE_TYPES: Final = ("deferred", "bounced", "rejected")

MAIL_TYPES: Final = (
    "sent",
    "delivered",
    "deferred",
    "bounced",
    "rejected",
    "received",
    "expired",
    "complained",
    "bounced_late",
)


ACCEPTED_TYPES: Final = ("sent", "delivered", "bounced")
"""Types that may tell that mail was accepted for sending (see :mod:`pipeline.core.membership`)."""

LOGIN_TYPES: Final = ("auth_succeeded", "auth_failed")

PROBE_TYPES: Final = ("probe",)


class Mail(StrEnum):
    """Which events a family counts."""

    CUSTOMER = "customer"
    """Outbound mail that is neither a DSN nor a probe."""
    ACCEPTED = "accepted"
    """Customer mail that was accepted for sending (see :mod:`pipeline.core.membership`)."""
    ALL = "all"
    """Every mail event; never logins or probe outcomes."""
    LOGINS = "logins"
    """Attempts to log in."""
    PROBES = "probes"
    """Outcomes of probes."""
    ARRIVED = "arrived"
    """Outcomes of probes that arrived in time."""


class Sum(StrEnum):
    """What is added up in a family, beside which events it counts."""

    COUNT = "count"
    """Events."""
    RECIPIENTS = "recipients"
    """Recipients of messages accepted for sending (see :mod:`pipeline.core.membership`)."""
    BYTES = "bytes"
    """Bytes of messages accepted for sending (see :mod:`pipeline.core.membership`)."""


@dataclass(frozen=True, slots=True)
class Export:
    """One sliding-window gauge made from a family."""

    metric: str
    help: str
    sum: Sum = Sum.COUNT
    by_event_type: bool = True


DISTINCT_LIMIT: Final = 1000
"""Distinct values are counted exactly up to this many per key, and shown as this many above."""

DISTINCT_WINDOWS_MS: Final = (5 * MINUTE_MS, HOUR_MS)
"""Windows over which distinct values are counted, those of them that ``pipeline.windows`` has."""


@dataclass(frozen=True, slots=True)
class Distinct:
    """One sliding-window gauge of how many different values a field has."""

    name: str
    """What frames call it."""
    field: str
    """``MailEvent`` field; an event without it adds nothing."""
    metric: str
    help: str
    instead: str | None = None
    """The field that is taken where *field* is absent."""


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the table."""

    name: str
    fields: tuple[str, ...]
    """``MailEvent`` fields of the key, in the order of the key."""
    labels: tuple[str, ...]
    """Label names of *fields*, in the same order."""
    mail: Mail
    exports: tuple[Export, ...]
    event_types: tuple[str, ...] = MAIL_TYPES
    sums: tuple[Sum, ...] = (Sum.COUNT,)
    defaults: Mapping[str, str] = field(default_factory=dict)
    """What stands for an absent field, by field; any other absent field means no contribution."""
    placed_by: int | None = None
    """How many leading fields choose the partition, so that rows meet those of another family; None: all."""
    bounded: tuple[str, ...] = ()
    """Fields whose values are a small closed set: they keep their value under ``_other``."""
    distincts: tuple[Distinct, ...] = ()
    last_event: str | None = None
    """Metric that shows the newest event time of each key and type, in seconds."""
    last_event_help: str = (
        "When the newest event of customer mail happened, seconds since the epoch."
    )
    last_event_by_type: bool = True
    """Whether *last_event* has the label ``event_type``; needless where a family has one type."""


FAMILIES: Final = (
    Family(
        name="user",
        fields=("user",),
        labels=("user",),
        mail=Mail.CUSTOMER,
        sums=(Sum.COUNT, Sum.RECIPIENTS, Sum.BYTES),
        exports=(
            Export(
                "mail_user_events",
                "Events of customer mail by accountable sender; delivered, bounced and expired are per recipient, deferred per attempt and recipient, sent and rejected per message.",
            ),
            Export(
                "mail_user_recipients",
                "Recipients of messages accepted for sending, by accountable sender.",
                Sum.RECIPIENTS,
                by_event_type=False,
            ),
            Export(
                "mail_user_bytes",
                "Bytes of messages accepted for sending, by accountable sender.",
                Sum.BYTES,
                by_event_type=False,
            ),
        ),
        distincts=(
            Distinct(
                "destinations",
                "to_domain",
                "mail_user_destinations",
                "Distinct recipient domains of customer mail by accountable sender, over 5m and 1h; exact up to 1000, shown as 1000 above; under _other: pairs of user and domain.",
            ),
            Distinct(
                "client_ips",
                "client_ip",
                "mail_user_client_ips",
                "Distinct submitting addresses of customer mail by accountable sender, over 5m and 1h; exact up to 1000, shown as 1000 above; under _other: pairs of user and address.",
            ),
        ),
    ),
    Family(
        name="user_auth_method",
        fields=("user", "auth_method"),
        labels=("user", "auth_method"),
        mail=Mail.ACCEPTED,
        event_types=ACCEPTED_TYPES,
        exports=(
            Export(
                "mail_user_auth_method",
                "Customer mail accepted for sending, by accountable sender and the way in which it logged in (none: not told); per message, per recipient where a source tells outcomes only.",
                by_event_type=False,
            ),
        ),
        defaults={"auth_method": NO_VALUE},
    ),
    Family(
        name="ip",
        fields=("sending_ip",),
        labels=("ip",),
        mail=Mail.CUSTOMER,
        exports=(
            Export(
                "mail_ip_events",
                "Events of customer mail by the address of ours that it left from; per recipient, deferred per attempt and recipient, sent per message.",
            ),
        ),
        last_event="mail_ip_last_event_timestamp_seconds",
    ),
    Family(
        name="ip_provider",
        fields=("sending_ip", "provider"),
        labels=("ip", "provider"),
        mail=Mail.CUSTOMER,
        exports=(
            Export(
                "mail_ip_provider_events",
                "Events of customer mail by sending address and receiving provider; per recipient, deferred per attempt and recipient.",
            ),
        ),
        bounded=("provider",),
    ),
    Family(
        name="failure",
        fields=("sending_ip", "provider", "bounce_class"),
        labels=("ip", "provider", "bounce_class"),
        mail=Mail.CUSTOMER,
        event_types=FAILURE_TYPES,
        exports=(
            Export(
                "mail_failures",
                "Failed deliveries of customer mail by sending address (none: no connection was made), provider and class; bounced per recipient, deferred per attempt and recipient, rejected per message.",
            ),
        ),
        defaults={"sending_ip": NO_VALUE},
        placed_by=2,
        bounded=("provider", "bounce_class"),
    ),
    Family(
        name="domain",
        fields=("from_domain",),
        labels=("domain",),
        mail=Mail.CUSTOMER,
        exports=(
            Export(
                "mail_domain_events",
                "Events of customer mail by sender domain; per recipient, deferred per attempt and recipient, sent and rejected per message.",
            ),
        ),
    ),
    Family(
        name="destination",
        fields=("to_domain",),
        labels=("domain",),
        mail=Mail.CUSTOMER,
        exports=(
            Export(
                "mail_destination_events",
                "Events of customer mail by recipient domain; per recipient, deferred per attempt and recipient.",
            ),
        ),
    ),
    Family(
        name="destination_failure",
        fields=("to_domain", "bounce_class"),
        labels=("domain", "bounce_class"),
        mail=Mail.CUSTOMER,
        event_types=FAILURE_TYPES,
        exports=(
            Export(
                "mail_destination_failures",
                "Failed deliveries of customer mail by recipient domain and class; bounced per recipient, deferred per attempt and recipient.",
                by_event_type=False,
            ),
        ),
        bounded=("bounce_class",),
    ),
    Family(
        name="node",
        fields=("mta_node", "zone", "direction"),
        labels=("node", "zone", "direction"),
        mail=Mail.ALL,
        exports=(
            Export(
                "mail_node_events",
                "Events of all mail, DSNs and probes included, by MTA node, zone (none: not told) and direction; units as in mail_user_events.",
            ),
        ),
        defaults={"zone": NO_VALUE},
        bounded=("direction",),
    ),
    Family(
        name="client_ip",
        fields=("client_ip", "direction"),
        labels=("ip", "direction"),
        mail=Mail.ALL,
        exports=(
            Export(
                "mail_client_ip_events",
                "Events of all mail, DSNs and probes included, by submitting address and direction; units as in mail_user_events.",
            ),
        ),
        bounded=("direction",),
    ),
    Family(
        name="user_auth",
        fields=("user", "auth_result", "auth_scope"),
        labels=("user", "result", "scope"),
        mail=Mail.LOGINS,
        event_types=LOGIN_TYPES,
        exports=(
            Export(
                "mail_user_auth",
                "Attempts to log in by account (_unknown: the name is no known account's), result (succeeded, failed) and scope (imap, pop3, smtp, ...; none: not told).",
                by_event_type=False,
            ),
        ),
        defaults={"user": UNKNOWN, "auth_scope": NO_VALUE},
        bounded=("auth_result",),
    ),
    Family(
        name="client_ip_auth",
        fields=("client_ip", "auth_result", "auth_scope"),
        labels=("ip", "result", "scope"),
        mail=Mail.LOGINS,
        event_types=LOGIN_TYPES,
        exports=(
            Export(
                "mail_client_ip_auth",
                "Attempts to log in by the client's address, result (succeeded, failed) and scope (imap, pop3, smtp, ...; none: not told).",
                by_event_type=False,
            ),
        ),
        defaults={"auth_scope": NO_VALUE},
        bounded=("auth_result",),
    ),
    Family(
        name="user_auth_result",
        fields=("user", "auth_result"),
        labels=("user", "result"),
        mail=Mail.LOGINS,
        event_types=LOGIN_TYPES,
        exports=(),
        defaults={"user": UNKNOWN},
        bounded=("auth_result",),
        distincts=(
            Distinct(
                "client_ips",
                "client_ip",
                "mail_user_auth_client_ips",
                "Distinct addresses of clients that tried to log in to an account (_unknown: to names that are no known account's), by result, over 5m and 1h; exact up to 1000, shown as 1000 above; under _other: pairs of account and address.",
            ),
        ),
    ),
    Family(
        name="client_ip_auth_result",
        fields=("client_ip", "auth_result"),
        labels=("ip", "result"),
        mail=Mail.LOGINS,
        event_types=LOGIN_TYPES,
        exports=(),
        bounded=("auth_result",),
        distincts=(
            Distinct(
                "users",
                "user",
                "mail_client_ip_auth_users",
                "Distinct names that a client's address tried to log in with, known accounts' or not, by result, over 5m and 1h; exact up to 1000, shown as 1000 above; under _other: pairs of address and name.",
                instead="login",
            ),
        ),
    ),
    Family(
        name="route",
        fields=("route", "origin", "outcome"),
        labels=("route", "origin", "outcome"),
        mail=Mail.PROBES,
        event_types=PROBE_TYPES,
        exports=(
            Export(
                "mail_route_probes",
                "Rounds of roundtrip probes by route, the probe that ran them and outcome; a late mail and a duplicate one count beside the outcome of their round.",
                by_event_type=False,
            ),
        ),
        bounded=("outcome",),
    ),
    Family(
        name="route_success",
        fields=("route", "origin"),
        labels=("route", "origin"),
        mail=Mail.ARRIVED,
        event_types=PROBE_TYPES,
        exports=(),
        last_event="mail_route_last_success_timestamp_seconds",
        last_event_help="When the newest probe of a route arrived in time, in the inbox or in junk, seconds since the epoch; gone once the longest window holds none.",
        last_event_by_type=False,
    ),
)
"""Every family.  Frames carry names, so rows may be added, removed and reordered."""

FAMILY: Final = {family.name: family for family in FAMILIES}
