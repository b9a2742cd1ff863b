"""What the view remembers beside sums: single events, nodes and alerts, all of it bounded."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from consumers.view import recent as memory
from consumers.view.alerts import MAX_ALERTS, Alerts
from consumers.view.nodes import Nodes
from consumers.view.recent import Recent
from pipeline.core.event import MailEvent
from pipeline.core.timestamp import rfc3339
from pipeline.detect.alerts import Alert, Kind, encode_alert

NOW = 1_700_000_000_000


def event(**fields: Any) -> MailEvent:
    given = {
        "source": "zonemta",
        "origin": "mta1",
        "event_type": "bounced",
        "direction": "outbound",
        "user": "ann@example.com",
        "to_domain": "example.net",
        "timestamp": rfc3339(NOW),
        "received": rfc3339(NOW + 500),
    }
    return MailEvent(**(given | fields))


def test_a_key_has_its_first_and_last_moment_and_its_last_failed_reply() -> None:
    recent = Recent()
    recent.take(event(response_message="550 first"))
    recent.take(event(response_message="550 older", timestamp=rfc3339(NOW - 5_000)))
    recent.take(
        event(response_message="250 fine", event_type="delivered", timestamp=rfc3339(NOW + 9_000))
    )
    detail = recent.detail("user", "ann@example.com")
    assert detail is not None
    assert (detail.first_ms, detail.last_ms) == (NOW - 5_000, NOW + 9_000)
    assert detail.reply == "550 first"
    assert recent.detail("user", "bob@example.com") is None
    assert recent.detail("failure", "x") is None


def test_only_events_that_a_dimension_counts_are_details_of_it() -> None:
    recent = Recent()
    recent.take(event(is_dsn=True))
    recent.take(event(direction="inbound"))
    recent.take(event(is_probe=True))
    recent.take(event(late=True))
    recent.take(event(event_type="auth_failed"))
    assert recent.detail("user", "ann@example.com") is None
    assert recent.events == 5


def test_a_deferred_delivery_waits_until_it_ends() -> None:
    recent = Recent()
    for attempt in (1, 2):
        recent.take(event(event_type="deferred", queue_id="q1", seq="001", attempt=attempt))
    recent.take(event(event_type="deferred", queue_id="q1", seq="002"))
    domain = recent.domain("example.net")
    assert domain is not None
    assert domain.waiting == 2
    recent.take(event(event_type="delivered", queue_id="q1", seq="001", delivery_time_ms=1_000))
    recent.take(event(event_type="delivered", queue_id="q9", seq="001", queue_time_ms=3_000))
    assert domain.waiting == 1
    assert (domain.percentile(50), domain.percentile(95)) == (1_000, 3_000)


def test_percentiles_are_of_the_newest_deliveries() -> None:
    domain = memory.Domain()
    assert domain.percentile(95) is None
    domain.times_ms.extend(float(number) for number in range(1, 1001))
    assert domain.percentile(95) == 990
    assert domain.percentile(50) == 900


def test_memory_is_bounded_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_KEYS", "MAX_DOMAINS", "MAX_WAITING", "MAX_SOURCES"):
        monkeypatch.setattr(memory, name, 10)
    recent = Recent()
    for number in range(1_000):
        recent.take(
            event(
                event_type="deferred",
                user=f"u{number}@example.com",
                to_domain=f"d{number}.example",
                queue_id=f"q{number}",
                origin=f"o{number}",
                mta_node="mta1",
            )
        )
    assert recent.detail("user", "u989@example.com") is None
    assert recent.detail("user", "u990@example.com") is not None
    assert recent.domain("d0.example") is None
    assert recent.node_of("q0") is None
    assert recent.node_of("q999") == "mta1"
    assert len(recent.sources()) == 10
    assert [one.number for one in recent.live(0)] == list(range(501, 1001))
    assert [one.number for one in recent.live(998)] == [999, 1000]


def test_an_event_without_usable_times_is_live_and_nothing_else() -> None:
    recent = Recent()
    recent.take(event(timestamp="yesterday"))
    recent.take(MailEvent())
    assert len(recent.live(0)) == 2
    assert recent.sources() == []


BEAT = {
    "node": "mta1",
    "role": "zonemta",
    "version": "1.0.0",
    "boot_id": "b1",
    "last_seq": 10,
    "buffered": 2,
    "dropped_total": 1,
}


def headers(feed: str, received_ms: int) -> dict[str, bytes]:
    return {
        "feed": feed.encode(),
        "source": b"zonemta",
        "origin": b"key1",
        "received": b"%d" % received_ms,
    }


def test_nodes_are_what_was_last_said_of_them() -> None:
    nodes = Nodes()
    nodes.take(orjson.dumps(BEAT), headers("heartbeat", NOW))
    nodes.take(orjson.dumps(BEAT | {"buffered": 9}), headers("heartbeat", NOW - 15_000))
    seen = {"node": "mta1", "what": "system", "at": rfc3339(NOW), "values": {"mail_system_cpus": 2}}
    nodes.take(orjson.dumps(seen), headers("observation", NOW))
    nodes.take(
        orjson.dumps(seen | {"at": rfc3339(NOW - 1), "values": {"mail_system_cpus": 9}}),
        headers("observation", NOW),
    )
    (node,) = nodes.shown(NOW + 60_000)
    assert (node["node"], node["alive"]) == ("mta1", True)
    (sender,) = node["senders"]
    assert (sender["buffered"], sender["origin"], sender["alive"]) == (2, "key1", True)
    assert node["observations"]["system"]["values"] == {"mail_system_cpus": 2}
    (node,) = nodes.shown(NOW + 60_001)
    assert not node["alive"]


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"5", b'{"node":1}', b"\xff", b"{}" * 9])
def test_what_is_no_record_of_a_node_is_counted(value: bytes) -> None:
    nodes = Nodes()
    for feed in ("heartbeat", "observation", "other"):
        nodes.take(value, headers(feed, NOW))
    nodes.take(orjson.dumps(BEAT), {"feed": b"heartbeat", "received": b"soon"})
    assert (nodes.unusable, nodes.shown(NOW)) == (4, [])


def alert(number: int, until: float | None = None) -> bytes:
    return orjson.dumps(
        {
            "kind": "volume",
            "key": ["ann"],
            "since": NOW / 1000 + number,
            "until": until,
            "evidence": {"count": 5},
        }
    )


def test_alerts_are_episodes_open_ones_first() -> None:
    alerts = Alerts()
    alerts.take(alert(1))
    alerts.take(alert(2, NOW / 1000 + 9))
    alerts.take(alert(2))
    alerts.take(alert(3))
    alerts.take(alert(3, NOW / 1000 + 9))
    assert [(one["since"] - NOW / 1000, one["until"] is None) for one in alerts.shown()] == [
        (1, True),
        (3, False),
        (2, False),
    ]


def test_what_is_no_alert_is_counted_and_old_ones_make_room() -> None:
    alerts = Alerts()
    for value in (b"", b"[]", b'{"kind":1}', b'{"kind":"a","key":1,"since":"soon"}', b"\xff"):
        alerts.take(value)
    assert alerts.unusable == 5
    for number in range(MAX_ALERTS + 10):
        alerts.take(alert(number))
    assert len(alerts.shown()) == MAX_ALERTS


def test_alerts_of_the_detector_are_read_and_what_ended_crowds_out_no_open_one() -> None:
    alerts = Alerts()
    begun = Alert(Kind.IP_BLOCKED, ("203.0.113.7", "google"), NOW, None, {"block_ratio": 1})
    alerts.take(encode_alert(begun))
    (shown,) = alerts.shown()
    assert (shown["kind"], shown["key"]) == ("ip_blocked", ["203.0.113.7", "google"])
    assert (shown["since"], shown["until"]) == (NOW / 1000, None)
    for number in range(1, MAX_ALERTS + 10):
        alerts.take(alert(number))
        alerts.take(alert(number, NOW / 1000 + number))
    assert alerts.shown()[0] == shown
    assert len(alerts.shown()) == MAX_ALERTS
    assert alerts.unusable == 0
    again = Alerts()
    again.take(encode_alert(begun))
    again.take(encode_alert(Alert(begun.kind, begun.key, NOW, NOW + 300_000)))
    (ended,) = again.shown()
    assert (ended["until"], ended["evidence"]) == (NOW / 1000 + 300, {"block_ratio": 1})
    assert again.changes == 2
