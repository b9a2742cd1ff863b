"""Bounce rules: which texts, statuses, codes and local errors mean which class, as tables.

Classes have names that stay.  ``classify`` says in which order the tables are asked.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple


class Category(StrEnum):
    """What an operator does about it; becomes ``bounce_category``."""

    HARD = "hard"
    """The address is dead: stop sending to it."""
    SOFT = "soft"
    """It may work later."""
    BLOCK = "block"
    """Our address or domain is refused."""
    POLICY = "policy"
    CONTENT = "content"
    NETWORK = "network"
    PROTOCOL = "protocol"
    UNKNOWN = "unknown"


CATEGORY: Final = {
    "invalid_recipient": Category.HARD,
    "inactive_mailbox": Category.HARD,
    "bad_domain": Category.HARD,
    "mailbox_full": Category.SOFT,
    "greylisted": Category.SOFT,
    "rate_limited": Category.SOFT,
    "temporary": Category.SOFT,
    "server_error": Category.SOFT,
    "expired": Category.SOFT,
    "ip_blocked": Category.BLOCK,
    "auth_failed": Category.POLICY,
    "policy": Category.POLICY,
    "relay_denied": Category.POLICY,
    "invalid_sender": Category.POLICY,
    "too_many_recipients": Category.POLICY,
    "tls": Category.POLICY,
    "spam_content": Category.CONTENT,
    "virus": Category.CONTENT,
    "content": Category.CONTENT,
    "message_too_large": Category.CONTENT,
    "network": Category.NETWORK,
    "dns": Category.NETWORK,
    "routing": Category.NETWORK,
    "protocol": Category.PROTOCOL,
    "unclassified": Category.UNKNOWN,
}
"""Every class and its category."""


class TextRule(NamedTuple):
    """One pattern and the class of the replies that hold it."""

    bounce_class: str
    pattern: re.Pattern[str]
    permanent: bool = False
    """Only when the code or status says 5: of a 4xx the same words mean something else."""


def _rule(bounce_class: str, *patterns: str, permanent: bool = False) -> TextRule:
    return TextRule(bounce_class, re.compile("|".join(patterns), re.IGNORECASE), permanent)


STRONG_TEXTS: Final = (
    _rule("greylisted", r"gr[ae]y-?list"),
    _rule("virus", r"\bvirus", r"malware", r"infected (?:mail|message|attachment|file)"),
    _rule(
        "auth_failed",
        r"\bdmarc\b",
        r"\bspf\b[^.;]{0,60}(?:fail|not pass|\bhard|reject)",
        r"(?:fail|not pass)[^.;]{0,60}\bspf\b",
        r"\bdkim\b[^.;]{0,60}(?:fail|invalid|not pass)",
        r"\bunauthenticated\b",
    ),
    _rule(
        "rate_limited",
        r"rate.?limit",
        r"too many (?:messages|mails?|e-?mails|(?:concurrent |simultaneous )?connections|sessions)",
        r"too (?:quickly|fast)\b",
        r"(?:unusual|excessive|high) rate",
        r"at a rate that",
        r"send(?:ing)? (?:rate |speed )?(?:limit|quota)",
        r"maximum number of connections",
        r"throttl",
        r"slow down",
        r"unexpected volume",
    ),
    _rule("too_many_recipients", r"too many recipients"),
    _rule(
        "mailbox_full",
        r"over ?-?quota",
        r"quota (?:is )?(?:full|exceeded)",
        r"exceed\w* (?:its |the |his |her |storage )*(?:quota|allocation)",
        r"(?:mail)?box (?:is )?(?:over)?full",
        r"out of storage",
        r"insufficient (?:mailbox |user |disk )?(?:storage|space|quota)",
    ),
    _rule(
        "ip_blocked",
        r"block(?:ed)? (?:using|by|list)",
        r"bl(?:ock|ack)-?list",
        r"black list",
        r"spamhaus",
        r"spamcop",
        r"barracudacentral",
        r"\b(?:rbl|dnsbl)\b",
        r"(?:bad|poor|low|ip) reputation",
        r"banned sending ip",
        r"listed (?:at|by|on) ",
        r"\(BL\)",
    ),
    _rule(
        "message_too_large",
        r"(?:message|mail|e-?mail|body|attachment)s? (?:size )?(?:is |was )?(?:too (?:big|large)|exceed)",
        r"size (?:limit|exceed)",
        r"exceed\w* [^.;]{0,30}\bsize",
    ),
    _rule("spam_content", r"\bspam\b", r"unsolicited", r"\bjunk ?mail", r"\bbulk mail"),
    _rule(
        "relay_denied", r"relay(?:ing)? (?:\w+ )?(?:denied|prohibited|not (?:permitted|allowed))"
    ),
    _rule(
        "routing", r"mail loop", r"hop count", r"too many hops", r"loops back", r"unrout[e]?able"
    ),
    _rule(
        "invalid_sender",
        r"sender address rejected",
        r"invalid sender",
        r"(?:sender|return) (?:address|domain)[^.;]{0,30}(?:not exist|not found|invalid|unknown)",
        r"domain of sender",
    ),
    _rule(
        "inactive_mailbox",
        r"(?:mailbox|account|user|recipient|address)[^.;]{0,30}\b(?:disabled|inactive|suspended"
        r"|deactivated|discontinued|locked|no longer (?:active|available|in use|valid|accepts))",
    ),
    _rule(
        "invalid_recipient",
        r"no such (?:user|recipient|mailbox|address|person|account|local)",
        r"(?:unknown|invalid) (?:local |virtual )?(?:user|recipient|mailbox|account|address)",
        r"(?:user|recipient|mailbox|account|address|alias)[^.;]{0,50}"
        r"(?:unknown|n[o']t exist|not (?:be )?found|not known)",
        r"not a (?:valid|known) (?:user|recipient|mailbox|address|account)",
        r"recipient address rejected: access denied",
        r"recip(?:ient)?notfound",
    ),
    _rule("invalid_recipient", r"mailbox unavailable", permanent=True),
    _rule(
        "tls",
        r"\bstarttls\b",
        r"\btls (?:is )?required",
        r"(?:requires?|without) (?:tls|encryption)",
    ),
)
"""Texts that say more than any code beside them."""

WEAK_TEXTS: Final = (
    _rule("bad_domain", r"domain (?:name )?(?:not found|does not exist|unknown)", r"null ?mx"),
    _rule("policy", r"\bpolic(?:y|ies)\b", r"access denied", r"prohibited", r"administrative"),
    _rule("temporary", r"try (?:again|later)", r"temporar(?:y|ily)", r"\bbusy\b", r"not available"),
)
"""Texts that say more than a reply code alone, or than a status that says nothing."""

LOCAL_TEXTS: Final = (
    _rule(
        "expired",
        r"(?:queue|delivery) (?:time|lifetime|expired)",
        r"retry (?:time|timeout)",
        r"too old",
    ),
    _rule("dns", r"enotfound", r"nxdomain", r"\bdns\b", r"no such domain", r"querymx", r"\bmx\b"),
    _rule("tls", r"\b(?:tls|ssl)\b", r"certificate"),
    _rule(
        "network",
        r"econn|etimed|ehost|enet|epipe|esocket",
        r"timed? ?out",
        r"refused",
        r"\breset\b",
        r"unreachable",
        r"connect|greeting|socket",
    ),
)
"""Texts of errors of our own side, read only when there was no reply."""

STATUS: Final = {
    "1.0": "invalid_recipient",
    "1.1": "invalid_recipient",
    "1.2": "bad_domain",
    "1.3": "invalid_recipient",
    "1.4": "invalid_recipient",
    "1.6": "invalid_recipient",
    "1.7": "invalid_sender",
    "1.8": "invalid_sender",
    "1.9": "protocol",
    "1.10": "bad_domain",
    "2.0": "inactive_mailbox",
    "2.1": "inactive_mailbox",
    "2.2": "mailbox_full",
    "2.3": "message_too_large",
    "2.4": "invalid_recipient",
    "3.0": "server_error",
    "3.1": "server_error",
    "3.2": "server_error",
    "3.3": "protocol",
    "3.4": "message_too_large",
    "3.5": "server_error",
    "3.6": "protocol",
    "4.0": "network",
    "4.1": "network",
    "4.2": "network",
    "4.3": "dns",
    "4.4": "routing",
    "4.5": "server_error",
    "4.6": "routing",
    "4.7": "expired",
    "5.3": "too_many_recipients",
    "7.0": "policy",
    "7.7": "auth_failed",
    "7.13": "inactive_mailbox",
    "7.16": "message_too_large",
    "7.17": "invalid_recipient",
    "7.18": "bad_domain",
    "7.19": "temporary",
    "7.20": "auth_failed",
    "7.21": "auth_failed",
    "7.22": "auth_failed",
    "7.23": "auth_failed",
    "7.24": "auth_failed",
    "7.25": "auth_failed",
    "7.26": "auth_failed",
    "7.27": "invalid_sender",
    "7.28": "rate_limited",
    "7.29": "auth_failed",
    "7.30": "tls",
}
"""Class by subject and detail of the enhanced status (IANA registry, RFC 7372, RFC 7505)."""

TRANSIENT_STATUS: Final = {
    "1.0": "temporary",
    "1.2": "dns",
    "1.8": "dns",
    "2.0": "temporary",
    "2.1": "temporary",
}
"""What the same subject and detail mean in a 4.x.x."""

SUBJECT: Final = {
    "1": "invalid_recipient",
    "2": "temporary",
    "3": "server_error",
    "4": "network",
    "5": "protocol",
    "6": "content",
    "7": "policy",
}
"""Class by the subject alone, for details that are not in the table."""

CODE: Final = {
    452: "mailbox_full",
    454: "temporary",
    455: "protocol",
    500: "protocol",
    501: "protocol",
    502: "protocol",
    503: "protocol",
    504: "protocol",
    521: "bad_domain",
    523: "message_too_large",
    530: "policy",
    535: "policy",
    541: "spam_content",
    550: "invalid_recipient",
    551: "invalid_recipient",
    552: "mailbox_full",
    553: "invalid_recipient",
    554: "policy",
    555: "protocol",
    556: "bad_domain",
    571: "policy",
}
"""Class by reply code; other 4xx are temporary, other 5xx say nothing."""

LOCAL_ERROR: Final = {
    "ECONNREFUSED": "network",
    "ECONNRESET": "network",
    "ECONNECTION": "network",
    "ECONNABORTED": "network",
    "ETIMEDOUT": "network",
    "ESOCKET": "network",
    "EHOSTUNREACH": "network",
    "ENETUNREACH": "network",
    "EADDRNOTAVAIL": "network",
    "EPIPE": "network",
    "EDNS": "dns",
    "ENOTFOUND": "dns",
    "ENODATA": "dns",
    "ENODOMAIN": "dns",
    "ESERVFAIL": "dns",
    "ETIMEOUT": "dns",
    "EAI_AGAIN": "dns",
    "ETLS": "tls",
    "CERT_HAS_EXPIRED": "tls",
    "DEPTH_ZERO_SELF_SIGNED_CERT": "tls",
    "ERR_TLS_CERT_ALTNAME_INVALID": "tls",
    "EPROTOCOL": "protocol",
    "NETWORK": "network",
    "DNS": "dns",
}
"""Class by the error names of Node (libuv, c-ares, TLS) and of its mailers, and by ZoneMTA's own
categories of failures without a connection."""

NO_STATUS: Final = ("0.0", "5.0", "7.0", "7.1")
"""Subject and detail of statuses that say little: a weak text or, for 0.0 and 5.0, the code, says more."""
