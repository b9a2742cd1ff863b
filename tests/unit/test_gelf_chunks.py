"""Chunked GELF, in the standard's layout and in the npm client's."""

from __future__ import annotations

import json
import random
import zlib

import pytest

from producers.gelf.chunks import COST, KEPT_S, Assembler, ChunkLoss
from tests.kit.gelf import MAGIC, npm_chunks, npm_datagrams, standard_chunks

SENDER = ("192.0.2.1", 40_000)
MESSAGE = zlib.compress(random.Random(1).randbytes(5000))
ID = b"abcdefgh"


def assembler(max_bytes: int = 1 << 20, max_messages: int = 1000) -> Assembler:
    return Assembler(max_bytes=max_bytes, max_messages=max_messages)


def test_the_npm_client_s_chunks_are_understood() -> None:
    made = assembler()
    first, second, whole = npm_datagrams()
    assert not whole.startswith(MAGIC)
    assert made.take(SENDER, first, 0) is None
    message = made.take(SENDER, second, 0)
    assert message is not None
    assert json.loads(zlib.decompress(message))["_mail_action"] == "deferred"
    assert (made.held_bytes, made.messages, made.lost) == (0, 0, {})


def test_standard_chunks_in_any_order_and_twice_are_one_message() -> None:
    made = assembler()
    chunks = standard_chunks(MESSAGE, ID, 1000)
    order = [*chunks[::-1], *chunks]
    found = [one for chunk in order if (one := made.take(SENDER, chunk, 0)) is not None]
    assert found == [MESSAGE, MESSAGE]  # the second copy of every chunk came after it was whole
    again = [made.take(SENDER, chunk, 0) for chunk in [*chunks[:-1], *chunks[:-1], chunks[-1]]]
    assert again[-1] == MESSAGE
    assert set(again[:-1]) == {None}


def test_a_message_may_have_128_chunks_and_no_more() -> None:
    size = -(-len(MESSAGE) // 128)
    made = assembler()
    found = [made.take(SENDER, chunk, 0) for chunk in standard_chunks(MESSAGE, ID, size)]
    assert found[-1] == MESSAGE
    for number, count in ((0, 0), (0, 129), (5, 5), (200, 128)):
        chunk = MAGIC + b"\xff" * 8 + bytes([number, count]) + b"{"
        assert made.take(SENDER, chunk, 0) is None
    assert made.take(SENDER, MAGIC + b"\x01", 0) is None
    assert made.lost == {ChunkLoss.INVALID: 5}


def test_what_is_not_whole_after_five_seconds_is_dropped() -> None:
    made = assembler()
    first, *rest = standard_chunks(MESSAGE, ID, 3000)
    made.take(SENDER, first, 0)
    made.expire(KEPT_S)
    assert made.held_bytes
    made.expire(KEPT_S + 0.1)
    assert (made.messages, made.held_bytes, made.lost) == (0, 0, {ChunkLoss.EXPIRED: 1})
    assert made.take(SENDER, rest[0], KEPT_S + 0.1) is None


def test_senders_do_not_mix() -> None:
    made = assembler()
    first, second = npm_chunks(MESSAGE, 7, 3000)
    assert made.take(SENDER, first, 0) is None
    assert made.take((SENDER[0], 40_001), second, 0) is None
    assert made.take(SENDER, second, 0) == MESSAGE


def test_an_id_that_is_used_again_begins_a_new_message() -> None:
    made = assembler()
    other = zlib.compress(random.Random(2).randbytes(5000))
    made.take(SENDER, npm_chunks(other, 7, 3000)[0], 0)
    found = [made.take(SENDER, chunk, 1) for chunk in npm_chunks(MESSAGE, 7, 3000)]
    assert found == [None, MESSAGE]
    assert made.lost == {ChunkLoss.REPLACED: 1}


@pytest.mark.parametrize(("max_bytes", "max_messages"), [(40_000, 10_000), (1 << 30, 40)])
def test_one_sender_has_a_quarter_and_leaves_the_rest_to_others(
    max_bytes: int, max_messages: int
) -> None:
    made = assembler(max_bytes, max_messages)
    for number in range(1000):
        chunk = standard_chunks(MESSAGE, number.to_bytes(8), 1000)[0]
        made.take(SENDER, chunk, 0)
    assert made.held_bytes <= max_bytes // 4
    assert made.messages <= max_messages // 4
    assert made.lost[ChunkLoss.OVERFLOW] > 900
    other = "192.0.2.2", 1
    found = [made.take(other, chunk, 0) for chunk in standard_chunks(MESSAGE, ID, 3000)]
    assert found[-1] == MESSAGE


def test_empty_chunks_take_memory_too() -> None:
    made = assembler(100 * COST)
    for number in range(1000):
        made.take((f"192.0.2.{number % 250}", 1), MAGIC + number.to_bytes(8) + b"\x01\x02", 0)
    assert made.messages <= 100


def test_a_chunk_of_the_npm_client_that_looks_like_an_only_one_of_the_standard_waits() -> None:
    message = bytes.fromhex("789c5ba10900017b00d2")
    assembler = Assembler(max_bytes=1 << 20)
    # The sixth and seventh byte of the data are 0 and 1, and what follows begins like JSON.
    assert message[5:8] == b"\x00\x01{"
    assert assembler.take(("192.0.2.1", 1), b"\x1e\x0f\x07\x00\x02" + message, 0.0) is None
    assert assembler.take(("192.0.2.1", 1), b"\x1e\x0f\x07\x01\x02rest", 0.0) == message + b"rest"
