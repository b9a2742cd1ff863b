"""What of an open-shaped record is stored."""

from __future__ import annotations

from typing import Any

import pytest

from producers.allow_list import Rule, cut
from producers.privacy import Privacy

ALLOWED = {
    "id": Rule.KEEP,
    "to": Rule.RECIPIENT,
    "all": Rule.RECIPIENTS,
    "said": Rule.REPLY,
    "user": Rule.SENDER,
    "ip": Rule.CLIENT,
}
STRICT = Privacy(b"key", pseudonymise=("user", "client_ip"))
USUAL = Privacy(b"key")
OPEN = Privacy(b"key", keep_recipients=True)
RECORD: dict[str, Any] = {
    "id": "a1",
    "to": "bob@example.org",
    "all": "bob@example.org, eve@example.net",
    "said": "550 <bob@example.org> unknown",
    "user": "alice@example.com",
    "ip": "192.0.2.7",
}


def test_what_is_not_on_the_list_is_dropped_and_counted() -> None:
    found = cut({**RECORD, "subject": "secret", "name": "Bob"}, ALLOWED, USUAL)
    assert list(found.record) == list(RECORD)
    assert found.dropped == 2


def test_objects_are_dropped_because_nobody_knows_what_is_in_them() -> None:
    found = cut({"id": {"a": "bob@example.org"}, "all": [["bob@example.org"]]}, ALLOWED, USUAL)
    assert (found.record, found.dropped) == ({}, 2)


def test_recipients_are_hashed_wherever_they_stand() -> None:
    hashed = USUAL.address("bob@example.org")
    record = cut(RECORD, ALLOWED, USUAL).record
    assert record["to"] == hashed
    assert record["all"] == f"{hashed},{USUAL.address('eve@example.net')}"
    assert record["said"] == f"550 <{hashed}> unknown"
    assert (record["user"], record["ip"]) == ("alice@example.com", "192.0.2.7")
    assert cut({"all": ["bob@example.org"]}, ALLOWED, USUAL).record == {"all": [hashed]}


def test_senders_and_clients_are_hashed_where_that_is_configured() -> None:
    record = cut(RECORD, ALLOWED, STRICT).record
    assert record["user"] == STRICT.address("alice@example.com")
    assert record["ip"] == STRICT.hash("192.0.2.7")


def test_everything_stays_where_recipients_are_kept() -> None:
    assert cut(RECORD, ALLOWED, OPEN).record == {
        **RECORD,
        "all": "bob@example.org,eve@example.net",
    }


@pytest.mark.parametrize("value", [None, 7, 1.5, True, "", []])
def test_values_without_text_stay_as_they_are(value: Any) -> None:
    for name in ALLOWED:
        assert cut({name: value}, ALLOWED, STRICT).record == {name: value}


def test_a_comma_in_a_quoted_local_separates_no_recipients() -> None:
    record = cut({"all": '"bob,jr"@example.org,eve@example.net'}, ALLOWED, USUAL).record
    hashed = [USUAL.address(one) for one in ('"bob,jr"@example.org', "eve@example.net")]
    assert record["all"] == ",".join(hashed)
    unclosed = '"' * 20_000 + '\\"' * 20_000
    assert cut({"all": unclosed}, ALLOWED, OPEN).record["all"] == unclosed
