"""Laws of the probe's token and mail: only ours is read, whatever was done to it on the way."""

from __future__ import annotations

import email
import email.policy

from hypothesis import given
from hypothesis import strategies as st

from producers.sources.probe.mail_header import read_header
from producers.sources.probe.message import compose
from producers.sources.probe.tls import days_left
from producers.sources.probe.token import new_token, probe_key, read_token, read_tokens

KEYS = st.binary(min_size=1, max_size=40)
ROUTES = st.text(max_size=80)
TIMES = st.integers(0, 2**48 - 1)
AROUND = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TOKEN_LENGTH = 35


@given(KEYS, ROUTES, TIMES, AROUND, AROUND, st.booleans())
def test_a_token_is_read_back_from_any_text(
    key: bytes, route: str, now_ms: int, before: str, after: str, upper: bool
) -> None:
    token = new_token(key, route, now_ms)
    assert len(token) == TOKEN_LENGTH
    assert token.isalnum()
    assert token.isascii()
    read = read_token(key, f"{before} {token.upper() if upper else token} {after}")
    assert read is not None
    assert (read.text, read.sent_ms) == (token, now_ms)
    assert read.is_of(route)
    assert not read.is_of(route + "x")


@given(KEYS, ROUTES, TIMES, st.integers(3, TOKEN_LENGTH - 1), st.sampled_from("abcdefgh234567"))
def test_a_token_with_another_letter_is_none(
    key: bytes, route: str, now_ms: int, at: int, letter: str
) -> None:
    token = new_token(key, route, now_ms)
    forged = token[:at] + letter + token[at + 1 :]
    assert (read_token(key, forged) is None) == (forged != token)


@given(KEYS, st.text(max_size=20), st.text(max_size=20), ROUTES, TIMES)
def test_probes_do_not_read_each_others_tokens(
    secret: bytes, one: str, other: str, route: str, now_ms: int
) -> None:
    token = new_token(probe_key(secret, one), route, now_ms)
    assert (read_token(probe_key(secret, other), token) is not None) == (one == other)


@given(ROUTES, st.text(max_size=80), TIMES)
def test_the_mail_is_one_that_mail_servers_accept_and_we_recognise(
    route: str, prefix: str, now_ms: int
) -> None:
    key = b"key"
    token = new_token(key, route, now_ms % 2**41)
    mail = compose(
        prefix=prefix,
        route=route,
        token=token,
        sender="a@example.test",
        recipient="b@example.test",
        now_ms=now_ms % 2**41,
    )
    head, _, body = mail.content.partition(b"\r\n\r\n")
    assert head.isascii()
    assert all(len(line) <= 998 for line in mail.content.split(b"\r\n"))
    assert b"\n" not in mail.content.replace(b"\r\n", b"")
    assert b"\r\n." not in body
    parsed = email.message_from_bytes(mail.content, policy=email.policy.compat32)
    assert not parsed.defects
    assert [name for name in parsed if name.lower() in {"from", "to", "message-id"}] == [
        "From",
        "To",
        "Message-ID",
    ]
    read = read_header(mail.content, key)
    assert read is not None
    assert read.token.text == token
    # Each place tells it by itself.
    for kept in ("Subject", "Message-ID", "X-Mailstream-Probe"):
        alone = f"{kept}: {parsed[kept]}\r\n\r\n".encode()
        found = read_header(alone, key)
        assert found is not None, kept


@given(st.binary(max_size=400))
def test_any_bytes_are_a_header_of_somebody_else(raw: bytes) -> None:
    assert read_header(raw, b"key") is None
    assert list(read_tokens(b"key", raw.decode("latin-1"))) == []


@given(st.binary(max_size=400))
def test_any_bytes_are_a_certificate_without_a_date(raw: bytes) -> None:
    days_left(raw, 0)  # raises nothing
