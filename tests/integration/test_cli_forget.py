"""``mailstream forget`` on a real PostgreSQL: who is named anywhere is gone, and nobody else."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import psycopg
import pytest

from consumers.postgres.upkeep import sum_up
from pipeline.core.event import MailEvent
from pipeline.core.pane import DAY_MS
from pipeline.core.timestamp import epoch_ms
from pipeline.core.topics import TOPICS
from producers.privacy import Privacy
from tests.kit.event_log import encode
from tests.kit.postgres import PASSWORD, Database
from tests.kit.processes import ROOT, mailstream
from tests.kit.sink import NOW_MS, PANES, event, item, items, made, stored
from tests.kit.stand import now_ms

pytestmark = pytest.mark.integration

KEY = "a-key-of-the-hashes-of-tests"
PRIVACY = Privacy(KEY.encode())
BOB, DOMAIN = "bob@example.org", "example.org"
HASHED = PRIVACY.address(BOB)
ALICE = "alice@example.com"


def config(database: Database, folder: Path, **privacy: object) -> Path:
    path = folder / "mailstream.yaml"
    sinks = {"postgres": {"dsn": database.dsn}}
    given = {"data_dir": str(folder), "sinks": sinks, "privacy": {"hash_key": KEY, **privacy}}
    path.write_text(json.dumps(given))
    return path


def forget(path: Path, *arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [str(part) for part in mailstream("forget", "--config", path, *arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert PASSWORD not in done.stdout + done.stderr
    return done.returncode, (done.stdout + done.stderr).splitlines()


def events() -> list[MailEvent]:
    hashed = HASHED.partition("@")[0]
    return [
        event(0, user=ALICE),
        event(1, user="other@example.com", from_address="Alice@Example.com"),
        event(2, user="other@example.com", response_message=f"no mail for <{ALICE}>."),
        event(3, user=f"mal{ALICE}", response_message=f"no mail for mal{ALICE}.au"),
        event(4, to_hash=hashed, to_domain=DOMAIN),
        event(5, to_hash=hashed, to_domain="example.net"),
        event(6, to_hash=PRIVACY.address(f"rob@{DOMAIN}").partition("@")[0], to_domain=DOMAIN),
        event(7, response_message=f"550 {HASHED}: unknown"),
        event(8, to_hash="bob", to_domain=DOMAIN),
        event(9, auth_user="alice"),
    ]


@pytest.fixture
def filled(database: Database) -> Database:
    """Return a database with events, summed up in part, panes and a record put aside."""

    async def fill() -> None:
        sink = made(database.dsn)
        await sink.open()
        await stored(sink, items(events()))
        panes = [
            {
                "family": family,
                "key": [key],
                "event_type": "sent",
                "start": NOW_MS,
                "length_s": 300,
                "count": 1,
            }
            for family, key in (("user", ALICE), ("user", "else@example.com"), ("ip", ALICE))
        ]
        await stored(
            sink, [item(at, json.dumps(one).encode(), PANES) for at, one in enumerate(panes)]
        )
        refused = [
            event(20, user=ALICE, attempt=1 << 40),
            event(21, user="x@y.example", attempt=1 << 40),
        ]
        await stored(sink, [item(100 + at, encode(one)) for at, one in enumerate(refused)])
        await sink.close()
        async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as other:
            await sum_up(other, NOW_MS + 2 * DAY_MS, quiet_s=0)

    asyncio.run(fill())
    return database


def left(database: Database) -> set[int]:
    return {int(one[1:]) for (one,) in database.rows("SELECT event_id FROM email_events")}


def test_a_user_is_erased_everywhere_and_kafka_s_part_is_named(
    filled: Database, tmp_path: Path
) -> None:
    path = config(filled, tmp_path)
    code, said = forget(path, "--user", ALICE, "--dry-run")
    assert code == 0
    assert "8 rows would be erased from PostgreSQL" in said
    assert left(filled) == set(range(10))
    code, said = forget(path, "--user", ALICE.upper())
    assert code == 0
    assert "8 rows were erased from PostgreSQL" in said
    assert left(filled) == {3, 4, 5, 6, 7, 8, 9}
    for view in ("email_events_hourly", "email_events_daily"):
        users = filled.rows(f'SELECT "user" FROM {view}')
        assert (ALICE,) not in users
        assert (f"mal{ALICE}",) in users
    assert filled.rows("SELECT family, key FROM panes ORDER BY 1, 2") == [
        ("user", ["else@example.com"]),
    ]
    assert filled.count("mailstream_rejects") == 1
    table = dict(line.split("\t") for line in said if "\t" in line)
    assert {"mail.events", "mail.dead", "mail.raw.zonemta"} <= set(table)
    assert "mail.raw.node" not in table
    assert table["mail.events"] > table["mail.dead"]
    code, said = forget(path, "--user", ALICE)
    assert (code, "0 rows were erased from PostgreSQL" in said) == (0, True)


def test_every_topic_that_may_name_a_person_is_told_with_its_own_time(
    filled: Database, tmp_path: Path
) -> None:
    path = config(filled, tmp_path)
    given = json.loads(path.read_text())
    topics = {"prefix": "other.", "retention": {"raw": "20d", "rollups": "3d"}}
    path.write_text(json.dumps({**given, "topics": topics}))
    before = now_ms()
    code, said = forget(path, "--user", ALICE)
    assert code == 0
    told = dict(line.split("\t") for line in said if line.startswith("other."))
    persons = {one.name for one in TOPICS} - {"checkpoints", "seen", "raw.node"}
    assert {"rollups", "deltas"} <= persons
    assert set(told) == {f"other.{name}" for name in persons}
    lasts = {name: (epoch_ms(until) - before) / DAY_MS for name, until in told.items()}
    expected = {"other.raw.gelf": 20, "other.rollups": 3, "other.events": 30, "other.deltas": 2}
    for name, days in expected.items():  # and the time for which a file of the log stays open
        assert days <= lasts[name] <= days + (7.01 if days > 7 else 1), name


def test_a_recipient_is_found_by_hash_and_domain(filled: Database, tmp_path: Path) -> None:
    code, said = forget(config(filled, tmp_path), "--recipient", f"<{BOB.title()}>")
    assert code == 0
    assert "3 rows were erased from PostgreSQL" in said
    assert left(filled) == {0, 1, 2, 3, 5, 6, 9}
    assert filled.value("SELECT sum(events) FROM email_events_daily") == 10


def test_a_name_without_a_domain_matches_whole_fields_only(
    filled: Database, tmp_path: Path
) -> None:
    assert forget(config(filled, tmp_path), "--user", "alice")[0] == 0
    assert left(filled) == {0, 1, 2, 3, 4, 5, 6, 7, 8}


def test_usage_and_faults_have_their_exit_codes(database: Database, tmp_path: Path) -> None:
    path = config(database, tmp_path)
    for wrong in ([], ["--user", "a", "--recipient", BOB], ["--recipient", "bob"], ["--user", " "]):
        assert forget(path, *wrong)[0] == 2, wrong
    keyless = tmp_path / "keyless"
    keyless.mkdir()
    code, said = forget(config(database, keyless, hash_key=None), "--recipient", BOB)
    assert code == 2
    assert "no privacy.hash_key" in said[-1]
    assert not (keyless / "privacy.key").exists()
    code, said = forget(path, "--user", ALICE)
    assert code == 2
    assert "no tables of mailstream" in said[-1]
    away = Database(database.dsn.rpartition(":")[0] + ":1/none")
    code, said = forget(config(away, tmp_path), "--user", ALICE)
    assert code == 1
    assert said[-1].startswith("mailstream: PostgreSQL: ")
