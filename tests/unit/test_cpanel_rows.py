"""Rows of WHM: ids, what is stored, what is remembered, and where a poller stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import FrameVersionError, InvariantError
from producers.privacy import Privacy
from producers.sources.cpanel.checkpoint import Checkpoint, decode
from producers.sources.cpanel.rows import RowReader
from producers.sources.cpanel.seen import SeenIds
from tests.kit.whm import Row as Given
from tests.kit.whm import row_like, sample_rows

READER = RowReader("web1", None, Privacy(b"key"))


def id_of(row: Given, reader: RowReader = READER) -> str:
    read = reader.read(row)
    assert read is not None
    return read.event_id


def test_each_recorded_row_has_an_id_of_its_own() -> None:
    ids = [id_of(row) for row in sample_rows()]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 32 and one.isalnum() for one in ids)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("msgid", "1v-2"),
        ("type", "failure"),
        ("recipient", "x@example.net"),
        ("deliveredto", "x@example.net"),
        ("actionunixtime", 1),
        ("host", "mx9.example.net"),
    ],
)
def test_another_attempt_has_another_id(field: str, value: object) -> None:
    assert id_of(row_like("defer", **{field: value})) != id_of(row_like("defer"))


def test_another_spelling_or_text_of_the_reply_is_the_same_attempt() -> None:
    row = row_like("defer")
    same = {**row, "actionunixtime": str(row["actionunixtime"]), "message": "other", "size": None}
    assert id_of(same) == id_of(row)


def test_servers_have_ids_of_their_own_and_the_key_hides_recipients() -> None:
    row = row_like("success")
    others = (
        RowReader("web2", None, Privacy(b"key")),
        RowReader("web1", None, Privacy(b"other")),
    )
    assert len({id_of(row), *(id_of(row, other) for other in others)}) == 3
    keeping = RowReader("web1", None, Privacy(b"key", keep_recipients=True))
    assert id_of(row, keeping) == id_of(row)


def test_a_message_in_progress_is_one_thing_however_often_it_is_seen() -> None:
    row = row_like("inprogress")
    assert id_of({**row, "actionunixtime": 5, "recipient": "x"}) == id_of(row)


def test_a_row_without_a_message_is_told_by_everything_in_it() -> None:
    ids = {id_of({"type": "success", "host": host}) for host in ("a", "b")}
    assert len(ids) == 2
    assert READER.read("not an object") is None


def test_what_is_stored_are_known_fields_without_recipients() -> None:
    row = row_like("failure", secret="x", nested={"a": 1})
    read = READER.read(row)
    assert read is not None
    stored, dropped = READER.stored(read)
    assert dropped == 2
    assert set(stored) == set(row) - {"secret", "nested"}
    assert "nobody" not in json.dumps(stored)
    assert stored["deliveryuser"] == "-remote-"
    assert stored["sender"] == "alice@example.com"


def test_the_record_has_the_five_headers_and_the_message_as_its_key() -> None:
    reader = RowReader("web1", "192.0.2.80", Privacy(b"key"))
    read = reader.read(row_like("success"))
    assert read is not None
    record = reader.record(read, reader.stored(read).record, 1_763_664_000_000)
    assert record.key == b"1vMGx2-0000000A1bC-2dEf"
    assert dict(record.headers) == {
        "id": read.event_id.encode(),
        "source": b"cpanel",
        "feed": b"poll",
        "origin": b"web1",
        "received": b"1763664000000",
    }
    assert json.loads(record.value)["mailstream_sending_ip"] == "192.0.2.80"


def test_ids_are_remembered_until_their_rows_are_not_asked_for_any_more() -> None:
    seen = SeenIds()
    for at in (1000, 2000, 3000):
        seen.add(f"id-{at}", at)
    seen.add("id-1000", 2500)
    seen.forget_before(2400)
    assert [f"id-{at}" in seen for at in (1000, 2000, 3000)] == [True, False, True]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1000)), max_size=200))
def test_more_ids_than_there_is_room_for_push_out_the_oldest(
    added: list[tuple[int, int]],
) -> None:
    seen = SeenIds(max_ids=20)
    for number, at in added:
        seen.add(str(number), at)
        assert str(number) in seen or seen.forgotten_early
        assert len(seen) <= 20
    assert len({number for number, _ in added}) <= 20 or seen.forgotten_early


def test_a_checkpoint_comes_back_as_it_was() -> None:
    assert decode(Checkpoint(5, 4).encode()) == Checkpoint(5, 4)


def test_what_is_no_checkpoint_or_a_newer_one_is_refused() -> None:
    with pytest.raises(FrameVersionError):
        decode(b'{"version":2,"newest":1,"swept":1}')
    for value in (b"", b"[]", b"{}", b"\xff"):
        with pytest.raises(InvariantError):
            decode(value)
