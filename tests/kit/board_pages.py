"""Pages that hold something of every metric that the dashboards and rules ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from pipeline.core.observation import Heartbeat
from pipeline.kit.disk import DataDisk
from pipeline.kit.settings_cpanel import CpanelServer, CpanelSettings
from pipeline.kit.telemetry import ComponentMetrics, scrape
from producers.node_routes import SenderCollector
from producers.sender_numbers import SenderNumbers
from producers.sources.cpanel.exporter import Exporter
from producers.sources.cpanel.stats import FLAGS, STAT_TYPES, Account, UserStats
from tests.kit.clock import FakeClock
from tests.kit.probe_page import ProbePage
from tests.kit.prometheus import Pages
from tests.kit.worker import NOW, Worker, fill_tally, golden_worker
from tests.unit.test_nodes_polling import everything


def pages() -> Pages:
    """Return a page per job."""
    return {
        "mailstream-probe": ProbePage().look,
        "mailstream-worker": worker_page(golden_worker()),
        "mailstream-nodes": nodes_page(),
        "mailstream-ingest": ingest_page(),
        "mailstream-cpanel": cpanel_page(),
    }


def worker_page(worker: Worker) -> Callable[[], str]:
    """Return a page on which everything that is counted grows from look to look."""

    def look() -> str:
        fill_tally(worker.tally)
        worker.stats.transaction_s.observe(0.02)
        worker.stats.transactions += 1
        return worker.page()

    return look


def nodes_page() -> Callable[[], str]:
    """Return the page of a node agent that sees every program."""
    registry = CollectorRegistry()
    everything(registry)
    return lambda: scraped(registry)


def ingest_page() -> Callable[[], str]:
    """Return the page of an ingest service to which one sender posts; datagrams wait in a spool."""
    registry, numbers, clock = CollectorRegistry(), SenderNumbers(), FakeClock(NOW)
    told = Heartbeat(
        node="mta1",
        role="zonemta",
        version="1",
        boot_id="a",
        last_seq=9,
        buffered=2,
        dropped_total=1,
    )
    numbers.heartbeat("zonemta", "mta1", told, NOW)
    registry.register(SenderCollector(numbers, clock))
    registry.register(DataDisk(Path(__file__).parent))
    component = ComponentMetrics(registry, "ingest")
    Gauge("mailstream_spool_bytes", "Bytes on disk that wait for Kafka.", registry=registry).set(1)

    def look() -> str:
        component.received(3)
        return scraped(registry)

    return look


def cpanel_page() -> Callable[[], str]:
    """Return the page of a poller of one server with two accounts."""
    server = CpanelServer.model_validate(
        {"name": "web1", "url": "https://web1.example:2087", "token": "t"}
    )
    exporter = Exporter(CpanelSettings(servers=(server,)), FakeClock(NOW))
    stats = UserStats(NOW // 1000)
    for user in ("ann", "bob"):
        account = Account(f"{user}.example", user, f"{user}.example", "root")
        stats.counts[account] = {name: float(number) for number, name in enumerate(STAT_TYPES, 1)}
        stats.flags[account] = dict.fromkeys(FLAGS, user == "bob")
    exporter.show("web1", stats)
    registry = CollectorRegistry()
    registry.register(exporter)
    return lambda: scraped(registry)


def scraped(registry: CollectorRegistry) -> str:
    """Return the page of *registry*."""
    return scrape(registry)[0].decode()
