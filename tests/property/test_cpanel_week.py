"""A simulated week: what the poller wrote is what the server logged, each row once.

The recount is the list of rows that were put into the server's log.  Late deferrals, lines that reach
the log out of order, bursts beyond every cap, days without a poller, crashes and failures at any step.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from producers.privacy import Privacy
from producers.sources.cpanel.polling import OVERLAP_S
from tests.kit.cpanel import Bench, Faults
from tests.kit.whm import Row, Whm, row_like

DAY = 86_400
BEGIN = 1_700_000_000
END = BEGIN + 7 * DAY
RETRIES = (300, 900, 3600, 4 * 3600, 16 * 3600, 30 * 3600, 40 * 3600)
"""Seconds between the attempts of one message."""
POLL = 600
KEEPING = Privacy(b"key", keep_recipients=True)
Timed = tuple[int, Row]
"""When a row can be seen, and the row."""


def seen_at(at: int, rng: random.Random) -> int:
    """Return when a line reaches the log: soon as a rule, never later than the overlap allows."""
    return at + (rng.randrange(OVERLAP_S - 20) if rng.random() < 0.1 else rng.randrange(5))


def message(number: int, sent: int, rng: random.Random) -> Iterator[Timed]:
    """Yield the rows of one message: outcomes now or days later, for one to three recipients."""
    queue_id = f"1v{number:05x}-0000000{number:05x}-2dEf"
    late = rng.random() < 0.2
    for recipient in range(rng.choice((1, 1, 1, 2, 3))):
        at = sent + rng.randrange(3)
        tries = rng.randrange(1, len(RETRIES)) if late else 0
        for attempt in range(tries + 1):
            last = attempt == tries
            row = row_like(
                rng.choice(("success", "success", "failure")) if last else "defer",
                msgid=queue_id,
                sendunixtime=sent,
                actionunixtime=at if rng.random() < 0.5 else str(at),
                recipient=f"r{recipient}@example.net",
                deliveredto=f"r{recipient}@example.net",
            )
            yield seen_at(at, rng), row
            at += RETRIES[attempt]
    if late:
        pending = row_like("inprogress", msgid=queue_id, sendunixtime=sent, actionunixtime=sent)
        yield sent + 1, pending


def burst(at: int, rows: int, seconds: int, kind: str = "success") -> Iterator[Timed]:
    """Yield many rows of one type within a few seconds."""
    for number in range(rows):
        when = at + number % seconds
        fields = {"msgid": f"burst-{at}-{number}", "sendunixtime": when, "actionunixtime": when}
        yield when + 1, row_like(kind, **fields)


def traffic(seed: int, messages: int, *, bursts: int = 7, crowd: int = 700) -> list[Timed]:
    """Return a week's rows by the time at which they can be seen."""
    rng = random.Random(seed)
    rows: list[Timed] = []
    for number in range(messages):
        rows += message(number, BEGIN + rng.randrange(7 * DAY), rng)
    for day in range(bursts):
        rows += burst(BEGIN + day * DAY + rng.randrange(DAY), crowd, 5)
    return sorted(
        ((at, row) for at, row in rows if int(row["actionunixtime"]) < END),
        key=lambda item: item[0],
    )


def told(row: Row) -> tuple[str, ...]:
    """Return what a row says has happened."""
    if row["type"] == "inprogress":
        return (row["msgid"], "inprogress")
    return (row["msgid"], row["type"], row["recipient"], str(row["actionunixtime"]))


async def live_through(
    bench: Bench, rows: list[Timed], away: tuple[int, int], every: int = POLL
) -> int:
    """Poll through the week but for the time *away*; return how many polls failed."""
    failed, place, now = 0, 0, BEGIN
    while True:
        now += every
        while place < len(rows) and rows[place][0] <= now:
            bench.whm.add(rows[place][1])
            place += 1
        if away[0] <= now < away[1]:
            continue
        bench.clock.set(now * 1000)
        done = await bench.poll()
        failed += not done
        if now > END + 2 * OVERLAP_S and done:
            return failed


def silent() -> Whm:
    return Whm()


def honest() -> Whm:
    """Return a server that gives as many rows as it is asked for, and says when there are more."""
    whm = Whm()
    whm.silent_cap = False
    return whm


def mute() -> Whm:
    """Return a server that stops at 250 rows without a word."""
    whm = Whm()
    whm.tells_overflow = False
    return whm


@pytest.mark.parametrize(
    ("make", "crowd", "messages"),
    [(silent, 0, 1000), (mute, 0, 1000), (honest, 1200, 1000)],
    ids=["silent", "mute", "honest"],
)
@pytest.mark.parametrize("rate", [0.0, 0.04], ids=["calm", "faults"])
def test_a_week_is_written_once_each(
    make: Callable[[], Whm], crowd: int, messages: int, rate: float
) -> None:
    rows = traffic(1, messages)
    if crowd:
        rows = sorted([*rows, *burst(BEGIN + 3 * DAY, crowd, 1)], key=lambda item: item[0])
    faults = Faults(rate, seed=2)
    bench = Bench(make(), faults=faults, privacy=KEEPING)
    away = BEGIN + 2 * DAY, BEGIN + 4 * DAY
    failed = asyncio.run(live_through(bench, rows, away))
    assert Counter(told(one.row) for one in bench.log.records) == dict.fromkeys(
        (told(row) for _, row in rows), 1
    )
    assert len({one.event_id for one in bench.log.records}) == len(bench.log.records)
    assert bool(failed) == bool(bench.restarts) == bool(rate)
    paged = bench.value("mailstream_cpanel_overflows_total", origin="web1", outcome="paged")
    assert bool(paged) == bool(crowd) or rate


@pytest.mark.parametrize("rate", [0.0, 0.003], ids=["calm", "faults"])
def test_a_week_of_a_server_that_ignores_the_filter_is_written_once_each(rate: float) -> None:
    rows = traffic(3, 80, bursts=1, crowd=300)
    whm = Whm()
    whm.ignored = frozenset({"actionunixtime"})
    bench = Bench(whm, faults=Faults(rate, seed=4), privacy=KEEPING)
    away = BEGIN + 2 * DAY, BEGIN + 3 * DAY
    asyncio.run(live_through(bench, rows, away, every=3600))
    assert Counter(told(one.row) for one in bench.log.records) == dict.fromkeys(
        (told(row) for _, row in rows), 1
    )
    assert bench.value("mailstream_cpanel_by_send_time", origin="web1") == 1
