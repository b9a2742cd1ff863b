"""Posted events to ``MailEvent``: one spelling of everything, and what follows from it.

The posted event is changed in place and is the ``MailEvent`` afterwards, its aliases gone: making
and encoding a second object would cost 1.5 µs an event.  Everything here is a function of the
record alone, so a replay gives the same bytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pipeline.core.families import FAILURE_TYPES, LOGIN_TYPES
from pipeline.core.pane import FUTURE_AFTER_MS, LATE_AFTER_MS
from pipeline.core.posted import PROBE_FIELDS, PostedEvent, tells_of_a_probe
from pipeline.enrich.addresses import domain, ip
from pipeline.enrich.classify import LOOKED_AT, Classifier, Reply
from pipeline.enrich.head import Head
from pipeline.enrich.memo import Memo
from pipeline.enrich.probes import NO_PROBES, ProbeAccounts
from pipeline.enrich.providers import OTHER, provider_of
from pipeline.enrich.reply import PREFIX, SEARCHED, Codes, codes, codes_at_start, status_of
from pipeline.enrich.sender import Claim, Sender, identify

_LOGINS: Final = dict(zip(LOGIN_TYPES, ("succeeded", "failed"), strict=True))
"""What ``auth_result`` is, by event type."""
_FAILURES: Final = frozenset({*FAILURE_TYPES, "bounced_late"})
"""Types whose reply is classified; what came back late is in no family of failures."""
BOUNCE_ZONE: Final = "bounces"
"""ZoneMTA's zone for the DSNs that it makes itself."""

_TEXTS: Final = tuple(
    name
    for name in PostedEvent.__struct_fields__
    if name not in ("from_address", "from_")  # empty there, it is the sender of a DSN
)


class Place(NamedTuple):
    """A domain or host name in its normal spelling, and whose it is."""

    name: str | None
    provider: str | None


class Normaliser:
    """Normalises and enriches; holds nothing but caches."""

    def __init__(self, probes: ProbeAccounts = NO_PROBES) -> None:
        """Start with empty caches; mail of *probes* is told from that of customers."""
        self._probes = probes
        self._has_probes = bool(probes)
        self._senders: Memo[tuple[str | None, ...], Sender] = Memo(self._identify)
        self._places: Memo[str, Place] = Memo(_place)
        self._ips: Memo[str, str | None] = Memo(ip)
        self._starts: Memo[str, Codes] = Memo(codes_at_start)
        self._codes: Memo[str, Codes] = Memo(codes)
        self._classifier = Classifier()

    def apply(self, event: PostedEvent, event_id: str, head: Head, posted_ms: int) -> int:
        """Turn *event* into a ``MailEvent``; return the event time to count it at.

        Args:
            event: A checked event without empty texts, its timestamp spelled as ours; changed.
            event_id: As its header gives it.
            head: The other headers.
            posted_ms: What its timestamp says.
        """
        event.event_id = event_id
        event.source = head.source
        event.feed = head.feed
        event.origin = head.origin
        event.received = head.received
        if event.is_probe:  # settled when it is known who sent it, and to whom
            event.is_probe = False
        if tells_of_a_probe(event) and not head.form.tells_of_probes:
            for name in PROBE_FIELDS:
                setattr(event, name, None)
        late = head.received_ms - posted_ms > LATE_AFTER_MS
        if late is not event.late:  # a read is 5 ns, a write 22
            event.late = late
        if posted_ms - head.received_ms > FUTURE_AFTER_MS:
            posted_ms = head.received_ms
            event.timestamp = head.received
        if event.direction is None and event.event_type not in _LOGINS:
            event.direction = head.form.direction
        if event.source_ip is not None or event.hostname is not None:
            head.form.resolve(event)
            event.source_ip = event.hostname = None
        self._attribute(event, names_user=head.form.names_user)
        self._locate(event)
        if self._has_probes and self._probes.receive(event):
            event.is_probe = True
        self._explain(event)
        return posted_ms

    def _attribute(self, event: PostedEvent, *, names_user: bool) -> None:
        """Settle who sent it."""
        named = event.user is not None or not names_user
        if event.from_ is not None:
            if event.from_address is None:
                event.from_address = event.from_
            event.from_ = None
        sender = self._senders[
            event.user, event.auth_user, event.from_user, event.from_domain, event.from_address
        ]
        user, login, event.from_user, event.from_domain, event.from_address, is_dsn, is_probe = (
            sender
        )
        if is_dsn or event.zone == BOUNCE_ZONE:
            event.is_dsn = True
        if is_probe:
            event.is_probe = True
        result = _LOGINS.get(event.event_type or "")
        if result is not None:
            event.user = self._login_name(event)
            if result == "failed" and event.error_code is None and event.auth_result != result:
                event.error_code = event.auth_result  # the source's own, finer word
            event.auth_result = result
        elif event.is_dsn or event.direction != "outbound" or not named:
            event.user = None
        else:
            event.user = user
            if login is not None:
                event.login = login

    def _login_name(self, event: PostedEvent) -> str | None:
        """Return who logged in: never derived from a sender's address, there is none."""
        return self._senders[event.user, event.auth_user, None, None, None].user

    def _locate(self, event: PostedEvent) -> None:
        """Settle where it went: domains, hosts and addresses in their normal spelling."""
        if event.to is not None:
            token, at, host = event.to.strip("<> ").rpartition("@")
            event.to = None
            if at and event.to_hash is None:
                event.to_hash = token or None
            if at and event.to_domain is None:
                event.to_domain = host or None
        provider = None
        if event.to_domain is not None:
            event.to_domain, provider = self._places[event.to_domain]
        if event.mx_host is not None:
            event.mx_host, by_host = self._places[event.mx_host]
            if provider is None or (by_host is not None and by_host != OTHER):
                provider = by_host
        event.provider = provider
        if event.sending_ip is not None:
            event.sending_ip = self._ips[event.sending_ip]
        if event.client_ip is not None:
            event.client_ip = self._ips[event.client_ip]
        if event.mx_ip is not None:
            event.mx_ip = self._ips[event.mx_ip]

    def _explain(self, event: PostedEvent) -> None:
        """Settle how it ended: codes, and for a failure its class."""
        failed = event.event_type in _FAILURES
        code = event.response_code
        if code is not None and not 200 <= code < 600:
            code = event.response_code = None
        status = event.enhanced_status
        if status is not None:
            status = event.enhanced_status = status_of(status)
        text = event.response_message
        if text is not None and (code is None or status is None):
            found = self._codes[text[:SEARCHED]] if failed else self._starts[text[:PREFIX]]
            found_code, found_status = found
            if code is None and found_code is not None:
                code = event.response_code = found_code
            if status is None and found_status is not None:
                event.enhanced_status = status = found_status
        if not failed:
            if event.bounce_class is not None or event.bounce_category is not None:
                event.bounce_class = event.bounce_category = None
            return
        bounce = self._classifier.classify(_reply(event))
        event.bounce_class, event.bounce_category = bounce.bounce_class, bounce.category

    def fingerprint(self, event: PostedEvent) -> str:
        """Return what a failed event's reply has in common with others like it."""
        return self._classifier.fingerprint(_reply(event))

    def _identify(self, claim: tuple[str | None, ...]) -> Sender:
        sender = identify(Claim(*claim))
        return sender._replace(is_probe=self._probes.sent(sender))


def _reply(event: PostedEvent) -> Reply:
    words = event.response_message or event.error_message
    return Reply(
        event.response_code,
        event.enhanced_status,
        words[:LOOKED_AT] if words else None,
        event.error_code,
        event.provider,
    )


def drop_empty(event: PostedEvent) -> None:
    """Make empty texts absent, except a sender's."""
    for name in _TEXTS:
        if getattr(event, name) == "":
            setattr(event, name, None)


def _place(text: str) -> Place:
    name = domain(text)
    return Place(name, None if name is None else provider_of(name))
