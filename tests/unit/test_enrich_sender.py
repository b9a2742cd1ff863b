"""Who is accountable for a mail."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.enrich.sender import Claim, identify, unwrap


def claim(**fields: Any) -> Claim:
    empty = dict.fromkeys(Claim._fields)
    return Claim(**{**empty, **fields})


@pytest.mark.parametrize(
    ("said", "user"),
    [
        ({"user": "alice"}, "alice"),
        ({"user": " alice "}, "alice"),
        ({"user": "Alice@Example.ORG."}, "Alice@example.org"),
        ({"auth_user": "bob@x.org"}, "bob@x.org"),
        ({"user": "alice", "auth_user": "bob"}, "alice"),
        ({"user": "alice", "from_address": "b@x.org"}, "alice"),
        ({"user": "", "from_user": "b@x.org"}, "b@x.org"),
        ({"user": "  ", "from_user": "b@x.org"}, "b@x.org"),
        ({"from_user": "b@X.org", "from_domain": "y.org"}, "b@x.org"),
        ({"from_user": "b", "from_domain": "Y.org"}, "b@y.org"),
        ({"from_user": "b", "from_address": "c@z.org"}, "b@z.org"),
        ({"from_address": "<c@z.org>"}, "c@z.org"),
        ({"from_address": "c@z.org", "from_domain": "y.org"}, "c@z.org"),
        ({"from_address": "root", "from_domain": "y.org"}, "root@y.org"),
        ({"from_address": "root"}, None),
        ({"from_user": "b"}, None),
        ({"from_domain": "y.org"}, None),
        ({"user": "_other[x]"}, None),
        ({}, None),
    ],
)
def test_the_accountable_user_is_the_authenticated_one_else_the_sender(
    said: dict[str, str], user: str | None
) -> None:
    assert identify(claim(**said)).user == user


@pytest.mark.parametrize(
    ("text", "user", "login"),
    [
        ("alice[mobile]", "alice", "mobile"),
        ("alice@X.org[ phone ]", "alice@x.org", "phone"),
        ("[phone]", "[phone]", None),
        ("alice[]", "alice[]", None),
        ("alice", "alice", None),
    ],
)
def test_a_name_with_a_login_is_split(text: str, user: str, login: str | None) -> None:
    sender = identify(claim(user=text))
    assert (sender.user, sender.login) == (user, login)


@pytest.mark.parametrize(
    ("said", "name", "host", "address"),
    [
        ({"from_address": "<A@X.org>"}, "A", "x.org", "A@x.org"),
        ({"from_user": "a@x.org"}, "a@x.org", "x.org", "a@x.org"),
        ({"from_user": "a", "from_domain": "X.org."}, "a", "x.org", "a@x.org"),
        ({"from_domain": "X.org"}, None, "x.org", None),
        ({"from_user": "a"}, "a", None, None),
        ({"from_address": "root"}, "root", None, "root"),
        ({"from_address": "@x.org"}, None, None, None),
        ({"from_domain": "xn--Bcher-kva.example"}, None, "xn--bcher-kva.example", None),
        ({"from_address": "a@_OTHER"}, None, None, None),
        ({}, None, None, None),
    ],
)
def test_the_parts_of_a_sender_are_derived_from_one_another(
    said: dict[str, str], name: str | None, host: str | None, address: str | None
) -> None:
    sender = identify(claim(**said))
    assert (sender.from_user, sender.from_domain, sender.from_address) == (name, host, address)


@pytest.mark.parametrize(
    ("address", "is_dsn"), [("", True), ("<>", True), (" < > ", True), ("a@x.org", False)]
)
def test_an_empty_sender_is_a_dsn(address: str, is_dsn: bool) -> None:
    assert identify(claim(from_address=address)).is_dsn is is_dsn
    assert identify(claim(from_address=address, from_domain="x.org")).is_dsn is is_dsn


def test_no_sender_at_all_is_no_dsn() -> None:
    assert not identify(claim()).is_dsn
    assert identify(claim(from_address="<>", from_domain="x.org")).from_address is None


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        ("a@x.org", "a@x.org"),
        ("a+tag@x.org", "a+tag@x.org"),
        ("a=b@x.org", "a=b@x.org"),
        ("SRS0=HHH=TT=Example.org=alice@forwarder.net", "alice@example.org"),
        ("srs0+HHH=TT=example.org=alice@forwarder.net", "alice@example.org"),
        ("SRS0-HHH=TT=example.org=a=b@forwarder.net", "a=b@example.org"),
        ("SRS1=GGG=one.net==HHH=TT=example.org=alice@two.net", "alice@example.org"),
        ("SRS0=broken@forwarder.net", None),
        ("SRS1=GGG=one.net=broken@two.net", None),
        ("SRS0=HHH=TT=_other=alice@forwarder.net", None),
        ("srs0day@x.org", "srs0day@x.org"),
        ("prvs=0123456789=alice@example.org", "alice@example.org"),
        ("prvs=alice/0123456789@example.org", "alice@example.org"),
        ("msprvs1=17abcXYZ=bounces-1@example.org", "bounces-1@example.org"),
        ("btv1==ab12==alice@example.org", "alice@example.org"),
        ("prvs=alice@example.org", None),
        ("btv1==ab12@example.org", None),
        ("bounce+bob=rcpt.com@example.org", "bounce@example.org"),
        ("list-bounces+bob+tag=rcpt.com@example.org", "list-bounces@example.org"),
        ("news-return-123-bob=rcpt.com@example.org", "news-return@example.org"),
        ("bounces-jean-luc=rcpt.co.uk@example.org", "bounces@example.org"),
        ("bob=rcpt.com@example.org", None),
        ("+bob=rcpt.com@example.org", None),
        ("prvs=0123456789=SRS0=H=T=example.org=alice@f.net", "alice@example.org"),
        ("prvs=1=prvs=2=prvs=3=prvs=4=prvs=5=a@x.org", None),
    ],
)
def test_a_wrapped_sender_is_unwrapped_or_absent(wrapped: str, plain: str | None) -> None:
    assert unwrap(wrapped) == plain
    assert identify(claim(from_address=wrapped)).user == plain
    assert identify(claim(from_address=wrapped)).from_address is not None
