"""Who is accountable for a mail: the authenticated user, else the sender's unwrapped address.

Forwarders, bounce tags and mailing lists wrap the envelope sender (SRS, BATV, VERP), which would
give one sender a thousand names.  What can be unwrapped is; what can't gives no user.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pipeline.core.event import RESERVED_VALUES
from pipeline.enrich.addresses import domain, mail_address


class Claim(NamedTuple):
    """What an event says about its sender."""

    user: str | None
    auth_user: str | None
    from_user: str | None
    from_domain: str | None
    from_address: str | None


class Sender(NamedTuple):
    """What is made of it."""

    user: str | None
    """The accountable sender, if the mail is outbound and no DSN."""
    login: str | None
    from_user: str | None
    from_domain: str | None
    from_address: str | None
    is_dsn: bool
    is_probe: bool = False
    """Whether it is an account of probes."""


_NAME_AND_LOGIN: Final = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
_SRS0: Final = re.compile(r"SRS0[=+-][^=]*=[^=]*=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)
"""``SRS0=hash=day=domain=local``, Mengwong 2004."""
_SRS1: Final = re.compile(
    r"SRS1[=+-][^=]*=[^=]*=[=+-][^=]*=[^=]*=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL
)
"""``SRS1=hash=forwarder==hash=day=domain=local``: forwarded twice."""
_SRS: Final = re.compile(r"SRS[01][=+-]", re.IGNORECASE)
_BATV: Final = re.compile(
    r"(?:prvs=[^=/]*=|msprvs1=[^=]*=|btv1==[^=]*==)(.+)", re.IGNORECASE | re.DOTALL
)
"""``prvs=tag=local`` (draft-levine-smtp-batv), and SparkPost's and Barracuda's forms of it."""
_BATV_DRAFT: Final = re.compile(r"prvs=(.+)/[0-9a-f]+", re.IGNORECASE | re.DOTALL)
"""``prvs=local/tag``: the form of the first drafts."""
_TAGGED: Final = re.compile(r"(?:prvs|msprvs1|btv1=)=", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:[a-z0-9-]{1,63}\.)+[a-z][a-z0-9-]{1,62}", re.IGNORECASE)
_LIST: Final = re.compile(
    r"(?:^|[-._])(?:bounces?|returns?|errors?|owner|request)(?=-)", re.IGNORECASE
)
_MOST_WRAPPINGS: Final = 4


def identify(claim: Claim) -> Sender:
    """Return the sender that *claim* describes, its parts derived from one another."""
    address = mail_address(claim.from_address)
    is_dsn = address == ""
    name = mail_address(claim.from_user) or None
    host = domain(claim.from_domain) or _host_of(address)
    full = _joined(name, host)
    address = _joined(address, host) or address
    if not address and not is_dsn:
        address = full
    address = address or None
    whole = full or address
    host = host or _host_of(whole)
    user, login = _authenticated(claim.user or claim.auth_user)
    if user is None and whole is not None and "@" in whole:
        user = unwrap(whole)
    name = name or (address.rpartition("@")[0] or address if address else None)
    if user in RESERVED_VALUES:
        user = None
    return Sender(user, login, name, host, address, is_dsn)


def unwrap(address: str) -> str | None:
    """Return *address* with SRS, BATV and VERP undone; None if it is wrapped past undoing."""
    for _ in range(_MOST_WRAPPINGS):
        local, _at, host = address.rpartition("@")
        inner = _unwrap_once(local, host)
        if inner is None or inner == address:
            return inner
        address = inner
    return None


def _joined(name: str | None, host: str | None) -> str | None:
    if not name or "@" in name:
        return name
    return f"{name}@{host}" if host else None


def _host_of(address: str | None) -> str | None:
    return address.rpartition("@")[2] if address and "@" in address else None


def _authenticated(text: str | None) -> tuple[str | None, str | None]:
    """Split ``name[login]``; the domain of a name that is an address is spelled as all are."""
    if not text or not (text := text.strip()):
        return None, None
    both = _NAME_AND_LOGIN.fullmatch(text)
    name, login = (both[1].strip(), both[2].strip()) if both else (text, None)
    return mail_address(name) or None, login


def _unwrap_once(local: str, host: str) -> str | None:
    rewritten = _SRS0.fullmatch(local) or _SRS1.fullmatch(local)
    if rewritten:
        name = domain(rewritten[1])
        return f"{rewritten[2]}@{name}" if name else None
    if _SRS.match(local):
        return None
    tagged = _BATV.fullmatch(local) or _BATV_DRAFT.fullmatch(local)
    if tagged:
        return f"{tagged[1]}@{host}"
    if _TAGGED.match(local):
        return None
    return _without_recipient(local, host)


def _without_recipient(local: str, host: str) -> str | None:
    """Undo VERP: ``bounce+user=domain`` and ``list-bounces-user=domain`` name the recipient."""
    encoded, equals, recipient_host = local.rpartition("=")
    if not equals or not _HOST.fullmatch(recipient_host):
        return f"{local}@{host}"
    name, plus, _user = encoded.partition("+")
    if plus:
        return f"{name}@{host}" if name else None
    marked = _LIST.search(encoded)
    return f"{encoded[: marked.end()]}@{host}" if marked else None
