"""Laws of the top keys: whatever loses its name, a family's sum is the whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pipeline.core.families import FAMILY, Family
from pipeline.core.pane import window_label
from pipeline.core.tally import OTHER
from pipeline.export.topkeys import TopKeys, rank_window
from pipeline.export.windows import FamilyText
from pipeline.fold.board import Board
from tests.kit.frames import Row, frame

MINUTE, HOUR = 60_000, 3_600_000
WINDOWS = (MINUTE, 5 * MINUTE, HOUR)
NOW = 1_700_000_000_000

COUNTS = st.dictionaries(
    st.integers(0, 30).map(lambda n: f"k{n:02}"), st.integers(1, 40), max_size=25
)


def board_of(family: Family, rows: Sequence[Row], partitions: int = 3) -> Board:
    """Fold rows, each key on one of the partitions."""
    board = Board(WINDOWS)
    for partition in range(partitions):
        mine = [row for row in rows if sum(map(ord, "".join(row.key))) % partitions == partition]
        board.open(partition)
        board.fold(partition, [frame({family.name: mine})], NOW)
        board.complete(partition)
    return board


def chosen(top: TopKeys, board: Board, needed: Collection[str] = ()) -> set[str]:
    shares = board.shares("user")
    choice = top.choose(shares, needed)
    kept = {
        share.names[number]
        for share, mask in zip(shares, choice.kept, strict=True)
        for number in mask.nonzero()[0].tolist()
    }
    alive = sum(int(share.alive.sum()) for share in shares)
    assert choice.folded == alive - len(kept)
    return kept


def users(counts: dict[str, int]) -> list[Row]:
    return [Row((key,), "sent", NOW, count) for key, count in counts.items()]


@given(COUNTS, st.integers(1, 12), st.sets(st.sampled_from([f"k{n:02}" for n in range(30)])))
def test_needed_keys_keep_their_name_and_take_no_place(
    counts: dict[str, int], limit: int, needed: set[str]
) -> None:
    board = board_of(FAMILY["user"], users(counts))
    ranked = chosen(TopKeys(FAMILY["user"], limit, WINDOWS), board)
    top = TopKeys(FAMILY["user"], limit, WINDOWS)
    assert chosen(top, board, needed) == ranked | (needed & set(counts))
    assert chosen(top, board) == ranked


@given(COUNTS, st.integers(1, 12))
def test_without_a_past_the_highest_counts_keep_their_name_ties_by_key(
    counts: dict[str, int], limit: int
) -> None:
    best = sorted(counts, key=lambda key: (-counts[key], key))[:limit]
    top = TopKeys(FAMILY["user"], limit, WINDOWS)
    assert chosen(top, board_of(FAMILY["user"], users(counts))) == set(best)


@given(COUNTS, COUNTS, st.integers(1, 12))
def test_a_kept_key_leaves_only_below_80_percent_of_the_last_place(
    before: dict[str, int], after: dict[str, int], limit: int
) -> None:
    top = TopKeys(FAMILY["user"], limit, WINDOWS)
    first = chosen(top, board_of(FAMILY["user"], users(before)))
    second = chosen(top, board_of(FAMILY["user"], users(after)))
    ranked = sorted(after, key=lambda key: (-after[key], key))
    assert len(second) == min(limit, len(after))
    if len(after) <= limit:
        return
    last = after[ranked[limit - 1]]
    stays = {key for key in first if 10 * after.get(key, 0) >= 8 * last}
    others = [key for key in ranked if key not in stays]
    assert second == stays | set(others[: limit - len(stays)])


EVENTS = st.lists(
    st.builds(
        Row,
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(("google", "yahoo"))),
        st.sampled_from(("sent", "delivered", "bounced")),
        st.sampled_from((0, 90_000, 30 * MINUTE, 2 * HOUR)).map(lambda age: NOW - age),
        st.integers(1, 9),
        st.integers(0, 9),
        st.integers(0, 1 << 30),
    ),
    max_size=30,
)


@settings(max_examples=200)
@given(EVENTS, st.integers(1, 8), st.sampled_from(("user", "ip", "ip_provider", "node")))
def test_the_sum_over_a_family_is_always_the_whole(
    events: list[Row], limit: int, name: str
) -> None:
    family = FAMILY[name]
    width = len(family.fields)
    rows = [
        row._replace(key=(*row.key, "x")[:width] if width > 1 else row.key[:1]) for row in events
    ]
    board = board_of(family, rows)
    text = FamilyText(family, WINDOWS, limit)
    page = text.render(board.shares(name), board.groups(name))
    shown: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    keys = set()
    for metric in text_string_to_metric_families(page):
        for sample in metric.samples:
            labels = sample.labels
            if "window" in labels:
                bounded = tuple(labels[label] for label in labels_of_bounded(family))
                group = (metric.name, labels["window"], labels.get("event_type", ""), *bounded)
                shown[metric.name][group] += int(sample.value)
                if OTHER not in labels.values():
                    keys.add(tuple(labels[label] for label in family.labels))
    alive = {row.key for row in rows if NOW - row.event_ms < HOUR}
    assert len(keys) == min(limit, len(alive))
    assert text.folded == len(alive) - len(keys)
    for export in family.exports:
        whole: Counter[tuple[str, ...]] = Counter()
        for row in rows:
            bounded = tuple(row.key[family.fields.index(field)] for field in family.bounded)
            for window in WINDOWS:
                if NOW - row.event_ms < window:
                    kind = row.event_type if export.by_event_type else ""
                    group = (export.metric, window_label(window), kind, *bounded)
                    whole[group] += row.amount(export.sum)
        assert shown[export.metric] == +whole


def labels_of_bounded(family: Family) -> list[str]:
    return [family.labels[family.fields.index(field)] for field in family.bounded]


def test_keys_are_ranked_by_the_longest_window_up_to_an_hour() -> None:
    assert rank_window((MINUTE, HOUR, 24 * HOUR)) == HOUR
    assert rank_window((MINUTE, 5 * MINUTE)) == 5 * MINUTE
    assert rank_window((2 * HOUR, 24 * HOUR)) == 24 * HOUR
