"""Laws of ZoneMTA's log: whatever arrives, nothing breaks, and what was written is read again."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import RecordError
from pipeline.core.posted import PostedEvent, check
from pipeline.core.posted import encode as encode_event
from pipeline.enrich.normalise import drop_empty
from pipeline.enrich.parse import zonemta_log
from pipeline.enrich.parsing import Context
from producers.haul import Haul
from producers.privacy import Privacy
from producers.sources.log_remote.msgpack_js import decode
from producers.sources.log_remote.records import EVENTS, RecordMaker
from tests.kit.log_remote import Undefined, samples, written

NOW = 1_767_268_800_000
CONTEXT = Context("192.0.2.9", NOW)
MAKER = RecordMaker(Privacy(b"key", pseudonymise=("user", "client_ip")))
UNDEFINED = Undefined()

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=10),
    st.sampled_from(["<>", "zoe@b.example", '"a,b"@c.example,d@e', "192.0.2.1", "\x00", "001"]),
    st.lists(st.integers(0, 5), max_size=3),
)
REPLIES = ("response", "responseText", "error", "description", "reason")
NAMES = st.sampled_from(
    [
        "seq",
        "zone",
        "mx",
        "host",
        "ip",
        "protocol",
        "category",
        "defcount",
        "size",
        "body",
        "interface",
        "score",
        "message-id",
        "messageId",
        "from",
        "returnPath",
        "user",
        "to",
        "recipient",
        "src",
        "response",
        "responseText",
        "error",
        "description",
        "reason",
        "subject",
    ]
)
PRIVATE = ("from", "returnPath", "to", "recipient", "user", *REPLIES)
ENTRIES = st.builds(
    lambda fields, action, queue_id: {"id": queue_id, "action": action, **fields},
    st.dictionaries(NAMES, st.one_of(VALUES, st.just(UNDEFINED)), max_size=12),
    st.sampled_from([*sorted(EVENTS), "QUEUE_POLL", ""]),
    st.sampled_from(["1a1fb6f862e000f66e", "", "_other", "x" * 300]),
)


def taken(datagram: bytes) -> Haul:
    haul = Haul()
    MAKER.take(datagram, "192.0.2.9", NOW, haul)
    assert haul.received == len(haul.records) + haul.discarded.total() == 1
    return haul


@settings(deadline=None)
@given(ENTRIES)
def test_what_zonemta_writes_is_read_again_without_what_is_undefined(entry: dict[str, Any]) -> None:
    defined = {name: value for name, value in entry.items() if value is not UNDEFINED}
    assert decode(written(entry)) == defined


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(
            st.sampled_from([one.datagram for one in samples().values()]),
            st.integers(0, 400),
            st.binary(max_size=4),
        ).map(lambda made: made[0][: made[1]] + made[2] + made[0][made[1] + len(made[2]) :]),
    )
)
def test_no_bytes_break_the_reader(datagram: bytes) -> None:
    for one in taken(datagram).records:
        json.loads(one.value)


@settings(deadline=None, max_examples=300)
@given(ENTRIES)
def test_every_record_is_an_event_that_phase_1_takes_or_refuses_with_a_reason(
    entry: dict[str, Any],
) -> None:
    for one in taken(written(entry)).records:
        kept = json.loads(one.value)
        assert not [name for name in PRIVATE if "zoe@b.example" in str(kept.get(name))]
        event = zonemta_log.parse(one.value, CONTEXT)
        assert isinstance(event, PostedEvent)
        drop_empty(event)
        if event.queue_id != "_other":
            try:
                check(event, encode_event(event))
            except RecordError as exc:
                # A name that the exporter keeps for itself cannot be made up for.
                assert exc.reason == "reserved_value"  # noqa: PT017  any other fails
