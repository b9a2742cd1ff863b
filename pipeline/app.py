"""The pipeline's composition root: the Faust app from our settings, with its two agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pipeline.core.engine_stats import EngineStats
from pipeline.core.pane import HOUR_MS
from pipeline.core.pseudonym import Pseudonyms
from pipeline.core.tally import Tally
from pipeline.core.topics import RAW_TOPICS
from pipeline.detect.rules import AccountRules, BlockRules
from pipeline.detect.watch import NEEDED, Watch
from pipeline.enrich.dedupe import reach_ms
from pipeline.enrich.forms import forms
from pipeline.enrich.probes import NO_PROBES, ProbeAccounts
from pipeline.enrich.step import Enricher
from pipeline.fold.board import Board
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.privacy_key import privacy_key
from pipeline.kit.settings import Settings
from pipeline.transport.engine import Engine
from pipeline.transport.options import FOLD_MARGIN_MS, EngineOptions
from pipeline.transport.rollups import RollupPlan, WatchPlan


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Both phases of one worker, and what an exporter reads of them."""

    engine: Engine
    board: Board
    tally: Tally
    stats: EngineStats
    watch: Watch | None
    """What looks for anomalies; None: nothing does."""


def make_pipeline(settings: Settings, bootstrap: str, clock: Clock) -> Pipeline:
    """Set up one worker's pipeline on the broker at *bootstrap*; call it in the event loop."""
    names, pipeline = settings.topics.names, settings.pipeline
    families = pipeline.families
    options = EngineOptions(
        client=client_options(settings.kafka, bootstrap),
        commit_interval_ms=pipeline.commit_interval,
        fold_horizon_ms=max(pipeline.windows) + FOLD_MARGIN_MS,
        seen_horizon_ms=reach_ms(pipeline.dedupe_horizon),
    )
    tally = Tally(max_values=pipeline.top_keys)
    stats = EngineStats(session_timeout_ms=options.session_timeout_ms)
    board = Board(pipeline.windows, families, publishes=True)
    watch = _watch(settings, board)
    enricher = Enricher(
        names,
        settings.topics.partitions,
        horizon_ms=pipeline.dedupe_horizon,
        max_ids=pipeline.dedupe_max_ids,
        tally=tally,
        stats=stats,
        forms=forms(gelf_mta_events=settings.gelf.mta_events),
        probes=probe_accounts(settings),
        families=families,
        published=pipeline.published,
    )
    engine = Engine(
        names,
        options,
        [names.of(topic) for topic in RAW_TOPICS],
        names.of("deltas"),
        names.of("seen"),
        enricher,
        board,
        stats,
        clock,
        RollupPlan(
            board,
            names.of("rollups"),
            names,
            max(pipeline.windows),
            publishes=bool(pipeline.published),
            watch=None
            if watch is None
            else WatchPlan(watch, names.of("alerts"), names.of("events")),
        ),
    )
    _add_agents(engine)
    return Pipeline(engine, board, tally, stats, watch)


def _watch(settings: Settings, board: Board) -> Watch | None:
    """Return what looks for anomalies, where it is wanted and the panes for it are there."""
    detect = settings.pipeline.detect
    families = {family.name for family in board.families}
    if not detect.enabled or max(board.windows_ms) <= HOUR_MS or not families >= NEEDED:
        return None
    accounts = AccountRules(
        least_recipients=detect.least_recipients,
        least_destinations=detect.least_destinations,
        least_attempts=detect.least_attempts,
        least_failure_ratio=detect.least_failure_ratio,
    )
    return Watch(board, accounts, BlockRules(least_attempts=detect.least_block_attempts))


def probe_accounts(settings: Settings) -> ProbeAccounts:
    """Return the accounts of probes; the key of the hashes is asked for only if there are any."""
    addresses = settings.probe_accounts
    if not addresses:
        return NO_PROBES
    return ProbeAccounts(addresses, Pseudonyms(privacy_key(settings)).address)


def _add_agents(engine: Engine) -> None:
    @engine.app.agent(engine.source_batches)  # type: ignore[untyped-decorator]  # faust is untyped here
    async def enrich(stream: AsyncIterator[Any]) -> None:
        async for batch in stream:
            await engine.process(batch)

    @engine.app.agent(engine.fold_batches)  # type: ignore[untyped-decorator]  # faust is untyped here
    async def fold(stream: AsyncIterator[Any]) -> None:
        async for batch in stream:
            await engine.process(batch)
