"""Laws of GELF: whatever arrives, whole messages come out, nothing breaks, and memory is bounded."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import RecordError
from pipeline.core.posted import PostedEvent, check_fields
from pipeline.enrich.forms import forms
from pipeline.enrich.normalise import drop_empty
from pipeline.enrich.parsing import Context, Skip
from producers.gelf.chunks import COST, MAGIC, Assembler
from producers.gelf.kept import Keeper
from producers.gelf.records import RecordMaker
from producers.haul import Haul
from producers.known_names import KnownNames
from producers.privacy import Privacy
from tests.kit.gelf import npm_chunks, standard_chunks

MAX_BYTES = 50_000
NOW = 1_767_268_800_000
CONTEXT = Context("192.0.2.9", NOW)


@st.composite
def cut_messages(draw: st.DrawFn) -> tuple[list[tuple[tuple[str, int], bytes]], Counter[bytes]]:
    """Return datagrams of several senders, out of order, some twice, some lost; and what is whole."""
    datagrams: list[tuple[tuple[str, int], bytes]] = []
    whole: Counter[bytes] = Counter()
    # The npm client's ids have one byte: a sender that uses one again replaces what it had begun.
    senders = st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2"]), st.integers(1, 2))
    ids = draw(st.lists(st.tuples(senders, st.integers(0, 255)), max_size=6, unique=True))
    for sender, number in ids:
        message = zlib.compress(draw(st.binary(min_size=1, max_size=300)))
        size = draw(st.integers(3, 120))
        if draw(st.booleans()):
            chunks = npm_chunks(message, number, size)
        else:
            # Neither id can be taken for the other's: the standard's are made at random.
            chunks = standard_chunks(message, bytes([number]) + b"\xff" * 7, size)
        if draw(st.integers(0, 4)):
            whole[message] += 1
            chunks += draw(st.lists(st.sampled_from(chunks[:-1]), max_size=2)) if chunks[1:] else []
        else:
            del chunks[draw(st.integers(0, len(chunks) - 1))]
        datagrams += [(sender, chunk) for chunk in chunks]
    return draw(st.permutations(datagrams)), whole


@settings(deadline=None)
@given(cut_messages())
def test_exactly_the_messages_of_which_all_chunks_came_come_out(
    made: tuple[list[tuple[tuple[str, int], bytes]], Counter[bytes]],
) -> None:
    datagrams, whole = made
    assembler = Assembler(max_bytes=1 << 20)
    found = [one for sender, chunk in datagrams if (one := assembler.take(sender, chunk, 0.0))]
    assert Counter(found) == whole
    assembler.expire(10.0)
    assert (assembler.held_bytes, assembler.messages) == (0, 0)


CHUNKS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda head, number, count, rest: head + bytes([number, count]) + rest,
        st.sampled_from([b"\x07", b"\x08", b"abcdefgh", b"\x07\x00\x02\x78\x9c\x01\x02\x03"]),
        st.integers(0, 4),
        st.integers(0, 4),
        st.sampled_from([b"", b"{", b"\x78\x9c", b"x" * 30]),
    ),
).map(lambda rest: MAGIC + rest)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 3), CHUNKS, st.sampled_from([0.0, 0.1, 3.0])), max_size=60),
    st.integers(4 * COST, 4000),
    st.integers(4, 40),
)
def test_hostile_chunks_neither_raise_nor_take_more_memory_than_allowed(
    hostile: list[tuple[int, bytes, float]], max_bytes: int, max_messages: int
) -> None:
    assembler = Assembler(max_bytes=max_bytes, max_messages=max_messages)
    now = 0.0
    for number, chunk, step in hostile:
        now += step
        assembler.take((f"192.0.2.{number}", 1), chunk, now)
        assert 0 <= assembler.held_bytes <= max_bytes
        assert assembler.messages <= max_messages
    assembler.expire(now + 6)
    assert (assembler.held_bytes, assembler.messages) == (0, 0)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.sampled_from(["_other", "_unknown", "\x00", "a@b", "a,b", "192.0.2.1", "1e999", "nan"]),
    st.lists(st.integers(), max_size=2),
)
MESSAGES = st.dictionaries(
    st.sampled_from(
        [
            "_auth_result",
            "_auth_ok",
            "_auth_fail",
            "_xclient",
            "_username",
            "_user",
            "_scope",
            "_ip",
            "_from",
            "_to",
            "_queue_id",
            "_queue_id_seq",
            "_message_id",
            "_bounce_count",
            "_body_size",
            "_spam_score",
            "_local_ip",
            "_mx",
            "_mx_host",
            "_response",
            "_error",
            "_stored",
            "_failure",
            "timestamp",
            "host",
            "version",
            "_allowed",
            "_zone",
        ]
    ),
    VALUES,
    max_size=12,
)
SHORT = st.sampled_from(
    [
        "QUEUED",
        "ACCEPTED",
        "DEFERRED",
        "REJECTED",
        "NOQUEUE",
        "DELETED",
        "DROP",
        "DENY",
        "PROCESS",
        "AUTHFAIL",
        "X",
    ]
).map(lambda word: f"[{word}] x")


def as_payload(fields: dict[str, Any], short: str, component: str, *, packed: bool) -> bytes:
    message = {"short_message": short, "_component": component, **fields}
    text = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return zlib.compress(text) if packed else text


PAYLOADS = st.one_of(
    st.binary(max_size=50),
    st.builds(
        as_payload,
        MESSAGES,
        SHORT,
        st.sampled_from(["mta", "mx", "wildduck", "other"]),
        packed=st.booleans(),
    ),
)


@settings(deadline=None, max_examples=400)
@given(st.lists(PAYLOADS, max_size=8))
def test_every_message_is_a_record_or_is_counted_and_every_record_can_be_read(
    payloads: list[bytes],
) -> None:
    keeper = Keeper(Privacy(b"key"), KnownNames())
    maker = RecordMaker(keeper, max_bytes=MAX_BYTES, keep_unknown=True)
    haul = Haul()
    for number, payload in enumerate(payloads):
        maker.take(payload, "192.0.2.9", str(number), NOW, haul)
    assert haul.received == len(payloads) == len(haul.records) + sum(haul.discarded.values())
    for record in haul.records:
        source = dict(record.headers)["source"].decode()
        parse = forms(gelf_mta_events=True)[source, "gelf"].parse
        assert parse is not None
        try:
            event = parse(record.value, CONTEXT)
            if isinstance(event, PostedEvent):
                drop_empty(event)
                check_fields(event, suspicious=True)
            else:
                assert isinstance(event, Skip)
        except RecordError:
            continue
