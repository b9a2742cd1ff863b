"""The view and the workers fold the same logs: at one moment they tell the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumers.view.alerts import Alerts
from consumers.view.answers import Answers
from consumers.view.nodes import Nodes
from consumers.view.recent import Recent
from pipeline.core.families import FAMILIES, Sum
from pipeline.core.rollup import cut_in, deltas_since, of_use
from pipeline.export.windows import FamilyText
from pipeline.fold.board import Board
from tests.kit.oracle import MINUTE, WINDOWS, Series
from tests.kit.scrape import Page, differences
from tests.property.test_recovery_equals_the_recount import NONE, TURNS, Life, Turn
from tests.property.test_rollup_laws import MARGIN, Partition

A_DAY = [Turn(MINUTE, 20, NONE, 1, committed=True, moved=NONE)] * 9 + [
    Turn(8 * 60 * MINUTE, 20, NONE, 1, committed=True, moved=NONE)
] * 3


def view_of(workers: Sequence[Partition], now_ms: int) -> Board:
    """Return the board of a view that begins now: it knows the logs alone."""
    board = Board(tuple(WINDOWS.values()))
    board.advance(now_ms)
    for number, worker in enumerate(workers):
        board.open(number)
        since_ms, end = 0, 0
        if worker.rollups:
            cut = cut_in(worker.rollups[-1].headers)
            assert cut is not None
            useful = [one.value or b"" for one in worker.rollups if of_use(one, now_ms)]
            board.restore(number, useful, now_ms)
            board.follow(number, cut)
            since_ms, end = deltas_since(cut, now_ms, MARGIN), cut.deltas_end
        board.fold(
            number,
            [one for one in worker.deltas if one.offset >= end or (one.timestamp or 0) >= since_ms],
            now_ms,
        )
        board.complete(number)
    return board


def on_the_pages(workers: Sequence[Partition]) -> dict[tuple[str, Series], int]:
    """Return what the workers' pages show."""
    texts = []
    for worker in workers:
        board = worker.board
        for family in FAMILIES:
            text = FamilyText(family, board.windows_ms, 10_000)
            texts.append(text.render(board.shares(family.name), board.groups(family.name)))
    shown = Page(texts).windowed()
    exported = {export.metric for family in FAMILIES for export in family.exports}
    return {key: value for key, value in shown.items() if value and key[1].metric in exported}


def answered(board: Board) -> dict[tuple[str, Series], int]:
    """Return what the view answers, under the names of the metrics."""
    answers = Answers(board, Recent(), Nodes(), Alerts(), lambda: True)
    told: dict[tuple[str, Series], int] = {}
    for family in FAMILIES:
        for window in WINDOWS:
            rows = answers.top(family.name, window, None, 10_000, None)["top"]
            for row in rows:
                key = tuple(row["key"].values())
                for export in family.exports:
                    if export.by_event_type:
                        told |= {
                            (window, Series(export.metric, (*key, kind))): count
                            for kind, count in row["events"].items()
                        }
                    else:
                        value = row["count" if export.sum is Sum.COUNT else export.sum.value]
                        told[window, Series(export.metric, key)] = value
    return {key: value for key, value in told.items() if value}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), turns=TURNS)
@example(seed=2, turns=A_DAY)
def test_a_view_that_begins_now_tells_what_the_workers_show(
    seed: int, turns: Sequence[Turn]
) -> None:
    life = Life(seed)
    for number, turn in enumerate(turns):
        life.live(turn, number)
    board = view_of(life.workers, life.now)
    assert differences(on_the_pages(life.workers), answered(board)) == []
    life.advance(2 * MINUTE)
    board.advance(life.now)
    assert differences(on_the_pages(life.workers), answered(board)) == []
