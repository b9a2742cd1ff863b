"""The window gauges as text: tens of thousands of series per scrape, rendered from columns.

prometheus_client needs a ``Sample`` and a sorted dict per series, 7 us each; here a line costs
0.4 us.  Everything else goes through its registry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import DISTINCT_LIMIT, KEY_SEPARATOR, Export, Family
from pipeline.core.pane import window_label
from pipeline.core.tally import OTHER
from pipeline.export.catalogue import metrics_of
from pipeline.export.topkeys import Choice, TopKeys
from pipeline.fold.distincts import distinct_windows
from pipeline.fold.share import Share

_TYPES: Final = len(EVENT_TYPES)
_TAILS: Final = tuple(f',event_type="{name}"}} ' for name in EVENT_TYPES)
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Block(NamedTuple):
    """Equal-length columns of one set of series: those of a partition, or all of ``_other``."""

    keys: Sequence[str | None]
    """Joined key of each row; None is ``_other``."""
    labels: Sequence[str]
    """The key's labels of each row, as text."""
    event_type: Sequence[int]
    sums: NDArray[np.int64]
    """By window, sum and row."""
    last: Sequence[int]
    """Newest event time in ms; empty where the family does not show it."""


class Series(NamedTuple):
    """Equal-length columns of the series of one gauge."""

    keys: Sequence[str | None]
    tails: Sequence[str]
    """What stands behind the label ``window`` and before the value."""
    values: NDArray[np.int64]
    """By window and row."""


class Gauge(NamedTuple):
    """One gauge with all its series."""

    metric: str
    help: str
    windows_ms: Sequence[int]
    series: Sequence[Series]


Heads = dict[str, str | None]
"""What stands before the value of each line shown, and the key that it belongs to."""


class FamilyText:
    """Renders one family, and remembers what the last scrape showed."""

    def __init__(self, family: Family, windows_ms: Sequence[int], top_keys: int) -> None:
        """Show *family* over these windows, with at most *top_keys* keys by name."""
        self.family = family
        self.folded = 0
        """Keys under ``_other`` at the last scrape."""
        self.capped = 0
        """Keys that had more distinct values than are counted at the last scrape."""
        self.metrics = frozenset(metric.name for metric in metrics_of(family))
        """Their names."""
        self._windows_ms = tuple(windows_ms)
        self._top = TopKeys(family, top_keys, windows_ms)
        self._labels: dict[str, str] = {}
        self._shown: dict[str, Heads] = {}
        self._owner: dict[str, int] = {}
        self._epochs: frozenset[int] = frozenset()

    def render(
        self,
        shares: Sequence[Share],
        groups: Sequence[tuple[str, ...]],
        needed: Collection[str] = (),
    ) -> str:
        """Return the family's part of the page.

        Args:
            shares: What complete partitions hold.
            groups: The values of bounded fields.
            needed: Joined keys that keep their name.
        """
        choice = self._top.choose(shares, needed)
        self.folded = choice.folded
        blocks = [self._named(share, kept) for share, kept in zip(shares, choice.kept, strict=True)]
        if choice.folded:
            blocks.append(self._other(shares, choice, groups))
        owner = {
            key: share.epoch
            for share, block in zip(shares, blocks, strict=False)
            for key in block.keys
            if key is not None
        }
        self.capped = 0
        gauges = [*self._sums(blocks), *self._distincts(shares, choice, groups)]
        text = "".join(self._lines(gauges, blocks, shares, owner))
        self._labels = {key: self._labels[key] for key in owner}
        self._owner, self._epochs = owner, frozenset(share.epoch for share in shares)
        return text

    def _named(self, share: Share, kept: NDArray[np.bool_]) -> Block:
        slots = np.flatnonzero(kept[share.key])
        names = share.names
        keys = [names[number] for number in share.key[slots].tolist()]
        return Block(
            keys,
            [self._labels.get(key) or self._labelled(key) for key in keys],
            share.event_type[slots].tolist(),
            np.array([share.running[window][:, slots] for window in self._windows_ms]),
            [] if share.last is None else share.last[slots].tolist(),
        )

    def _other(
        self, shares: Sequence[Share], choice: Choice, groups: Sequence[tuple[str, ...]]
    ) -> Block:
        rows = len(groups) * _TYPES
        sums = np.zeros((len(self._windows_ms), len(self.family.sums), rows), np.int64)
        last = np.zeros(rows, np.int64)
        for share, kept in zip(shares, choice.kept, strict=True):
            slots = np.flatnonzero(~kept[share.key])
            row = share.group[share.key[slots]].astype(np.intp) * _TYPES + share.event_type[slots]
            for columns, window in zip(sums, self._windows_ms, strict=True):
                for column, running in zip(columns, share.running[window], strict=True):
                    np.add.at(column, row, running[slots])
            if share.last is not None:
                np.maximum.at(last, row, share.last[slots])
        labels = [self._text(self._other_fields(group)) for group in groups]
        return Block(
            [None] * rows,
            [label for label in labels for _ in EVENT_TYPES],
            list(range(_TYPES)) * len(groups),
            sums,
            last.tolist() if self.family.last_event else [],
        )

    def _sums(self, blocks: Sequence[Block]) -> Iterator[Gauge]:
        for export in self.family.exports:
            series = [_typed(export, self.family, block) for block in blocks]
            yield Gauge(export.metric, export.help, self._windows_ms, series)

    def _distincts(
        self, shares: Sequence[Share], choice: Choice, groups: Sequence[tuple[str, ...]]
    ) -> Iterator[Gauge]:
        """Make the gauges of distinct values; of the keys under ``_other`` they add up like sums.

        That is the number of different pairs of key and value: the values that several keys share
        could only be told apart by keeping all of them.
        """
        windows = distinct_windows(self._windows_ms)
        capped = [np.zeros(len(share.names), np.bool_) for share in shares]
        for distinct in self.family.distincts:
            counts = [_counted(share, distinct.name, windows) for share in shares]
            for mask, values in zip(capped, counts, strict=True):
                np.logical_or(mask, (values > DISTINCT_LIMIT).any(axis=0), out=mask)
                np.minimum(values, DISTINCT_LIMIT, out=values)
            series = [
                self._distinct_named(share, kept, values)
                for share, kept, values in zip(shares, choice.kept, counts, strict=True)
            ]
            if choice.folded:
                series.append(self._distinct_other(shares, choice, counts, groups))
            yield Gauge(distinct.metric, distinct.help, windows, series)
        self.capped = sum(int(np.count_nonzero(mask)) for mask in capped)

    def _distinct_named(
        self, share: Share, kept: NDArray[np.bool_], counts: NDArray[np.int64]
    ) -> Series:
        numbers = np.flatnonzero(kept)
        keys = [share.names[number] for number in numbers.tolist()]
        return Series(keys, [self._labels[key] + "} " for key in keys], counts[:, numbers])

    def _distinct_other(
        self,
        shares: Sequence[Share],
        choice: Choice,
        counts: Sequence[NDArray[np.int64]],
        groups: Sequence[tuple[str, ...]],
    ) -> Series:
        rest = np.zeros((len(groups), counts[0].shape[0]), np.int64)
        for share, kept, values in zip(shares, choice.kept, counts, strict=True):
            np.add.at(rest, share.group[~kept], values[:, ~kept].T)
        tails = [self._text(self._other_fields(group)) + "} " for group in groups]
        return Series([None] * len(groups), tails, rest.T)

    def _lines(
        self,
        gauges: Iterable[Gauge],
        blocks: Sequence[Block],
        shares: Sequence[Share],
        owner: dict[str, int],
    ) -> Iterator[str]:
        for gauge in gauges:
            before, heads = self._shown.get(gauge.metric, {}), Heads()
            yield header(gauge.metric, gauge.help)
            for series in gauge.series:
                yield from _samples(gauge, series, heads)
            for head, key in before.items():
                if head not in heads and self._emptied(key, shares, owner):
                    yield head + "0\n"
            self._shown[gauge.metric] = heads
        if self.family.last_event is not None:
            yield header(self.family.last_event, self.family.last_event_help)
            for block in blocks:
                yield from self._newest(self.family.last_event, block)

    def _newest(self, metric: str, block: Block) -> Iterator[str]:
        tails = _TAILS if self.family.last_event_by_type else ["} "] * _TYPES
        for label, kind, last in zip(block.labels, block.event_type, block.last, strict=True):
            if last:
                yield f"{metric}{{{label}{tails[kind]}{last / 1000}\n"

    def _emptied(self, key: str | None, shares: Sequence[Share], owner: dict[str, int]) -> bool:
        """Tell whether a series went because its window emptied.

        The other reasons are that its partition is not shown any more, and that its key lost
        its name; a zero would then be a lie.
        """
        epochs = {share.epoch for share in shares}
        if key is None:
            return self._epochs <= epochs
        if self._owner[key] not in epochs:
            return False
        return key in owner or all(share.number(key) is None for share in shares)

    def _labelled(self, key: str) -> str:
        label = self._labels[key] = self._text(key.split(KEY_SEPARATOR))
        return label

    def _other_fields(self, group: tuple[str, ...]) -> Iterator[str]:
        bounded = dict(zip(self.family.bounded, group, strict=True))
        return (bounded.get(field, OTHER) for field in self.family.fields)

    def _text(self, values: Iterable[str]) -> str:
        return ",".join(
            f'{label}="{value.translate(_ESCAPES)}"'
            for label, value in zip(self.family.labels, values, strict=True)
        )


def _counted(share: Share, name: str, windows_ms: Sequence[int]) -> NDArray[np.int64]:
    """Return a distinct count by window and key number."""
    counts = np.zeros((len(windows_ms), len(share.names)), np.int64)
    for column, window in zip(counts, windows_ms, strict=True):
        column[:] = share.distinct(name, window)
    return counts


def _samples(gauge: Gauge, series: Series, heads: Heads) -> Iterator[str]:
    keys, tails, columns = series
    for window, values in zip(gauge.windows_ms, columns, strict=True):
        start = f'{gauge.metric}{{window="{window_label(window)}",'
        rows = np.flatnonzero(values)
        for row, value in zip(rows.tolist(), values[rows].tolist(), strict=True):
            head = start + tails[row]
            heads[head] = keys[row]
            yield f"{head}{value}\n"


def header(metric: str, text: str) -> str:
    """Return HELP and TYPE of a gauge; the tables' texts need no escaping in either format."""
    return f"# HELP {metric} {text}\n# TYPE {metric} gauge\n"


def _typed(export: Export, family: Family, block: Block) -> Series:
    """Return an export's series."""
    columns = block.sums[:, family.sums.index(export.sum)]
    if export.by_event_type:
        kinds = block.event_type
        tails = [label + _TAILS[kind] for label, kind in zip(block.labels, kinds, strict=True)]
        return Series(block.keys, tails, columns)
    places: dict[str, int] = {}
    row = [places.setdefault(label, len(places)) for label in block.labels]
    keys = dict(zip(block.labels, block.keys, strict=True))
    sums = np.zeros((len(columns), len(places)), np.int64)
    for total, column in zip(sums, columns, strict=True):
        np.add.at(total, row, column)
    return Series([keys[label] for label in places], [label + "} " for label in places], sums)
