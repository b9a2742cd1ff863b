"""GELF payloads: packed or plain, of the format or nearly so."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from pipeline.core.errors import Reason, RecordError
from producers.gelf.messages import fields_of, unpack
from tests.kit.gelf import sample

TEXT = json.dumps(sample("mta_accepted")).encode()


@pytest.mark.parametrize(
    "payload",
    [TEXT, gzip.compress(TEXT), *(zlib.compress(TEXT, level) for level in (0, 1, 6, 9))],
)
def test_every_packing_is_undone(payload: bytes) -> None:
    assert unpack(payload, len(TEXT)) == TEXT


@pytest.mark.parametrize("payload", [TEXT, gzip.compress(TEXT), zlib.compress(TEXT)])
def test_what_is_larger_than_the_limit_is_never_unpacked_whole(payload: bytes) -> None:
    with pytest.raises(RecordError) as refused:
        unpack(payload, len(TEXT) - 1)
    assert refused.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", b"\x78\x9c", zlib.compress(TEXT)[:-1], b"\x1f\x8b\x08rubbish", b"[1]"],
)
def test_what_is_packed_in_no_known_way_is_malformed(payload: bytes) -> None:
    with pytest.raises(RecordError) as refused:
        unpack(payload, 1 << 20)
    assert refused.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("fields", [{}, {"version": "1.0"}, {"version": "1.1", "host": ""}])
def test_version_and_host_may_be_missing_unless_strictness_is_asked_for(
    fields: dict[str, Any],
) -> None:
    text = json.dumps({"short_message": "[X]", **fields}).encode()
    assert fields_of(text, strict=False)
    with pytest.raises(RecordError):
        fields_of(text, strict=True)


def test_the_format_itself_is_good_enough_for_the_strict() -> None:
    fields = {"version": "1.1", "host": "a", "short_message": "b"}
    assert fields_of(json.dumps(fields).encode(), strict=True) == fields


@pytest.mark.parametrize("text", [b"{", b"[]", b"7", b"{}", b'{"short_message":7}', b"\xff"])
def test_a_message_is_an_object_with_a_text(text: bytes) -> None:
    with pytest.raises(RecordError):
        fields_of(text, strict=False)
