"""Which GELF messages are written, under which source, key and id, and what of them is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.core.batch import OutRecord, header
from pipeline.core.errors import Reason
from producers.gelf.kept import Keeper, NameOf, no_names
from producers.gelf.records import Drop, RecordMaker
from producers.gelf.subjects import Noise
from producers.haul import Haul
from producers.known_names import KnownNames
from producers.privacy import Privacy
from tests.kit.gelf import captured, sample

NOW = 1_767_268_800_000
DAY = 24 * 3_600_000
PRIVACY = Privacy(b"key")


class Makers:
    """A maker of records, and the receipts it has seen."""

    def __init__(
        self, privacy: Privacy = PRIVACY, name_of: NameOf = no_names, **options: Any
    ) -> None:
        self.maker = RecordMaker(
            Keeper(privacy, KnownNames(), name_of), max_bytes=1 << 20, **options
        )
        self.receipts = 0

    def haul(self, *messages: dict[str, Any], now_ms: int = NOW) -> Haul:
        """Return what comes of *messages*."""
        haul = Haul()
        for message in messages:
            self.receipts += 1
            text = json.dumps(message).encode()
            self.maker.take(text, "192.0.2.9", f"receipt {self.receipts}", now_ms, haul)
        return haul

    def record(self, message: dict[str, Any], now_ms: int = NOW) -> OutRecord:
        """Return the one record of *message*."""
        (record,) = self.haul(message, now_ms=now_ms).records
        return record

    def kept(self, message: dict[str, Any], now_ms: int = NOW) -> dict[str, Any]:
        """Return what is stored of *message*."""
        found: dict[str, Any] = json.loads(self.record(message, now_ms).value)
        return found


def event_id(record: OutRecord) -> bytes | None:
    return header(record.headers, "id")


def test_a_mail_record_has_the_queue_id_for_its_key_and_the_headers_of_every_record() -> None:
    record = Makers().record(sample("mta_accepted"))
    assert record.key == b"1a1fb726424000f370"
    assert [name for name, _ in record.headers] == ["id", "source", "feed", "origin", "received"]
    assert dict(record.headers[1:]) == {
        "source": b"gelf",
        "feed": b"gelf",
        "origin": b"192.0.2.9",
        "received": b"%d" % NOW,
    }


def test_the_same_mail_event_has_the_same_id_and_another_has_another() -> None:
    makers = Makers()
    deferred = sample("mta_deferred")
    ids = [
        event_id(makers.record(message))
        for message in (
            deferred,
            {**deferred, "timestamp": 1.5, "version": "1.1"},
            {**deferred, "_bounce_count": 2},
            {**deferred, "_queue_id_seq": "003"},
            {**deferred, "short_message": "MTA [ACCEPTED] x"},
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_recipients_of_one_inbound_transaction_are_told_apart() -> None:
    makers = Makers()
    denied = sample("mx_deny_rejected")
    first, second = makers.record(denied), makers.record({**denied, "_to": "eve@example.com"})
    assert event_id(first) != event_id(second)
    assert first.key == second.key


def test_equal_logins_are_two_logins() -> None:
    makers = Makers()
    login = sample("mta_login_ok_handler")
    first, second = makers.record(login), makers.record(login)
    assert event_id(first) != event_id(second)
    assert first.key == event_id(first)
    assert header(first.headers, "source") == b"wildduck"


def test_subjects_names_and_addresses_in_texts_are_not_kept() -> None:
    queued = {**sample("mta_queued"), "full_message": "secret", "_made_up": "secret"}
    kept = Makers().kept(queued)
    text = json.dumps(kept)
    assert kept["short_message"] == "[QUEUED]"
    for secret in ("Hello", "Alice Example", "secret", "bob@", "carol@"):
        assert secret not in text
    assert kept["_to"].split(",") == [
        PRIVACY.address("bob@example.net"),
        PRIVACY.address("carol@example.org"),
    ]
    assert kept["_from"] == "alice@example.com"


def test_no_captured_message_leaks_a_name_in_its_text() -> None:
    for message in captured():
        for record in Makers().haul(message).records:
            assert "@" not in json.loads(record.value)["short_message"]


def test_a_login_s_bracket_word_is_kept_only_where_it_is_no_name() -> None:
    login = sample("mta_login_ok_handler")
    assert Makers().kept(login)["short_message"] == "[AUTHOK]"
    odd = {**login, "short_message": "[alice@example.com] logged in"}
    assert Makers().kept(odd)["short_message"] == ""


def test_pseudonyms_stand_for_accounts_and_clients_where_that_is_configured() -> None:
    privacy = Privacy(b"key", pseudonymise=("user", "client_ip"))
    kept = Makers(privacy).kept(sample("mta_login_ok_handler"))
    assert kept["_username"] == privacy.address("alice@example.com")
    assert kept["_ip"] == privacy.hash("198.51.100.20")
    assert kept["_user"] == "6b00e0e81af430f16da7f801"


def test_a_name_that_is_no_account_s_is_hashed() -> None:
    makers = Makers()
    kept = makers.kept(sample("imap_login_unknown_user"))
    assert "_username" not in kept
    assert kept["_username_hash"] == PRIVACY.hash("ghost@example.com")
    assert "ghost" not in json.dumps(kept)


def test_a_name_with_an_account_s_id_is_known_even_if_the_login_fails() -> None:
    assert Makers().kept(sample("imap_login_fail_no_mail_action"))["_username"] == (
        "alice@example.com"
    )


def test_a_name_without_an_id_is_known_for_a_day_after_it_has_logged_in() -> None:
    makers = Makers()
    failed = {"short_message": "[AUTHFAIL]", "_auth_result": "fail", "_username": "bob"}
    assert "_username" not in makers.kept(failed)
    makers.kept({**failed, "_auth_result": "success", "_username": "Bob"})
    assert makers.kept(failed, NOW + DAY)["_username"] == "bob"
    assert "_username" not in makers.kept(failed, NOW + DAY + 1)
    unknown = {**failed, "_auth_result": "unknown"}
    assert "_username" not in makers.kept(unknown)  # WildDuck knows better


def test_the_names_that_are_remembered_are_bounded() -> None:
    names = KnownNames(most=2)
    for name in ("a", "b", "a", "c", "x" * 321):
        names.succeeded(name, NOW)
    assert [names.has(name, NOW) for name in ("a", "b", "c", "x" * 321)] == [
        True,
        False,
        True,
        False,
    ]
    assert len(names) == 2


def test_an_id_becomes_a_name_where_there_is_no_name_beside_it() -> None:
    makers = Makers(name_of={"6b00e0e81af430f16da7f801": "alice"}.get)
    received = makers.kept(sample("mx_process_received"))
    assert received["_username"] == PRIVACY.recipient("alice")
    assert received["_user"] == "6b00e0e81af430f16da7f801"
    login = makers.kept(sample("mta_login_ok_handler"))
    assert login["_username"] == "alice@example.com"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"_component": "mta", "short_message": "MTA [QUEUE_POLL] default"}, Noise.QUEUE),
        ({"_component": "mta", "short_message": "MTA [RWFROM] x"}, Noise.REWRITE),
        (
            {"_component": "mta", "short_message": "MTA [RCPT TO:a@b] s", "_allowed": "yes"},
            Noise.ENVELOPE,
        ),
        ({"_component": "mx", "short_message": "MX [MAIL FROM:a@b] s"}, Noise.ENVELOPE),
        ({"_component": "mx", "short_message": "MX [DKIM] pass"}, Noise.CONTENT),
        ({"_component": "mx", "short_message": "MX [Skip forward] x"}, Noise.FORWARD),
        ({"_component": "wildduck", "short_message": "WILDDUCK [CONNSTART] x"}, Noise.CONNECTION),
        ({"_component": "wildduck", "short_message": "WILDDUCK HTTP [GET /users] OK"}, Noise.HTTP),
        ({"_component": "wildduck", "short_message": "WILDDUCK [APPEND] x"}, Noise.IMAP),
        ({"_component": "wildduck", "short_message": "WILDDUCK [HEALTH] x"}, Noise.HEALTH),
        ({"_component": "wildduck", "short_message": "something new"}, Noise.OTHER),
        (sample("quota_change"), Noise.QUOTA),
    ],
)
def test_noise_is_counted_by_kind_and_not_written(message: dict[str, Any], kind: Noise) -> None:
    haul = Makers().haul(message)
    assert (haul.received, haul.records) == (1, [])
    assert (haul.discarded, haul.noise) == ({Drop.NOISE: 1}, {kind: 1})


def test_other_programs_messages_are_counted_and_kept_only_where_that_is_asked_for() -> None:
    other = {"short_message": "mail for bob@example.net", "host": "h", "_user_id": 9, "level": 3}
    haul = Makers().haul(other)
    assert (haul.records, haul.discarded) == ([], {Drop.UNKNOWN_APPLICATION: 1})
    kept = Makers(keep_unknown=True).kept(other)
    hashed = PRIVACY.address("bob@example.net")
    assert kept == {"short_message": f"mail for {hashed}", "host": "h", "level": 3}


def test_a_record_that_hashes_make_too_large_for_kafka_is_refused() -> None:
    many = {**sample("mta_queued"), "_to": ",".join(["a@b"] * 250_000)}
    haul = Makers().haul(many)
    assert (haul.records, haul.discarded) == ([], {Reason.TOO_LARGE: 1})


def test_a_key_that_is_absurdly_long_is_refused() -> None:
    haul = Makers().haul({**sample("mta_accepted"), "_queue_id": "x" * 256})
    assert (haul.records, haul.discarded) == ([], {Reason.INVALID_FIELD: 1})


def test_a_listener_s_host_replaces_the_message_s() -> None:
    accepted = sample("mta_accepted")
    assert Makers(host="mta7").kept(accepted)["host"] == "mta7"
    without = {name: value for name, value in accepted.items() if name != "host"}
    assert Makers(host="mta7", strict=True).kept({**accepted, "version": "1.1"})["host"] == "mta7"
    assert "host" not in Makers().kept(without)


def test_gelf_s_own_fields_stay_on_the_raw_topic() -> None:
    own = {"facility": "mail", "level": 3, "line": "41", "file": "a.js", "timestamp": "1.5"}
    kept = Makers().kept({**sample("mta_accepted"), **own})
    assert own.items() <= kept.items()
