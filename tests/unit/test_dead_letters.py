"""Dead letters as read, whatever their headers hold."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from consumers.dead_letters import REASONS, Selection, letter_of, raw_place
from consumers.place import Place
from pipeline.core.batch import TopicPartition
from pipeline.core.errors import Reason, RecordError
from pipeline.enrich.dead import dead_letter
from pipeline.kit.settings import Settings
from tests.kit.plain import Plain

RAW = "mail.raw.zonemta"


@dataclass(frozen=True)
class Dead:
    """A record of ``mail.dead`` as aiokafka reads it."""

    headers: tuple[tuple[str, bytes], ...] = ()
    value: bytes | None = b"{}"
    topic: str = "mail.dead"
    partition: int = 3
    offset: int = 17
    timestamp: int = 1_767_000_000_000
    key: bytes | None = field(default=b"k")


@pytest.mark.parametrize("reason", Reason)
def test_what_phase_1_writes_is_read_back(reason: Reason) -> None:
    record = Plain(991, b'{"from": "a@example.com"}', b"k")
    words = str(RecordError(reason, "of a@example.com"))
    written = dead_letter(TopicPartition(RAW, 2), record, "zonemta", words)
    letter = letter_of(Dead(tuple(written.headers), written.value))
    assert (letter.reason, letter.source) == (reason.value, "zonemta")
    assert letter.error == f"{reason}: of ***@example.com"
    assert letter.original == Place(RAW, 2, 991)
    assert raw_place(Settings(), letter) == letter.original


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("error", b"\xff"), ("topic", RAW.encode()), ("partition", b"x"), ("offset", b"1")),
        (("topic", RAW.encode()), ("partition", b"1"), ("offset", b"-1")),
        (("topic", RAW.encode()), ("partition", "\u0661".encode()), ("offset", b"1")),
        (("topic", b"mail.events"), ("partition", b"1"), ("offset", b"1")),
        (("topic", b"other.raw.zonemta"), ("partition", b"1"), ("offset", b"1")),
    ],
)
def test_other_headers_name_no_original(headers: tuple[tuple[str, bytes], ...]) -> None:
    letter = letter_of(Dead(headers, None))
    assert raw_place(Settings(), letter) is None
    assert letter.reason in REASONS
    assert letter.value == b""


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(sources=["zonemta"], reasons=["bug", "malformed"]), True),
        (Selection(sources=["haraka"], reasons=["bug"]), False),
        (Selection(reasons=["malformed"]), False),
        (Selection(places=[(3, 17)]), True),
        (Selection(places=[(3, 18), (2, 17)]), False),
    ],
)
def test_a_selection_takes_what_fits_all_that_it_says(selection: Selection, *, taken: bool) -> None:
    letter = letter_of(Dead((("error", b"bug: x"), ("source", b"zonemta"))))
    assert selection.takes(letter) == taken
