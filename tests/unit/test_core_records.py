"""The internal records (delta frames, seen runs) read back as written, and refuse what they can't read."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import delta, seen
from pipeline.core.delta import DeltaFrame, FamilyRows, decode_frame, encode_frame
from pipeline.core.errors import FrameVersionError, InvariantError, MailstreamError
from pipeline.core.seen import SeenRun, Segment, decode_run, encode_run

ROWS = st.lists(
    st.tuples(
        st.text(max_size=12),
        st.integers(0, 11),
        st.integers(0, 2**32 - 1),
        st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=30,
)


@given(ROWS, st.booleans())
def test_a_frame_reads_back_as_it_was_written(
    rows: list[tuple[str, int, int, int]], with_last: bool
) -> None:
    keys = sorted({key for key, *_ in rows})
    column = np.array([count for *_, count in rows], np.int64)
    family = FamilyRows.of(
        "user",
        keys,
        np.array([keys.index(key) for key, *_ in rows], np.int64),
        np.array([kind for _, kind, _, _ in rows], np.int64),
        np.array([pane for _, _, pane, _ in rows], np.int64),
        {"count": column},
        column if with_last else None,
    )
    read = decode_frame(encode_frame(DeltaFrame(delta.VERSION, "t", 3, 17, [family]))).families[0]
    seen_rows = [
        (read.keys[key], int(kind), int(pane), int(count))
        for key, kind, pane, count in zip(
            read.column_key_index(),
            read.column_event_type(),
            read.column_pane(),
            read.column_sum("count"),
            strict=True,
        )
    ]
    assert seen_rows == rows
    assert len(read) == len(rows)
    assert read.column_sum("a sum that an older writer did not know").tolist() == [0] * len(rows)
    last = read.column_last()
    assert last is None or last.tolist() == column.tolist()
    assert (last is None) == (not with_last or not rows)


def test_a_frame_of_a_newer_program_is_told_apart_from_garbage() -> None:
    newer = msgspec.msgpack.encode([delta.VERSION + 1, {"another": "layout"}])
    with pytest.raises(FrameVersionError):
        decode_frame(newer)
    same_layout = encode_frame(DeltaFrame(delta.VERSION + 1, "t", 0, 0, []))
    with pytest.raises(FrameVersionError):
        decode_frame(same_layout)
    broken = msgspec.msgpack.encode([delta.VERSION, "t"])
    with pytest.raises(InvariantError):
        decode_frame(broken)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_a_frame_or_an_error_of_ours(value: bytes) -> None:
    for decode in (decode_frame, decode_run):
        try:
            decode(value)
        except MailstreamError:
            continue


@given(st.lists(st.integers(0, 2**64 - 1), unique=True), st.integers(0, 2**60))
def test_a_seen_run_reads_back_as_it_was_written(hashes: list[int], bucket: int) -> None:
    column = np.array(sorted(hashes), seen.HASH)
    run = SeenRun(seen.VERSION, "raw", 1, 5, 9, 1234, [Segment(bucket, column.tobytes())])
    read = decode_run(encode_run(run))
    assert (read.topic, read.partition, read.start, read.end, read.received_ms) == (
        "raw",
        1,
        5,
        9,
        1234,
    )
    assert read.segments[0].bucket == bucket
    assert read.segments[0].column().tolist() == sorted(hashes)


def test_a_seen_run_of_a_newer_program_is_refused() -> None:
    with pytest.raises(FrameVersionError):
        decode_run(encode_run(SeenRun(seen.VERSION + 1, "raw", 0, 0, 0, 0, [])))


class Before(msgspec.Struct, array_like=True):
    """The rows of a family as programs before distinct values knew them."""

    family: str
    keys: list[str]
    key_index: bytes
    event_type: bytes
    pane: bytes
    sums: dict[str, bytes]
    last: bytes = b""


class FrameBefore(msgspec.Struct, array_like=True):
    """A frame of theirs."""

    version: int
    topic: str
    partition: int
    watermark_ms: int
    families: list[Before]


def test_frames_of_before_and_after_distinct_values_are_read_by_either_program() -> None:
    row: list[Any] = ["user", ["ann"], bytes(4), b"\0", bytes(4), {"count": bytes(8)}, b""]
    frame: list[Any] = [delta.VERSION, "t", 0, 0, [row]]
    assert decode_frame(msgspec.msgpack.encode(frame)).families[0].distincts == {}
    row.append({"destinations": [bytes(4), bytes(4), bytes(8)]})
    newer = msgspec.msgpack.encode(frame)
    assert len(decode_frame(newer).families[0].distincts["destinations"]) == 1
    assert msgspec.msgpack.decode(newer, type=FrameBefore).families[0].keys == ["ann"]
