"""Speed of phase 1's pure part by stage, and memory of the seen-set.  Prints JSON lines.

Run as ``python -m bench.enrich``.  CPU time of one thread, the best of several rounds.
"""

from __future__ import annotations

import gc
import json
import random
import time
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

from mailstream.simulation.replies import RECEIVERS
from pipeline.core import posted
from pipeline.core.batch import TopicPartition
from pipeline.core.engine_stats import EngineStats
from pipeline.core.publication import PUBLISHED
from pipeline.core.tally import Tally
from pipeline.core.timestamp import rfc3339
from pipeline.core.topics import TopicNames
from pipeline.enrich.classify import Classifier, Reply
from pipeline.enrich.columns import Columns
from pipeline.enrich.combine import Combiner
from pipeline.enrich.counts import Counts, count_events, newest_times
from pipeline.enrich.dedupe import SeenSet
from pipeline.enrich.forms import forms
from pipeline.enrich.head import Heads
from pipeline.enrich.step import Enricher, hashes_of
from pipeline.enrich.transform import Transformed, Transformer, look

START_MS: Final = 1_800_000_000_000
HORIZON_MS: Final = 6 * 3_600_000
TP: Final = TopicPartition("mail.raw.zonemta", 0)
PARTITIONS: Final = 4
REPLIES: Final = {
    "delivered": ((250, "2.0.0 OK accepted for delivery"),),
    "bounced": (
        (550, "5.1.1 The email account that you tried to reach does not exist"),
        (552, "5.2.2 Mailbox full, quota exceeded"),
        (554, "5.7.1 Message rejected as spam by policy"),
    ),
    "deferred": (
        (421, "4.7.0 Try again later, rate limited"),
        (451, "4.3.0 Temporary local problem"),
        (450, "4.2.1 The user is receiving mail too quickly"),
    ),
    "rejected": (
        (550, "5.7.26 Unauthenticated email is not accepted due to DMARC policy"),
        (553, "5.7.1 Sender address rejected: blocked using blocklist"),
    ),
}
FAILING: Final = 0.12
"""Share of failures in the traffic below."""
DOMAINS: Final = [
    "gmail.com",
    "outlook.com",
    "yahoo.com",
    "icloud.com",
    "hotmail.com",
    "gmx.de",
    "web.de",
    "proton.me",
] + [f"corp{number}.example.com" for number in range(192)]


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as Kafka's client gives it."""

    offset: int
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    key: bytes
    timestamp: int = START_MS


def zipf(number: int, skew: float) -> list[float]:
    """Return the cumulative weights of *number* values."""
    return list(accumulate(1 / place**skew for place in range(1, number + 1)))


def traffic(number: int, *, unique_replies: bool = False) -> Iterator[RawRecord]:
    """Yield raw records of about 400 bytes: 5,000 users, 200 domains, 50 addresses, Zipf."""
    rnd = random.Random(7)
    users, domains, ips = zipf(5000, 1.05), zipf(len(DOMAINS), 1.05), zipf(50, 0.7)
    kinds = rnd.choices(list(REPLIES), weights=[88, 5, 5, 2], k=number)
    for place, kind in enumerate(kinds):
        code, text = rnd.choice(REPLIES[kind])
        user = bisect(users, rnd.random() * users[-1])
        event_id = f"{rnd.getrandbits(128):032x}"
        received = START_MS + place // 500 * 20
        event = {
            "timestamp": rfc3339(received - 1000 - place % 1000),
            "event_type": kind,
            "from_user": f"user{user}@dom{user % 300}.example.org",
            "from_domain": f"dom{user % 300}.example.org",
            "to_domain": DOMAINS[bisect(domains, rnd.random() * domains[-1])],
            "sending_ip": f"10.1.1.{bisect(ips, rnd.random() * ips[-1])}",
            "mta_node": f"mta-{place % 12:02d}",
            "message_id": f"<{event_id[:20]}@mta.example.net>",
            "response_code": code,
            "response_message": f"{text} {event_id[20:]}" if unique_replies else text,
            "delivery_time_ms": int(20 / (rnd.random() + 1e-3)),
        }
        value = posted.encode(posted.decode(json.dumps(event).encode()))
        headers = (
            ("id", event_id.encode()),
            ("source", b"zonemta"),
            ("feed", b"hook"),
            ("origin", b"default"),
            ("received", str(received).encode()),
        )
        yield RawRecord(place, value, headers, event_id[:20].encode())


def best(work: Callable[[], object], number: int, rounds: int = 12) -> float:
    """Return the CPU time of *work* in µs per each of *number* things."""
    shortest = float("inf")
    for _ in range(rounds):
        begun = time.thread_time()
        work()
        shortest = min(shortest, time.thread_time() - begun)
    return shortest / number * 1e6


def report(bench: str, value: float, unit: str) -> None:
    """Print one figure."""
    print(json.dumps({"bench": bench, "value": round(value, 3), "unit": unit}))


def enricher() -> Enricher:
    """Return a fresh step with one partition open."""
    step = Enricher(
        TopicNames("mail."),
        PARTITIONS,
        horizon_ms=HORIZON_MS,
        max_ids=20_000_000,
        tally=Tally(),
        stats=EngineStats(10_000),
        forms=forms(),
        published=PUBLISHED,
    )
    step.open(TP)
    return step


def whole(name: str, records: Sequence[RawRecord], size: int) -> None:
    """Measure ``on_batch`` and its commit over all *records*, *size* at a time."""

    def run() -> None:
        step.open(TP)
        for start in range(0, len(records), size):
            batch = records[start : start + size]
            step.on_batch(TP, batch, start, start + len(batch), START_MS).on_commit()

    step = enricher()
    gc.collect()
    gc.freeze()  # the records are the bench's own, not the step's
    report(name, best(run, len(records), rounds=5), "us/event")


def stages(records: Sequence[RawRecord]) -> None:
    """Measure each stage of one batch."""
    number = len(records)
    heads, transformer = Heads(forms()), Transformer()
    combiner = Combiner(PARTITIONS, published=PUBLISHED)
    report("enrich.headers", best(lambda: heads.read_all(records), number), "us/event")
    headed, _refused = heads.read_all(records)
    report("enrich.hash", best(lambda: hashes_of(headed), number), "us/event")
    places = range(number)
    values = [record.value for record in records]
    report("enrich.look", best(lambda: look(values), number), "us/event")
    transform = best(lambda: transformer.transform(headed, places, Transformed()), number)
    report("enrich.transform", transform, "us/event")
    done = Transformed()
    transformer.transform(headed, places, done)
    on_time = np.ones(number, np.bool_)

    def combine() -> None:
        combiner.combine(Columns(done.rows, done.event_ms), on_time, TP, START_MS)

    report("enrich.combine", best(combine, number), "us/event")
    whole, combiner = combiner, Combiner(PARTITIONS)
    report("enrich.combine.publishing_nothing", best(combine, number), "us/event")
    combiner = whole
    columns = Columns(done.rows, done.event_ms)
    combiner.combine(columns, on_time, TP, START_MS)
    received_ms = np.array([head.received_ms for head in headed.heads], np.int64)

    def count() -> None:
        counts = Counts()
        count_events(counts, columns)
        newest_times(columns, received_ms)

    report("enrich.count", best(count, number), "us/event")


def classification(number: int, rounds: int = 5) -> None:
    """Measure the classes of *number* failures whose replies were never seen before.

    As real replies are: long, and each with an id of its own.  An event costs what a failure costs
    times the share of failures.
    """
    rnd = random.Random(7)
    templates = [
        (receiver.name, reply)
        for receiver in RECEIVERS
        for reply in (*receiver.deferred, *receiver.bounced, *receiver.blocks)
    ]

    def drawn() -> Reply:
        provider, reply = rnd.choice(templates)
        words = {name: f"{rnd.getrandbits(64):016x}" for name in ("id", "message_id", "size")}
        ip = f"192.0.2.{rnd.randrange(256)}"
        to = f"{words['id']}@{rnd.choice(DOMAINS)}"
        text = reply.text.format(ip=ip, to=to, peer=ip, domain=rnd.choice(DOMAINS), **words)
        return Reply(reply.code, reply.status, text, reply.error, provider)

    classifier = Classifier()
    unseen = [[drawn() for _ in range(number)] for _ in range(rounds)]
    batches = iter(unseen)
    cost = best(lambda: [*map(classifier.classify, next(batches))], number, rounds)
    report("classify.unseen_reply", cost, "us/failure")
    report("classify.unseen_reply.average", cost * FAILING, "us/event")
    seen = best(lambda: [*map(classifier.classify, unseen[-1][-1000:])], 1000)
    report("classify.seen_reply", seen, "us/failure")


def seen_set(millions: int) -> None:
    """Measure a seen-set of *millions* of ids spread over the whole horizon."""
    rng = np.random.default_rng(7)
    size, number = 10_000, millions * 100
    step_ms = HORIZON_MS // number
    batches = [rng.integers(0, 1 << 64, size, np.uint64) for _ in range(number)]
    seen = SeenSet(HORIZON_MS, max_bucket=1_000_000)
    begun = time.thread_time()
    for place, hashes in enumerate(batches):
        received_ms = np.full(size, START_MS + place * step_ms, np.int64)
        seen.commit(seen.judge(hashes, received_ms))
    took = time.thread_time() - begun
    report(f"seen.{millions}M.judge_and_commit", took / (size * number) * 1e6, "us/id")
    report(f"seen.{millions}M.memory", seen.nbytes / millions / 1e6, "MB/million ids")
    received_ms = np.full(size, START_MS + HORIZON_MS - step_ms, np.int64)
    fresh = rng.integers(0, 1 << 64, size, np.uint64)
    report(
        f"seen.{millions}M.judge_new", best(lambda: seen.judge(fresh, received_ms), size), "us/id"
    )


def main() -> None:
    """Run all."""
    records = list(traffic(40_000))
    stages(records[:10_000])
    whole("enrich.on_batch.10000", records, 10_000)
    whole("enrich.on_batch.250", records[:10_000], 250)
    whole("enrich.on_batch.20", records[:2_000], 20)
    whole(
        "enrich.on_batch.10000.unique_replies", list(traffic(40_000, unique_replies=True)), 10_000
    )
    classification(20_000)
    seen_set(5)


if __name__ == "__main__":
    main()
