"""A worker whose phase 1 has a bug: it raises on events of one node."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pipeline.app
from mailstream.cli import main
from pipeline.core.batch import Record, StepResult, TopicPartition
from pipeline.enrich.step import Enricher

POISON = b'"mta_node":"poison"'


class Sensitive(Enricher):
    """The enricher, with the bug."""

    def on_batch(
        self, tp: TopicPartition, records: Sequence[Record], start: int, end: int, now_ms: int
    ) -> StepResult:
        """Raise if one of the records is of the node, else do as the enricher does."""
        if any(POISON in (record.value or b"") for record in records):
            raise ZeroDivisionError("poison")
        return super().on_batch(tp, records, start, end, now_ms)


if __name__ == "__main__":
    pipeline.app.Enricher = Sensitive  # type: ignore[attr-defined]  # the bug is planted
    sys.argv[1:] = ["worker", *sys.argv[1:]]
    main()
