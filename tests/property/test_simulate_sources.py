"""Laws of the simulated logins, of a cPanel server's log and of the queue of the ZoneMTA nodes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import islice, pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstream.simulation.hosting import ACCOUNTS, HostingPlan, Row, hacked_site, rows, sites
from mailstream.simulation.logins import (
    ATTACKED,
    ATTACKERS,
    GUESSES,
    LoginPlan,
    SimulatedLogin,
    logins,
)
from mailstream.simulation.queue import MOST_BLACKLISTED, Queue
from mailstream.simulation.traffic import SimulatedEvent, compromised_user, traffic
from mailstream.simulation.whm import KEPT_S, SEARCH, STATS, MailLog
from pipeline.core import gelf
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.enrich.parse import cpanel, wildduck
from pipeline.enrich.parsing import Context, Skip
from producers.gelf.subjects import About, about

SEEDS = st.integers(0, 2**32)
MIDNIGHT = 20_000 * DAY_MS
NOON = MIDNIGHT + 12 * HOUR_MS


# -- logins


def first_logins(count: int, seed: int, **options: Any) -> list[SimulatedLogin]:
    return list(islice(logins(LoginPlan(seed, NOON, **options)), count))


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_the_same_plan_gives_the_same_logins_in_order_of_time(seed: int) -> None:
    found = first_logins(300, seed, attack_after_ms=1000, found_after_ms=5000)
    assert found == first_logins(300, seed, attack_after_ms=1000, found_after_ms=5000)
    assert [one.at_ms for one in found] == sorted(one.at_ms for one in found)
    assert found[0].at_ms >= NOON


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_each_message_is_a_login_that_the_pipeline_reads(seed: int) -> None:
    for at_ms, message in first_logins(200, seed, attack_after_ms=0, found_after_ms=2000):
        word = gelf.word_of(message)
        assert about(message, word) is About.LOGIN
        event = wildduck.parse(orjson.dumps(message), Context("web1", at_ms))
        assert not isinstance(event, Skip)
        assert event.event_type == {"AUTHOK": "auth_succeeded", "AUTHFAIL": "auth_failed"}[word]
        assert event.auth_scope in wildduck.SCOPES
        assert event.user == message["_username"]


def test_logins_are_as_frequent_as_asked_and_few_of_them_fail() -> None:
    found = list(logins(LoginPlan(3, MIDNIGHT, rate=0.2, duration_ms=DAY_MS)))
    assert len(found) / 86_400 == pytest.approx(0.2, rel=0.05)
    results = Counter(login.message["_auth_result"] for login in found)
    assert 0.01 < results["fail"] / len(found) < 0.03
    assert 0.002 < results["unknown"] / len(found) < 0.01
    assert results["ratelimited"] == 0


def test_few_addresses_guess_passwords_of_few_accounts_until_one_is_right() -> None:
    plan = LoginPlan(
        6,
        NOON,
        rate=20,
        duration_ms=10 * MINUTE_MS,
        attack_after_ms=MINUTE_MS,
        found_after_ms=5 * MINUTE_MS,
    )
    guesses: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    user, mine = compromised_user(6), []
    for at_ms, message in logins(plan):
        name, result = message["_username"], message["_auth_result"]
        attacked = result in {"fail", "ratelimited"} and message["_ip"].startswith("198.51.100.")
        assert not attacked or at_ms >= NOON + MINUTE_MS
        if attacked:
            guesses[result][message["_ip"], name] += 1
        if name == user and result == "success":
            mine.append((at_ms, message["_ip"]))
    pairs = guesses["fail"]
    assert len({ip for ip, _ in pairs}) == ATTACKERS
    assert ATTACKED - 1 <= len({name for _, name in pairs}) <= ATTACKED
    assert max(pairs.values()) == GUESSES
    assert guesses["ratelimited"].total() > pairs.total()
    after = [ip for at_ms, ip in mine if at_ms >= NOON + 5 * MINUTE_MS]
    assert len(after) > 10 * max(1, len(mine) - len(after))
    assert len(set(after)) > 10


# -- a cPanel server


def first_rows(count: int, seed: int, **options: Any) -> list[Row]:
    return list(islice(rows(HostingPlan(seed, NOON, "web1", **options)), count))


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_rows_are_repeatable_in_order_and_read_by_the_pipeline(seed: int) -> None:
    found = first_rows(300, seed, hacked_after_ms=10_000)
    assert found == first_rows(300, seed, hacked_after_ms=10_000)
    assert all(a["actionunixtime"] <= b["actionunixtime"] for a, b in pairwise(found))
    for row in found:
        assert NOON // 1000 <= row["sendunixtime"] <= row["actionunixtime"]
        event = cpanel.parse(orjson.dumps(row), Context("web1", NOON))
        assert not isinstance(event, Skip)
        assert event.event_type in {"delivered", "deferred", "bounced", "received", "rejected"}
        if event.direction == "outbound":
            assert event.user == f"{row['user']}@web1"


def test_servers_have_accounts_of_their_own_with_names_that_cpanel_allows() -> None:
    found = sites(1, "web1")
    assert len({site.user for site in found}) == len(found) == ACCOUNTS
    assert all(site.user.isalnum() and len(site.user) <= 16 for site in found)
    assert sites(1, "web2") != found


def test_each_message_of_the_log_is_tried_until_it_is_over() -> None:
    attempts: dict[str, list[str]] = defaultdict(list)
    for row in first_rows(40_000, 4, rate=2):
        attempts[row["msgid"]].append(row["type"])
    for kinds in attempts.values():
        assert set(kinds[:-1]) <= {"defer"}
        assert len(kinds) <= 6
    assert sum(len(kinds) > 1 for kinds in attempts.values()) > 300


def test_the_hacked_account_is_quiet_then_sends_most_and_much_of_it_fails() -> None:
    user = hacked_site(2, "web1").user
    found = first_rows(6000, 2, hacked_after_ms=5 * MINUTE_MS)
    hacked_s = NOON // 1000 + 300
    before = [row for row in found if row["sendunixtime"] < hacked_s]
    after = [row for row in found if row["sendunixtime"] > hacked_s and row["user"] == user]
    assert sum(row["user"] == user for row in before) < 0.03 * len(before)
    kinds = Counter(row["type"] for row in after)
    assert len(after) > 300
    assert kinds["success"] < len(after) / 2
    assert len({row["deliverydomain"] for row in after}) > 20


def search(start_s: int, end_s: int, **options: str) -> dict[str, str]:
    parameters = {"success": "1", "defer": "1", "failure": "1", "api.filter.enable": "1"}
    for letter, kind, value in (("a", "gt_equal", start_s), ("b", "lt", end_s)):
        stem = f"api.filter.{letter}"
        parameters |= {f"{stem}.field": "actionunixtime", f"{stem}.type": kind}
        parameters[f"{stem}.arg0"] = str(value)
    return parameters | options


def asked(log: MailLog, parameters: dict[str, str], now_ms: int) -> tuple[list[Row], int]:
    answer = json.loads(log.answer(SEARCH, parameters, now_ms))
    assert answer["metadata"]["result"] == 1
    return answer["data"]["records"], answer["metadata"]["overflowed"]


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=5, deadline=None)
def test_a_search_gives_exactly_the_rows_of_its_window_that_were_written(a: int, b: int) -> None:
    start_s, end_s = NOON // 1000 + min(a, b), NOON // 1000 + max(a, b)
    now_ms = NOON + 300_000
    every = first_rows(4500, 5)
    assert every[-1]["actionunixtime"] > NOON // 1000 + 400
    expected = [
        row for row in every if start_s <= row["actionunixtime"] < min(end_s, now_ms // 1000 + 1)
    ]
    log = MailLog(rows(HostingPlan(5, NOON, "web1")))
    found, overflowed = asked(log, search(start_s, end_s), now_ms)
    assert (found, overflowed) == (expected, 0)
    few, _ = asked(log, search(start_s, end_s, max_results_by_type="3"), now_ms)
    assert max(Counter(row["type"] for row in few).values(), default=0) <= 3
    page = {"api.chunk.enable": "1", "api.chunk.size": "10", "api.chunk.start": "11"}
    assert asked(log, search(start_s, end_s, **page), now_ms)[0] == expected[10:20]


def test_the_log_of_a_server_stays_bounded_and_its_figures_go_on() -> None:
    log = MailLog(rows(HostingPlan(5, NOON, "web1", rate=3)))
    now_ms = NOON + 3 * HOUR_MS
    kept, _ = asked(log, search(0, 1 << 40), now_ms)
    assert kept[0]["actionunixtime"] >= now_ms // 1000 - KEPT_S
    stats = json.loads(log.answer(STATS, {}, now_ms))["data"]["records"]
    assert sum(one["SENDCOUNT"] for one in stats) > 2 * len(kept)
    assert any(one["REACHED_MAXEMAILS"] for one in stats)
    assert all(one["SENDCOUNT"] == one["SUCCESSCOUNT"] + one.get("FAILCOUNT", 0) for one in stats)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        ("listaccts", {}),
        (SEARCH, search(0, 1) | {"api.filter.a.type": "contains"}),
        (SEARCH, search(0, 1) | {"api.filter.a.arg0": "x"}),
        (SEARCH, search(0, 1) | {"api.chunk.enable": "1"}),
    ],
)
def test_what_is_not_simulated_is_refused_as_whm_refuses(
    function: str, parameters: dict[str, str]
) -> None:
    log = MailLog(rows(HostingPlan(5, NOON, "web1")))
    assert json.loads(log.answer(function, parameters, NOON))["metadata"]["result"] == 0


# -- ZoneMTA's queue


def heeded(events: list[SimulatedEvent]) -> Queue:
    queue = Queue()
    for event in events:
        queue.take(event)
    return queue


def counters(queue: Queue) -> dict[str, dict[str, int]]:
    found = queue.answer("mta1", "/counter/zone/")
    assert isinstance(found, dict)
    return {
        state: {entry["key"]: entry["value"] for entry in found[state]["entries"]}
        for state in ("active", "deferred")
    }


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_the_queue_holds_exactly_what_was_sent_and_is_not_over(seed: int) -> None:
    events = list(islice(traffic(seed, NOON, flood_after_ms=10_000, late=0), 3000))
    sent: Counter[str] = Counter()
    newest: dict[tuple[str, str], SimulatedEvent] = {}
    for one in sorted(events, key=lambda one: one.event_ms):
        event = one.event
        if event["event_type"] == "sent" and not one.repeat:
            sent[event["zone"]] += event["recipients"]
        elif "seq" in event:
            newest[event["queue_id"], event["seq"]] = one
    waiting = Counter(
        one.event["zone"] for one in newest.values() if one.event["event_type"] == "deferred"
    )
    tried = Counter(one.event["zone"] for one in newest.values())
    found = counters(heeded(events))
    for zone, deferred in found["deferred"].items():
        assert deferred == waiting[zone]
        assert found["active"][zone] == max(0, sent[zone] - tried[zone])


def test_the_oldest_message_and_the_avoided_pairs_are_told() -> None:
    events = list(islice(traffic(3, NOON, flood_after_ms=0), 20_000))
    queue = heeded(events)
    listing = queue.answer("mta1", "/queued/deferred/default")
    assert isinstance(listing, dict)
    [oldest] = listing["list"]
    assert oldest["created"].startswith("20")
    assert queue.answer("mta1", "/queued/queued/default") == {
        "zone": "default",
        "type": "queued",
        "list": [],
    }
    blacklist = queue.answer("mta1", "/blacklist")
    assert isinstance(blacklist, dict)
    assert 0 < len(blacklist["list"]) <= MOST_BLACKLISTED
    assert {one["address"].rpartition(".")[0] for one in blacklist["list"]} == {"203.0.113"}
    assert queue.answer("mta1", "/message/1") is None


def test_each_node_counts_its_own_deliveries() -> None:
    events = list(islice(traffic(3, NOON), 3000))
    queue = heeded(events)
    for node in ("mta1", "mta2", "mta3"):
        delivered = Counter(
            one.event["zone"]
            for one in events
            if one.event.get("mta_node") == node
            and one.event["event_type"] == "delivered"
            and not one.repeat
        )
        page = queue.answer(node, "/metrics")
        assert isinstance(page, str)
        for zone, count in delivered.items():
            assert f'{{status="delivered",zone="{zone}"}} {count}\n' in page


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be positive"):
        logins(LoginPlan(1, NOON, rate=rate))
    with pytest.raises(ValueError, match="rate must be positive"):
        rows(HostingPlan(1, NOON, "web1", rate=rate))
