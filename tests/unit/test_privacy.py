"""Privacy of posted events."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.core.posted import PostedEvent
from producers.privacy import Privacy

PRIVACY = Privacy(b"key")
JOHN = PRIVACY.hash("john@example.com")


@pytest.mark.parametrize(
    ("reply", "redacted"),
    [
        ("550 5.1.1 <john@example.com>: unknown", f"550 5.1.1 <{JOHN}@example.com>: unknown"),
        ("550 user 'john@example.com' unknown", f"550 user '{JOHN}@example.com' unknown"),
        ("550 john@example.com.", f"550 {JOHN}@example.com."),
        ("550 JOHN@EXAMPLE.COM, sorry", f"550 {JOHN}@example.com, sorry"),
        ("mailto:john@example.com?x", f"mailto:{JOHN}@example.com?x"),
        ("to=john\uff20example.com", f"{PRIVACY.hash('to=john@example.com')}@example.com"),
        ("x/?email&john%40example.com", f"x/?email&{JOHN}@example.com"),
        *(
            (f"john{sign}example.com", f"{JOHN}@example.com")
            for sign in ("&#64;", "&#064;", "&#x40;", "&#X0040;", "&commat;", "%2540", "\\u0040")
        ),
        ("x/?a%2Bb%40c%40d.example", f"x/?{PRIVACY.hash('a%2Bb%40c@d.example')}@d.example"),
        ("john@[192.0.2.1]", f"{PRIVACY.hash('john@[192.0.2.1]')}@[192.0.2.1]"),
        ("john@ has no mailbox", f"{PRIVACY.hash('john@')}@ has no mailbox"),
        ("250 2.0.0 OK 1234 gsmtp", "250 2.0.0 OK 1234 gsmtp"),
        ("<@example.com> is @ rest", "<@example.com> is @ rest"),
        ("100%40 of 5", "100%40 of 5".replace("100%40", f"{PRIVACY.hash('100@')}@")),
        ("", ""),
    ],
)
def test_addresses_in_replies_become_hash_and_domain(reply: str, redacted: str) -> None:
    assert PRIVACY.redact(reply) == redacted


@pytest.mark.parametrize(
    "address",
    [
        '"john doe"@example.com',
        '"a@b \\" c"@example.com',
        "john%inner.example@example.com",
        "SRS0=ab=cd=inner.example=john@example.com",
        "bounce+john=inner.example@example.com",
        "jörg@example.com",
        "john@doe@example.com",
        "john@d+oe@@example.com",
        "o'brien@example.com",
        "a.b-c_d+e{f}|g~!#$%&*/=?^`@example.com",
        '""john doe""@example.com',
        '"john doe\\"@example.com',
        f'"{"john doe " * 20}"@example.com',
    ],
)
@pytest.mark.parametrize("reply", ["{}", "550 <{}> unknown", "550 {}: unknown", "x,{};y"])
def test_nothing_of_a_local_part_is_left(address: str, reply: str) -> None:
    redacted = PRIVACY.redact(reply.format(address))
    before, after = reply.split("{}")
    assert re.fullmatch(
        re.escape(before) + "[0-9a-f]{16}@example\\.com" + re.escape(after), redacted
    )


def test_a_quoted_local_part_may_be_quoted_in_json() -> None:
    redacted = PRIVACY.redact('{"to":"\\"john doe\\"@example.com"}')
    assert re.fullmatch(r'\{"to":"\\?[0-9a-f]{16}@example.com"\}', redacted)


@pytest.mark.parametrize(
    "reply",
    [
        "a" * 16_000,
        "@" * 16_000,
        '"' * 16_000 + "@",
        '\\"' * 8000 + "@",
        'a"' * 8000,
        '" ' * 8000 + "@",
        "%25" * 5000 + "@",
        "a@" * 8000,
        "a%40" * 4000,
    ],
)
def test_hostile_replies_are_redacted_in_one_pass(reply: str) -> None:
    assert not re.search("(?<![0-9a-f]{15})a(@|%40)", PRIVACY.redact(reply))


def apply(privacy: Privacy, source: str = "haraka", /, **fields: Any) -> PostedEvent:
    event = PostedEvent(**fields)
    before = {name: getattr(event, name) for name in fields}
    changed = privacy.apply(event, source)
    assert changed == (before != {name: getattr(event, name) for name in fields})
    return event


def test_recipients_are_hashed_in_every_field() -> None:
    event = apply(
        PRIVACY,
        to=" <John@Example.com> ",
        to_user="john",
        to_hash="john@example.com",
        response_message="<john@example.com> full",
        error_message="no <john@example.com>",
        error_code="john@example.com",
        to_domain="john@example.com",
    )
    assert event.to == event.to_hash == f"{JOHN}@example.com"
    assert event.to_user == PRIVACY.hash("john")
    assert event.response_message == f"<{JOHN}@example.com> full"
    assert event.error_message == f"no <{JOHN}@example.com>"
    assert (event.error_code, event.to_domain) == (f"{JOHN}@example.com", "example.com")


def test_a_recipient_with_a_display_name_keeps_nothing_but_the_domain() -> None:
    assert PRIVACY.address("John Doe <john@example.com>") == f"{JOHN}@example.com"
    assert "@" not in PRIVACY.address("john@exa mple, or jane")


def test_senders_and_hashes_of_others_stay() -> None:
    fields = {"from_address": "a@x", "user": "a@x", "client_ip": "192.0.2.1", "to_hash": "00ff"}
    event = apply(PRIVACY, **fields)
    assert {name: getattr(event, name) for name in fields} == fields


def test_recipients_can_be_kept() -> None:
    fields = {"to": "john@example.com", "response_message": "<john@example.com> full"}
    event = apply(Privacy(b"key", keep_recipients=True), **fields)
    assert {name: getattr(event, name) for name in fields} == fields


def test_users_can_be_hashed_too_and_replies_with_them() -> None:
    privacy = Privacy(b"key", keep_recipients=True, pseudonymise=["user"])
    event = apply(
        privacy,
        user="john@example.com",
        login="john",
        auth_user="john",
        from_user="john",
        from_address="john@example.com",
        from_="john@example.com",
        to="jane@example.com",
        response_message="no relaying for <john@example.com>",
    )
    address, name = f"{JOHN}@example.com", privacy.hash("john")
    assert (event.user, event.from_address, event.from_) == (address, address, address)
    assert (event.login, event.auth_user, event.from_user) == (name, name, name)
    assert event.to == "jane@example.com"
    assert event.response_message == f"no relaying for <{address}>"


def test_client_addresses_can_be_hashed_too() -> None:
    privacy = Privacy(b"key", pseudonymise=["client_ip"])
    event = apply(privacy, client_ip="192.0.2.1", source_ip="192.0.2.1", sending_ip="192.0.2.2")
    assert event.client_ip == event.source_ip == privacy.hash("192.0.2.1")
    assert event.sending_ip == "192.0.2.2"
    ours = apply(privacy, "zonemta", client_ip="192.0.2.1", source_ip="192.0.2.1")
    assert (ours.client_ip, ours.source_ip) == (privacy.hash("192.0.2.1"), "192.0.2.1")


def test_hashes_depend_on_the_key_whatever_its_length() -> None:
    keys = (b"key", b"kez", b"k" * 64, b"k" * 65, b"k" * 66)
    assert len({Privacy(key).hash("john@example.com") for key in keys}) == len(keys)
