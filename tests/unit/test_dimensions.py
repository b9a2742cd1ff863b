"""Counts that the configuration adds, and families that it switches off."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.dimensions import DIMENSION_FIELDS, chosen, dimension
from pipeline.core.errors import ConfigError
from pipeline.core.event import MailEvent
from pipeline.core.families import FAMILIES, FAMILY, MAIL_TYPES, Mail
from pipeline.core.posted import FREE_TEXT
from pipeline.fold.board import Board
from pipeline.kit.settings import Settings
from pipeline.kit.settings_load import load
from tests.kit.enrich import RECEIVED, Phase1, Raw, events, frames, mail, raw, rows
from tests.kit.frames import Row, family_rows, frame
from tests.kit.traffic import Shape, Varied
from tests.kit.worker import NOW, Worker

DIMENSIONS = st.dictionaries(
    st.sampled_from(["one", "two", "three_3"]),
    st.lists(st.sampled_from(DIMENSION_FIELDS), min_size=1, max_size=2, unique=True),
    min_size=1,
)


def loaded(tmp_path: Path, pipeline: str) -> Settings:
    file = tmp_path / "mailstream.yaml"
    file.write_text(f"pipeline: {{{pipeline}}}")
    return load(file, {})


def traffic(seed: int, count: int) -> list[Raw]:
    made = Varied(seed=seed, now_ms=RECEIVED, shape=Shape(users=20, ips=3))
    return [raw(made.zonemta(), number) for number in range(count)]


@settings(max_examples=40, deadline=None)
@given(DIMENSIONS, st.integers(0, 2**32))
def test_what_is_added_equals_a_recount_of_the_events(
    dimensions: dict[str, list[str]], seed: int
) -> None:
    phase1 = Phase1(families=chosen([], dimensions))
    result = phase1.commit(traffic(seed, 150))
    written = [event for event in events(result) if not event.get("late")]
    found = rows(frames(result).values())
    for name, fields in dimensions.items():
        family = f"{name}:{','.join(fields)}"
        counted = Counter[tuple[Any, ...]]()
        lacking = 0
        for event in written:
            customer = event["direction"] == "outbound" and not event.get("is_dsn")
            if customer or "direction" in fields:
                key = tuple(str(event[field]) for field in fields if field in event)
                if len(key) < len(fields):
                    lacking += 1
                else:
                    counted[key, event["event_type"]] += 1
        shown = Counter[tuple[Any, ...]]()
        for (where, key, kind, _pane), sums in found.items():
            if where == family:
                shown[key, kind] += sums["count"]
        assert shown == counted
        assert phase1.count("mail_events_unattributed_total", family) == lacking


def test_what_is_added_is_shown_with_its_fields_as_labels_and_bounded() -> None:
    worker = Worker(top_keys=2, pipeline={"dimensions": {"campaign": ("router", "bounce_class")}})
    added = worker.board.families[-1]
    keys = [(router, "spam") for router in ("a", "b", "b", "c", "c", "c")]
    record = frame({}, families=[family_rows(added, [Row(key, "bounced", NOW) for key in keys])])
    worker.board.fold(0, [record], NOW)
    text = worker.page()
    assert "# TYPE mail_campaign_events gauge" in text
    shown = worker.samples("mail_campaign_events")
    assert {labels: value for labels, value in shown.items() if '"1m"' in labels} == {
        'window="1m",router="c",bounce_class="spam",event_type="bounced"': 3,
        'window="1m",router="b",bounce_class="spam",event_type="bounced"': 2,
        'window="1m",router="_other",bounce_class="spam",event_type="bounced"': 1,
    }


def test_a_family_that_is_off_is_neither_counted_nor_shown(tmp_path: Path) -> None:
    pipeline = loaded(tmp_path, "families_off: [user, route, destination_failure]").pipeline
    off = {"user", "route", "destination_failure"}
    assert {family.name for family in pipeline.families} == set(FAMILY) - off
    result = Phase1(families=pipeline.families).batch([raw(mail(event_type="bounced"))])
    counted = {family for family, *_ in rows(frames(result).values())}
    assert counted == {"ip", "ip_provider", "failure", "domain", "destination", "node", "client_ip"}
    worker = Worker(pipeline={"families_off": ("user",)})
    assert "TYPE mail_user_events" not in worker.page()
    assert "TYPE mail_ip_events" in worker.page()


def test_all_families_may_be_off() -> None:
    result = Phase1(families=chosen(FAMILY)).commit([raw(mail())])
    assert events(result)
    assert not frames(result)
    assert Board([60_000], chosen(FAMILY)).families == ()


def test_what_another_configuration_counted_under_the_name_is_skipped() -> None:
    before, after = dimension("x", ["zone"]), dimension("x", ["zone", "provider"])
    board = Board([60_000], [after])
    board.open(0)
    old = family_rows(before, [Row(("z",), "sent", NOW)])
    new = family_rows(after, [Row(("z", "google"), "sent", NOW)])
    board.fold(0, [frame({}, families=[old, new])], NOW)
    board.complete(0)
    assert board.totals(after, 60_000).keys == [("z", "google")]


def test_mail_in_every_direction_is_counted_where_direction_is_a_field() -> None:
    assert dimension("x", ["zone"]).mail is Mail.CUSTOMER
    assert dimension("x", ["zone", "direction"]).mail is Mail.ALL
    assert dimension("x", ["zone"]).event_types == MAIL_TYPES


def test_no_id_no_recipient_and_no_free_text_can_be_counted_by() -> None:
    assert set(DIMENSION_FIELDS) <= set(MailEvent.__struct_fields__)
    never = {"event_id", "message_id", "queue_id", "seq", "to_user", "to_hash", *FREE_TEXT}
    assert not never & set(DIMENSION_FIELDS)


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("families_off: [users]", r"pipeline\.families_off\[0\]: expected one of user, "),
        ("families_off: user", r"pipeline\.families_off: expected a list"),
        (
            "publish_panes: [users]",
            r"publish_panes\[0\]: expected one of .*; the nearest is user\b",
        ),
        ("publish_panes: [ip_providers]", r"the nearest is ip_provider\b"),
        ("publish_panes: ip", r"pipeline\.publish_panes: expected a list"),
        ("dimensions: {x: [zon]}", r"pipeline\.dimensions\.x: expected a list of one or two of "),
        ("dimensions: {x: []}", r"pipeline\.dimensions\.x: expected a list of one or two of "),
        ("dimensions: {x: zone}", r"pipeline\.dimensions\.x: expected a list"),
        ("dimensions: {x: [zone, zone]}", r"pipeline\.dimensions\.x: expected a list of one or"),
        ("dimensions: {x: [zone, router, source]}", r"pipeline\.dimensions\.x: expected a list"),
        ("dimensions: {x: [message_id]}", r"pipeline\.dimensions\.x: expected a list of one or"),
        ("dimensions: {user: [zone]}", r"pipeline\.dimensions\.user: expected a name of small "),
        ("dimensions: {failure: [zone]}", r"pipeline\.dimensions\.failure: expected a name of"),
        ("dimensions: {X: [zone]}", r"pipeline\.dimensions\.X: expected a name of small letters"),
        ("dimensions: {a-b: [zone]}", r"pipeline\.dimensions\.a-b: expected a name of small "),
        ("dimensions: [zone]", r"pipeline\.dimensions: expected keys with values"),
        (
            "dimensions: {" + ", ".join(f"x{number}: [zone]" for number in range(21)) + "}",
            r"pipeline\.dimensions: expected at most 20 names",
        ),
    ],
)
def test_a_mistake_names_key_and_expectation(tmp_path: Path, pipeline: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        loaded(tmp_path, pipeline)


def test_without_a_word_about_them_the_families_are_those_of_the_table(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").pipeline.families == FAMILIES
