"""The node agent as a process, and what it wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.kit.kafka_read import Read, read_topics
from tests.kit.processes import Service, mailstream, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand


class NodeAgent(Service):
    """One ``mailstream produce nodes``."""

    def __init__(self, st: Stand) -> None:
        super().__init__("nodes", mailstream("produce", "nodes", "--config", st.config), st.folder)

    def page(self) -> Page:
        """Return its metrics."""
        answer = self.get("/metrics")
        assert answer is not None
        assert answer[0] == 200
        return Page([answer[1]])

    def wait_for_up(self, up: int, down: int = 0) -> Page:
        """Wait until so many targets are up and down; return the page."""

        def told() -> Page | None:
            assert self.running, self.said()
            if self.get("/metrics") is None:
                return None
            page = self.page()
            values = page.values("mailstream_up")
            return page if (values.count(1), values.count(0)) == (up, down) else None

        return wait_until(told, f"{up} targets are up and {down} down", within_s=40)


@contextmanager
def agent_of(st: Stand) -> Iterator[NodeAgent]:
    """Run an agent until the block ends."""
    agent = NodeAgent(st)
    agent.start()
    try:
        wait_until(lambda: agent.get("/metrics"), "it answers", within_s=40)
        yield agent
    finally:
        agent.end()


def sections(zonemta: Sequence[Mapping[str, Any]] = (), **nodes: Any) -> dict[str, Any]:
    """Return the configuration of an agent that looks at nothing but what is given."""
    found: dict[str, Any] = {
        "nodes": {"listen": "127.0.0.1:0", "name": "host1", "system": False, **nodes}
    }
    return found | ({"zonemta": {"nodes": list(zonemta)}} if zonemta else {})


def node_records(st: Stand) -> list[Read]:
    """Return what the topic of nodes holds."""
    return asyncio.run(read_topics(st.bootstrap, [st.topic("raw.node")], st.partitions))


def values_of(found: Sequence[Read], what: str) -> list[Mapping[str, float]]:
    """Return the numbers of the observations of *what*."""
    decoded = [json.loads(one.value) for one in found if one.header("feed") == "observation"]
    return [one["values"] for one in decoded if one["what"] == what]
