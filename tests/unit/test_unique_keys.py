"""Proofs that no key stands twice."""

from __future__ import annotations

import pytest

from pipeline.core.errors import Reason, RecordError
from producers.unique_keys import count_key_ends, count_pairs, load, only_these, unknown_keys

TWICE = [
    b'{"user":"a","user":"b"}',
    b'{"user":null,"user":"b"}',
    b'{"user":"b","user":null}',
    b'{"user":"a","us\\u0065r":"b"}',
    b'{"user" :"a","user"\t:"b"}',
    b'{"x":1,"x":1}',
    b'{"x":{"y":1,"y":2}}',
    b'{"x":[{"y":1,"y":2}]}',
    b'{"user":"a","user":"b","error_message":"\\u0022:"}',
    b'{"user":":a","user":"b"}',
]
ONCE = [
    b"{}",
    b'{"user":"a"}',
    b'{ "user" : "a" , "login" : "b" }',
    b'{"user":null,"login":null}',
    b'{"user":"\\":","login":"\\" :"}',
    b'{"user":":","x":{"user":1}}',
    b'{"x":[{"y":1},{"y":2}],"user":"\\u0022:"}',
    b'{"user":"half a pair: \\ud800"}',
]


@pytest.mark.parametrize("text", TWICE)
@pytest.mark.parametrize("batch", [False, True])
def test_a_key_twice_in_any_object_is_found(text: bytes, *, batch: bool) -> None:
    body = b'{"events":[{"user":"a"},' + text + b"]}" if batch else text
    with pytest.raises(RecordError) as error:
        unknown_keys(body, batch=batch)
    assert error.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("text", ONCE)
@pytest.mark.parametrize("batch", [False, True])
def test_keys_that_stand_once_pass(text: bytes, *, batch: bool) -> None:
    unknown = unknown_keys(b'{"events":[' + text + b"]}" if batch else text, batch=batch)
    assert unknown == (b'"x"' in text)


@pytest.mark.parametrize("text", [b'{"events":[],"events":[]}', b'{"a":1,"a":2,"events":[]}'])
def test_the_batch_itself_is_an_object_too(text: bytes) -> None:
    with pytest.raises(RecordError):
        unknown_keys(text, batch=True)


def test_unknown_keys_are_counted_inside_and_outside_events() -> None:
    assert unknown_keys(b'{"events":[{"user":"a","x":1,"source":"s"},5],"y":1}', batch=True) == 3
    assert unknown_keys(b'{"x":{"y":1}}', batch=False) == 1


def test_the_quick_proof_accepts_exactly_what_was_decoded() -> None:
    encoded = b'{"user":"a","error_message":"\\":"}'
    ends = count_key_ends(encoded)
    assert only_these(encoded, ends)
    assert only_these(b' {"user": "a","error_message": "\\":"}', ends)
    assert not only_these(b'{"user":"a","error_message":"\\":","x":1}', ends)
    assert not only_these(b'{"user" :"a","error_message":"\\":"}', ends)


def test_escapes_cannot_outweigh_a_repeated_key() -> None:
    encoded = b'{"user":"b","error_message":"\\":"}'
    for escape in (b"\\u0022:", b'\\"\\u003a', b'\\"\\u003A'):
        text = b'{"user":"a","user":"b","error_message":"' + escape + b'"}'
        assert count_key_ends(text) == count_key_ends(encoded) + (b"\\u0022" not in escape) * 0
        assert not only_these(text, count_key_ends(encoded))


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":NaN}', b"\xff", b"[" * 100_000, b"9" * 5000])
def test_what_is_not_json_is_malformed(text: bytes) -> None:
    with pytest.raises(RecordError) as error:
        load(text)
    assert error.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("length", [0, 1, 2, 3, 255, 256, 257, 1000, 1001])
def test_pairs_are_counted_at_even_and_odd_places(length: int) -> None:
    for text in (b'":' * length, b'x":' * length, b":" * length, b'"' * length):
        assert count_pairs(text[:length], b'":') == text[:length].count(b'":')
