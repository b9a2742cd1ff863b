"""The detector by single panes: what is judged, against what, and how episodes begin and end."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import RecordError
from pipeline.detect.accounts import MOST_SCORES, AccountDetector
from pipeline.detect.alerts import (
    MOST_EVIDENCE,
    Alert,
    Facts,
    Kind,
    alert_key,
    decode_alert,
    encode_alert,
)
from pipeline.detect.blocks import Addresses, BlockDetector
from pipeline.detect.history import Accounts, History
from pipeline.detect.rules import BLOCK_CLASSES, PANE_MS, THROTTLE_CLASSES, AccountRules

START = 1_767_225_600_000
DAY_PANES = 288
ADDRESS = ("203.0.113.1", "google")
Does = Mapping[str, Sequence[int]]
"""By user: recipients, destinations, delivered, bounced."""


def accounts(does: Does) -> Accounts:
    rows = np.array([[*row, 0, 0, 0, 0][:4] for row in does.values()], np.int64).reshape(-1, 4)
    return Accounts(list(does), *rows.T)


def at(pane: int) -> int:
    return START + pane * PANE_MS


def fleet(panes: int, more: Does | None = None) -> AccountDetector:
    """Return a detector that has seen ten ordinary accounts, the busiest of them with 40 a pane."""
    detector = AccountDetector()
    for pane in range(panes):
        does = {f"u{n}": (4 + 4 * n, 3, 4 + 4 * n, 0) for n in range(10)}
        assert detector.close(at(pane), accounts({**does, **(more or {})})) == []
    return detector


def addresses(attempts: int, blocked: int = 0, throttled: int = 0) -> Addresses:
    return Addresses([ADDRESS], *(np.array([n]) for n in (attempts, blocked, throttled)))


def test_an_alert_reads_back_and_its_two_records_share_a_key() -> None:
    begin = Alert(Kind.IP_BLOCKED, ADDRESS, at(0), evidence={"block_ratio": 0.5})
    end = Alert(Kind.IP_BLOCKED, ADDRESS, at(0), at(3), {"block_ratio": 0.5})
    for alert in (begin, end):
        assert decode_alert(encode_alert(alert)) == alert
    assert (begin.ends, end.ends) == (False, True)
    assert alert_key(begin) == alert_key(end)
    assert alert_key(begin) == b'["ip_blocked",["203.0.113.1","google"],1767225600000]'


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_an_alert_or_an_error_of_ours(value: bytes) -> None:
    with pytest.raises(RecordError):
        decode_alert(value + b"}")


def test_evidence_is_bounded_and_holds_what_is_known() -> None:
    many = tuple(f"d{n}" for n in range(100))
    found = Facts(many, many, "PLAIN", dict.fromkeys(many, 1)).evidence()
    assert found["auth_method"] == "PLAIN"
    assert {len(found[name]) for name in ("destinations", "client_ips", "classes")} == {
        MOST_EVIDENCE
    }
    assert Facts().evidence() == {}


def test_the_classes_exist() -> None:
    text = (files("pipeline.enrich") / "rules" / "classes.toml").read_text("utf-8")
    classes = tomllib.loads(text)
    assert {classes[name]["category"] for name in BLOCK_CLASSES} == {"block"}
    assert {classes[name]["scope"] for name in THROTTLE_CLASSES} == {"rate"}


def test_a_quiet_account_is_held_against_the_fleet() -> None:
    detector = fleet(20)
    limit = 3 * 40
    assert detector.look(at(20), accounts({"new": (limit - 1,)})) == []
    (alert,) = detector.look(at(20), accounts({"new": (limit,)}), lambda key: Facts(client_ips=key))
    assert (alert.key, alert.since, alert.until) == (("new",), at(20), None)
    assert alert.evidence["limits"]["basis"] == "fleet"
    assert alert.evidence["signals"] == ["recipients"]
    assert alert.evidence["first_seen"] == at(20)
    assert alert.evidence["client_ips"] == ["new"]


def test_an_account_with_a_past_is_held_against_it() -> None:
    detector = fleet(20, {"big": (1000, 20, 1000, 0)})
    assert detector.look(at(20), accounts({"big": (2900, 20, 2900)})) == []
    (alert,) = detector.look(at(20), accounts({"big": (3100, 20, 3100)}))
    assert alert.evidence["limits"] == {
        "basis": "own",
        "panes": 20,
        "recipients": 3000,
        "destinations": 60,
        "failure_ratio": 0.4,
    }
    assert alert.evidence["first_seen"] == at(0)


@pytest.mark.parametrize(
    ("row", "signals"),
    [
        ((99, 49, 30, 19), []),
        ((99, 50, 0, 0), ["destinations"]),
        ((10, 5, 30, 20), ["failure_ratio"]),
        ((10, 5, 31, 20), []),
        ((99, 5, 5, 20), []),
    ],
)
def test_nothing_below_the_floors_is_an_alert(row: Sequence[int], signals: list[str]) -> None:
    found = fleet(20, {"u0": (1, 1, 1, 0)}).look(at(20), accounts({"u0": row}))
    assert [alert.evidence["signals"] for alert in found] == ([signals] if signals else [])


def test_failures_are_held_against_the_account_s_own() -> None:
    detector = fleet(20, {"list": (100, 20, 50, 50)})
    assert detector.look(at(20), accounts({"list": (100, 20, 15, 85)})) == []
    assert detector.look(at(20), accounts({"list": (100, 20, 5, 95)}))


def test_in_the_first_hour_of_an_installation_nothing_is_judged() -> None:
    assert fleet(11).look(at(11), accounts({"new": (10_000,)})) == []
    assert fleet(12).look(at(12), accounts({"new": (10_000,)}))


def test_an_episode_begins_once_goes_on_while_warm_and_ends_once() -> None:
    detector = fleet(20)
    thief = accounts({"new": (1000, 60)})
    assert len(detector.look(at(20), thief)) == 1
    assert detector.look(at(20), thief) == []
    assert detector.close(at(20), thief) == []
    assert detector.close(at(21), accounts({"new": (60,)})) == []  # half of the limit
    ended = [detector.close(at(pane), accounts({"new": (5,)})) for pane in range(22, 30)]
    assert [len(alerts) for alerts in ended] == [0, 0, 0, 0, 0, 1, 0, 0]
    (end,) = ended[5]
    assert (end.since, end.until) == (at(20), at(22))
    assert end.evidence["signals"] == ["recipients", "destinations"]


def test_what_a_thief_does_never_becomes_ordinary_within_a_day() -> None:
    detector = fleet(20)
    thief = accounts({"new": (1000,)})
    raised = [alert for pane in range(20, 20 + 200) for alert in detector.close(at(pane), thief)]
    assert len(raised) == 1
    assert not detector.close(at(220), thief)
    quiet = [alert for pane in range(221, 230) for alert in detector.close(at(pane), accounts({}))]
    assert [alert.ends for alert in quiet] == [True]
    assert len(detector.look(at(230), thief)) == 1


def test_what_goes_on_for_longer_than_a_day_is_ordinary_in_the_end() -> None:
    detector = fleet(20)
    much = accounts({"new": (1000,)})
    raised = [a for pane in range(20, 20 + 320) for a in detector.close(at(pane), much)]
    assert [alert.ends for alert in raised] == [False, True]
    assert raised[1].until is not None
    assert raised[1].until - raised[0].since >= DAY_PANES * PANE_MS


def test_scores_are_bounded_and_the_highest() -> None:
    detector = fleet(20)
    detector.look(at(20), accounts({f"n{n}": (60 + n,) for n in range(3 * MOST_SCORES)}))
    assert len(detector.scores) == MOST_SCORES
    assert detector.scores["n299"] == max(detector.scores.values())


def test_late_rows_add_to_their_pane() -> None:
    history = History()
    history.add(at(0), accounts({"a": (1, 1, 1, 0), "b": (5,)}))
    history.add(at(1), accounts({"a": (2,)}))
    history.add(at(0), accounts({"a": (10, 0, 3, 4)}))
    ((user, past), (_, nothing)) = history.of(["a", "nobody"])
    assert (user, past.pane_ms.tolist()) == ("a", [at(0), at(1)])
    assert past.figures.tolist() == [[11, 1, 4, 4], [2, 0, 0, 0]]
    assert len(nothing.pane_ms) == 0
    assert history.panes == 2


def test_history_is_a_day_of_active_accounts() -> None:
    history = History()
    for pane in range(3 * DAY_PANES):
        history.add(at(pane), accounts({f"once{pane}": (1,), "always": (2,)}))
        history.forget(at(pane))
    assert len(history) == 2 * (DAY_PANES + 1)
    ((_, past),) = history.of(["always"])
    assert len(past.pane_ms) == DAY_PANES + 1
    assert len(history._numbers) == DAY_PANES + 2


def test_a_block_begins_with_enough_attempts_and_ends_below_a_lower_ratio() -> None:
    detector = BlockDetector()
    assert detector.look(at(0), addresses(19, 19)) == []
    (alert,) = detector.look(at(0), addresses(20, 5), lambda _key: Facts(classes={"ip_blocked": 5}))
    assert (alert.kind, alert.key, alert.since) == (Kind.IP_BLOCKED, ADDRESS, at(0))
    assert alert.evidence["classes"] == {"ip_blocked": 5}
    assert detector.close(at(0), addresses(20, 5)) == []
    assert detector.close(at(1), addresses(100, 10)) == []
    ended = [alert for pane in range(2, 9) for alert in detector.close(at(pane), addresses(100, 9))]
    assert [(one.since, one.until) for one in ended] == [(at(0), at(2))]


def test_throttling_needs_a_higher_ratio_and_counts_with_blocks() -> None:
    assert BlockDetector().look(at(0), addresses(100, 20, 39)) == []
    assert BlockDetector().look(at(0), addresses(100, 20, 40))


def test_the_pane_before_counts_with_the_open_one_when_that_has_little() -> None:
    detector = BlockDetector()
    detector.close(at(0), addresses(15, 4))
    assert detector.look(at(1), addresses(6, 2))
    detector = BlockDetector()
    detector.close(at(0), addresses(15, 4))
    assert detector.look(at(2), addresses(6, 2)) == []


def test_an_address_without_mail_is_not_blocked_any_more() -> None:
    detector = BlockDetector()
    detector.close(at(0), addresses(100, 100))
    none = Addresses([], *(np.zeros(0, np.int64) for _ in range(3)))
    ended = [alert for pane in range(1, 8) for alert in detector.close(at(pane), none)]
    assert [alert.until for alert in ended] == [at(1)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from((0, 0, 10, 55, 150, 900)), min_size=1, max_size=60),
    st.sets(st.integers(0, 59)),
)
def test_a_restart_at_any_pane_does_not_show(volumes: list[int], restarts: set[int]) -> None:
    whole, log = fleet(20), list[Alert]()
    broken, again = fleet(20), list[Alert]()
    past: list[tuple[int, Does]] = [
        (at(p), {f"u{n}": (4 + 4 * n, 3, 4 + 4 * n, 0) for n in range(10)}) for p in range(20)
    ]
    for place, volume in enumerate(volumes):
        pane = at(20 + place)
        does: Does = {"new": (volume,)} if volume else {}
        log += [*whole.look(pane, accounts(does)), *whole.close(pane, accounts(does))]
        again += broken.look(pane, accounts(does))
        if place in restarts:
            broken = AccountDetector()
            broken.restore([Alert(Kind.IP_BLOCKED, ADDRESS, at(0)), *again])
            for start, held in past:
                broken.learn(start, accounts(held))
        again += broken.close(pane, accounts(does))
        past.append((pane, does))
    assert again == log
    for begin, end in zip(log[::2], log[1::2], strict=False):
        assert (begin.ends, end.ends, begin.since) == (False, True, end.since)


def test_rules_are_settings() -> None:
    strict = AccountDetector(AccountRules(least_recipients=1, fleet=1.0, least_panes=1))
    strict.close(at(0), accounts({"a": (1, 1)}))
    assert strict.look(at(1), accounts({"b": (2, 1)}))
