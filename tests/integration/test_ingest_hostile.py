"""Hostile input over HTTP: never a 500, never a crash, bounded memory, everything counted."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.processes import Ingest
from tests.kit.scrape import Page
from tests.kit.stand import Stand, stand

pytestmark = pytest.mark.integration

ONE = "/api/v1/email-events"
BATCH = "/api/v1/email-events/batch"
JSON = {"Content-Type": "application/json"}
GOOD: dict[str, Any] = {
    "timestamp": "2026-01-02T03:04:05.678Z",
    "event_type": "delivered",
    "message_id": "<1@example.com>",
}
MEMORY = 400 << 20
"""Most that the service may ever hold, after everything below."""

UGLY_EVENTS: list[Any] = [
    None,
    [],
    "",
    0,
    True,
    {},
    {"event_type": {"a": 1}},
    GOOD | {"timestamp": -1},
    GOOD | {"timestamp": 1e308},
    GOOD | {"timestamp": 10**18},
    GOOD | {"timestamp": "0001-01-01T00:00:00Z"},
    GOOD | {"timestamp": "9999-12-31T23:59:59.999-23:59"},
    GOOD | {"delivery_time_ms": -5},
    GOOD | {"recipients": 10**30},
    GOOD | {"response_code": 1e300},
    GOOD | {"user": "u" * 10_000},
    GOOD | {"sending_ip": "999.1.1.1"},
    GOOD | {"user": "a\x00b"},
    GOOD | {"zone": "a\x1fb"},
    GOOD | {"mta_node": "_other"},
    GOOD | {"event_type": "_unknown"},
    GOOD | {"response_message": "m" * 20_000},
]
FINE_EVENTS: list[Any] = [
    GOOD | {"timestamp": "9999-12-31T23:59:59.999Z"},
    GOOD | {"timestamp": "1971-01-01T00:00:00Z"},
    GOOD | {"user": "\U0001f600" * 300},
    GOOD | {"response_message": "\x00\x1b[2J\r\n" + "@" * 16_000},
    GOOD | {"response_message": '"' * 16_000 + "@"},
    GOOD | {"x" * 100_000: 1, "source": {"a": {"b": []}}},
]
BODIES: list[bytes] = [
    b"",
    b" ",
    b"{",
    b"}",
    b"null",
    b"[]",
    b'"',
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"NaN",
    b"-Infinity",
    b'{"a":NaN}',
    b'{"a":1e999999}',
    b'{"a":' + b"9" * 100_000 + b"}",
    b'{"timestamp":' + b"9" * 100_000 + b"}",
    b'{"a":1,"a":2}',
    b'{"events":[],"events":[]}',
    b'{"events":{}}',
    b'{"events":[' + b'{"a":' * 100_000,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a":"\\ud800"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xc0\xaf"}',
    b'{"events":[' + b"{}," * 500_000 + b"{}]}",
    b'{"events":[' + b"[]," * 2_000_000 + b"[]]}",
    b'{"events":[' + b"1," * 3_900_000 + b"1]}",
    b'{"events":[{' + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}]}",
    b'{"events":["' + b'\\"' * 4_000_000 + b'"]}',
    b'{"events":[{"user":"' + b"\\u0022:" * 1_000_000 + b'"}]}',
    b" " * 8_388_609,
]
BOMBS: list[bytes] = [
    gzip.compress(b"[" * 200_000_000, 9),
    gzip.compress(gzip.compress(b"0" * 100_000_000, 9), 9),
    gzip.compress(b""),
    b"",
    b"\x1f\x8b",
    gzip.compress(b"{}") + b"trailing",
    gzip.compress(b"") * 1000,
    zlib.compress(b"{}"),
]


@pytest.fixture(scope="module")
def service(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(broker, tmp_path_factory.mktemp("hostile")) as running:
        yield running


def ingest_of(service: Stand) -> tuple[Ingest, str]:
    ingest = service.ingest()
    address = ingest.address()
    assert address is not None
    return ingest, address


def post(address: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Post and return the status; -1 if the service ended the upload before it was complete."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
    except (ConnectionError, http.client.BadStatusLine):
        return -1
    finally:
        connection.close()
    assert json.loads(said), said
    return answer.status


def counted(address: str) -> Page:
    return Page([httpx.get(f"http://{address}/metrics").text])


def requests_by_status(page: Page) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in page.samples:
        if one.name == "mailstream_ingest_requests_total" and one.labels["route"] in (ONE, BATCH):
            found[one.labels["status"]] += int(one.value)
    return found


def test_ugly_events_are_rejected_one_by_one_and_fine_ones_taken(service: Stand) -> None:
    _, address = ingest_of(service)
    events = [*UGLY_EVENTS, *FINE_EVENTS]
    answer = httpx.post(f"http://{address}{BATCH}", json={"events": events}, timeout=60)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert [item["index"] for item in told["rejected"]] == list(range(len(UGLY_EVENTS)))
    assert told["accepted"] == len(FINE_EVENTS)
    for event in UGLY_EVENTS:
        assert post(address, ONE, json.dumps(event).encode(), JSON) == 400
    for event in FINE_EVENTS:
        assert post(address, ONE, json.dumps(event).encode(), JSON) == 202


def test_ugly_bodies_are_refused_and_each_is_counted(service: Stand) -> None:
    ingest, address = ingest_of(service)
    before = requests_by_status(counted(address))
    statuses: Counter[str] = Counter()
    for body in BODIES:
        for path in (ONE, BATCH):
            statuses[str(post(address, path, body, JSON))] += 1
    for body in BOMBS:
        statuses[str(post(address, BATCH, body, JSON | {"Content-Encoding": "gzip"}))] += 1
    assert statuses.keys() <= {"202", "400", "413"}, statuses
    assert requests_by_status(counted(address)) - before == statuses
    assert ingest.peak_bytes() < MEMORY


def test_a_body_that_never_ends_is_cut_off(service: Stand) -> None:
    ingest, address = ingest_of(service)
    hundred_mb = iter([b" " * 1_000_000] * 100)
    try:
        status = httpx.post(
            f"http://{address}{BATCH}", content=hundred_mb, headers=JSON, timeout=60
        ).status_code
    except httpx.TransportError:
        status = 413  # it answered and hung up while we were still sending
    assert status == 413
    assert post(address, BATCH, b" " * 100_000_000, JSON) in (413, -1)
    assert ingest.peak_bytes() < MEMORY
    assert ingest.answers("/health")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.sampled_from([*GOOD, "user", "sending_ip", "queue_id", "response_message", "source"])
DOCUMENTS = st.lists(st.dictionaries(FIELDS, VALUES, max_size=6) | VALUES, max_size=5).map(
    lambda events: json.dumps({"events": events}).encode()
)
HEADERS = st.fixed_dictionaries(
    {"Content-Type": st.sampled_from(["application/json", "text/plain", "application/json;x"])},
    optional={
        "Content-Encoding": st.sampled_from(["gzip", "br", "identity", "gzip, gzip", ""]),
        "X-Source": st.sampled_from(["haraka", "zonemta", "cpanel", ""]),
        "X-API-Key": st.text("abc", max_size=5),
    },
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary() | DOCUMENTS | DOCUMENTS.map(gzip.compress), HEADERS, st.sampled_from([ONE, BATCH])
)
def test_fuzzed_requests_are_answered_in_the_contract_s_words(
    service: Stand, body: bytes, headers: dict[str, str], path: str
) -> None:
    _, address = ingest_of(service)
    assert post(address, path, body, headers) in {202, 400, 413, 415}


def test_a_million_distinct_users_leave_no_trace_in_memory(service: Stand) -> None:
    ingest, address = ingest_of(service)
    with httpx.Client(base_url=f"http://{address}", timeout=60) as opened:
        for first in range(0, 1_000_000, 10_000):
            lines = (
                b'{"timestamp":1767323045,"event_type":"sent","queue_id":"%d","user":"u%d@x.example"}'
                % (number, number)
                for number in range(first, first + 10_000)
            )
            body = b'{"events":[' + b",".join(lines) + b"]}"
            answer = opened.post(BATCH, content=body, headers=JSON)
            assert answer.json() == {"accepted": 10_000, "rejected": []}
        assert len(opened.get("/metrics").text) < 50_000
    assert ingest.peak_bytes() < MEMORY


def test_packed_posts_at_once_hold_no_more_memory_than_one_after_the_other(service: Stand) -> None:
    ingest, address = ingest_of(service)
    said = GOOD | {"response_message": "550 " + "x" * 2_800}
    body = gzip.compress(json.dumps({"events": [said] * 10_000}).encode(), 1)
    assert len(body) < 1 << 20
    with ThreadPoolExecutor(32) as senders:
        headers = JSON | {"Content-Encoding": "gzip"}
        posts = [senders.submit(post, address, BATCH, body, headers) for _ in range(32)]
        statuses = {one.result() for one in posts}
    assert 202 in statuses
    assert statuses <= {202, 503}
    assert ingest.peak_bytes() < MEMORY
