"""A test stand: topics of its own, workers and ingest as real processes, and the verdict.

The verdict is the one that counts: a committed reader of ``mail.events`` finds each distinct
event of the raw topics once, and what the workers show equals the recount.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.kit.kafka_admin import admin_of
from tests.kit.kafka_read import read_events, read_posted
from tests.kit.oracle import SECOND, Posted, Recount, Series
from tests.kit.processes import (
    ANY_GELF,
    ROOT,
    Gelf,
    Ingest,
    LogRemote,
    Worker,
    mailstream,
    wait_until,
)
from tests.kit.scrape import Page, differences, folded
from tests.kit.traffic import CLASSES

RAW = ("raw.zonemta", "raw.haraka")
PANE = 10 * SECOND
SETTLED = 1500
"""A worker may show the pane before this long after it has ended, ms."""

FRESH_S = 3.0
CAUGHT_UP_S = 90.0
FOLDED_S = 60.0


def now_ms() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1_000_000


class Scrape(NamedTuple):
    """One page, and a moment in the one base pane within which all of it was read."""

    at_ms: int
    page: Page


class Stand:
    """One prefix on one broker."""

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        *,
        partitions: int = 4,
        raw: Sequence[str] = RAW,
        pipeline: Mapping[str, Any] | None = None,
        **sections: Mapping[str, Any],
    ) -> None:
        self.bootstrap, self.partitions, self._raw = bootstrap, partitions, raw
        self.prefix = f"t{uuid.uuid4().hex[:12]}."
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "mailstream.yaml"
        settings = {
            "data_dir": str(folder),
            "kafka": {"bootstrap_servers": bootstrap},
            "topics": {"prefix": self.prefix, "partitions": partitions},
            "ingest": {"listen": "127.0.0.1:0"},
            "metrics": {"listen": "127.0.0.1:0"},
            "gelf": ANY_GELF,
            "pipeline": {"top_keys": 50_000, **(pipeline or {})},
            **sections,
        }
        self.config.write_text(json.dumps(settings))
        self.workers: dict[str, Worker] = {}
        self._ingest: Ingest | None = None
        self._gelf: Gelf | None = None
        self._log_remote: LogRemote | None = None

    def topic(self, name: str) -> str:
        """Return the full name of a topic."""
        return self.prefix + name

    @property
    def group(self) -> str:
        """Return the consumer group of the workers."""
        return self.prefix.rstrip(".") + "-pipeline"

    @property
    def raw(self) -> list[str]:
        """Return the full names of the raw topics that are written to."""
        return [self.topic(name) for name in self._raw]

    def create_topics(self) -> None:
        """Create the topics as an operator would."""
        command = mailstream("topics", "create", "--config", self.config)
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)

    def delete_topics(self) -> None:
        """Free the broker's disk."""
        with suppress(KafkaError):  # a broker that is gone has taken them along
            asyncio.run(self._delete_topics())

    def worker(self, number: int = 1, instead: Sequence[str] = ()) -> Worker:
        """Return worker *number*, started; *instead* is another program, from its first start on."""
        name = f"worker-{number}"
        worker = self.workers.get(name)
        if worker is None:
            worker = self.workers[name] = Worker(name, self.config, self.folder, instead)
        if not worker.running:
            worker.start()
        return worker

    def ingest(self) -> Ingest:
        """Return the ingest service, started and answering."""
        if self._ingest is None:
            self._ingest = Ingest(self.config, self.folder)
        if not self._ingest.running:
            self._ingest.start()
            self._ingest.wait_for("/health")
        return self._ingest

    def gelf(self) -> Gelf:
        """Return the GELF service, started and listening."""
        if self._gelf is None:
            self._gelf = Gelf(self.config, self.folder)
        if not self._gelf.running:
            self._gelf.start()
            self._gelf.wait_until_listening()
        return self._gelf

    def log_remote(self) -> LogRemote:
        """Return the service that takes ZoneMTA's log, started and listening."""
        if self._log_remote is None:
            self._log_remote = LogRemote(self.config, self.folder)
        if not self._log_remote.running:
            self._log_remote.start()
            self._log_remote.wait_until_listening()
        return self._log_remote

    def end(self) -> None:
        """End every process."""
        for program in (*self.workers.values(), self._ingest, self._gelf, self._log_remote):
            if program is not None:
                program.end()

    def running(self) -> list[Worker]:
        """Return the workers that run."""
        return [worker for worker in self.workers.values() if worker.running]

    def scrape(self) -> Scrape | None:
        """Return the page of all running workers, or None unless it fell into one base pane."""
        before = now_ms()
        texts = [worker.metrics() for worker in self.running()]
        after = now_ms()
        if before % PANE < SETTLED or before // PANE != after // PANE:
            return None
        pages = [text for text in texts if text is not None]
        return Scrape(before, Page(pages)) if len(pages) == len(texts) else None

    def wait_until_ready(self, *, within_s: float = CAUGHT_UP_S) -> None:
        """Wait until every running worker has all its partitions open and folded.

        Raises:
            TimeoutError: They are not in time; it tells what they say.
        """
        try:
            wait_until(
                lambda: all(worker.ready() for worker in self.running()),
                "all workers are ready",
                within_s=within_s,
            )
        except TimeoutError as exc:
            answers = [(worker.get("/ready"), worker.said()) for worker in self.running()]
            raise TimeoutError("\n".join([str(exc), *map(str, answers)])) from exc

    def wait_until_owns_all(self, worker: Worker, *, within_s: float = CAUGHT_UP_S) -> None:
        """Wait until *worker* has every raw partition, open, and shows complete numbers."""
        wait_until(
            lambda: self._owns_all([worker.metrics()]) and worker.ready(),
            f"{worker.name} owns all partitions",
            within_s=within_s,
        )

    def wait_until_fresh(self, *, within_s: float = CAUGHT_UP_S) -> float:
        """Wait until what the running workers show is complete and current; return the seconds."""
        began = time.monotonic()
        wait_until(self._fresh, "fresh and complete numbers", within_s=within_s)
        return time.monotonic() - began

    def _fresh(self) -> bool:
        texts = [worker.metrics() for worker in self.running()]
        page = Page(text for text in texts if text is not None)
        complete = page.values("mailstream_windows_complete")
        delays = page.values("mailstream_delay_seconds")
        return (
            self._owns_all(texts)
            and min(complete, default=0) == 1
            and max(delays, default=FRESH_S) < FRESH_S
        )

    def _owns_all(self, texts: Sequence[str | None]) -> bool:
        """Tell whether these pages, and no page is missing, know every raw partition."""
        page = Page(text for text in texts if text is not None)
        partitions = {
            (one.labels["topic"], one.labels["partition"])
            for one in page.samples
            if one.name == "mailstream_lag" and one.labels["topic"] in self.raw
        }
        return None not in texts and len(partitions) == len(self.raw) * self.partitions

    def wait_until_caught_up(self, *, within_s: float = CAUGHT_UP_S) -> None:
        """Wait until the group has committed everything that the raw topics hold."""

        def caught_up() -> bool:
            with suppress(KafkaError):  # the broker may be about to come back
                return asyncio.run(self._behind()) == 0
            return False

        wait_until(
            caught_up,
            "everything on the raw topics is committed",
            within_s=within_s,
            every_s=0.3,
        )

    def recount(
        self, without: Callable[[Mapping[str, Any]], bool] = lambda _event: False
    ) -> Recount:
        """Return the recount of what the raw topics hold, leaving out events *without* names."""
        return Recount((one for one in self.posted() if not without(one.event)), CLASSES)

    def posted(self) -> list[Posted]:
        """Return what the raw topics hold."""
        return asyncio.run(read_posted(self.bootstrap, self.raw, self.partitions))

    def events(self) -> list[dict[str, Any]]:
        """Return the committed events of ``mail.events``."""
        topic = self.topic("events")
        return asyncio.run(read_events(self.bootstrap, topic, self.partitions))

    def assert_exactly_once(self) -> Recount:
        """Assert that each event is on ``mail.events`` once and in every aggregate once."""
        self.wait_until_caught_up()
        recount = self.recount()
        assert_each_once(self.events(), recount, lambda event: event["event_id"])
        self.assert_counted_once(recount)
        return recount

    def assert_counted_once(self, recount: Recount) -> None:
        """Assert that what is shown equals *recount*, now and in a later pane."""
        first = self.wait_until_equal(recount)
        self.wait_until_equal(recount, after_ms=first - first % PANE + PANE)

    def wait_until_equal(
        self, recount: Recount, *, after_ms: int = 0, within_s: float = FOLDED_S
    ) -> int:
        """Wait for a scrape after *after_ms* that equals *recount*; return when it was taken.

        Raises:
            AssertionError: None did in time; it names the series that differ.
        """
        wrong = ["nothing was shown"]

        def equal() -> int | None:
            if now_ms() < after_ms:
                return None
            scrape = self.scrape()
            if scrape is None:
                return None
            wrong[:] = disagreements(scrape, recount)
            return None if wrong else scrape.at_ms

        try:
            return wait_until(equal, "the page equals the recount", within_s=within_s, every_s=0.5)
        except TimeoutError as exc:
            raise AssertionError("\n".join([str(exc), *wrong])) from exc

    async def _behind(self) -> int:
        """Return how many raw records the group has not committed."""
        async with admin_of(self.bootstrap) as admin:
            done = await admin.list_consumer_group_offsets(self.group)
            ends = await self._raw_ends()
            return sum(
                end - (max(0, done[tp].offset) if tp in done else 0) for tp, end in ends.items()
            )

    async def _raw_ends(self) -> dict[Any, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        await consumer.start()
        try:
            tps = [TopicPartition(topic, n) for topic in self.raw for n in range(self.partitions)]
            ends: dict[Any, int] = await consumer.end_offsets(tps)
            return ends
        finally:
            await consumer.stop()

    async def _delete_topics(self) -> None:
        async with admin_of(self.bootstrap) as admin:
            mine = [name for name in await admin.list_topics() if name.startswith(self.prefix)]
            if mine:
                await admin.delete_topics(mine)


def assert_each_once(
    events: Iterable[Mapping[str, Any]],
    recount: Recount,
    identity: Callable[[Mapping[str, Any]], object],
) -> None:
    """Assert that *events* are those of *recount*, each once.

    Args:
        events: What ``mail.events`` holds.
        recount: Of what was posted.
        identity: What names an event beside its source, on ``mail.events`` and as posted.
    """
    expected = {(one.source, identity(one.event)) for one in recount.posted}
    assert len(expected) == len(recount.posted), "the traffic's identities are not distinct"
    found = Counter((event["source"], identity(event)) for event in events)
    lost, alien = expected - found.keys(), found.keys() - expected
    doubled = {key: count for key, count in found.items() if count > 1}
    verdict = f"{len(lost)} lost, {len(doubled)} more than once, {len(alien)} that nobody posted"
    verdict += "".join(
        f"\n{name}: {sorted(map(str, some))[:5]}"
        for name, some in (("lost", lost), ("more than once", doubled.items()), ("alien", alien))
        if some
    )
    assert (lost, alien, doubled) == (set(), set(), {}), verdict


def disagreements(scrape: Scrape, recount: Recount) -> list[str]:
    """Return a sentence for every number of *scrape* that *recount* contradicts."""
    shown = scrape.page.windowed()
    expected: dict[tuple[str, Series], int] = folded(recount.at(scrape.at_ms), shown)
    return differences(expected, shown)


@contextmanager
def stand(bootstrap: str, folder: Path, **options: Any) -> Iterator[Stand]:
    """Yield a stand with its topics created; in the end its processes and topics are gone."""
    made = Stand(bootstrap, folder, **options)
    try:
        made.create_topics()
        yield made
    finally:
        made.end()
        made.delete_topics()
