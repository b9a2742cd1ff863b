"""The broker goes away and comes back while programs are subscribed: nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from functools import partial

import pytest

from consumers.place import Place
from consumers.start import Beginning
from consumers.subscribe import subscribe
from tests.kit.event_log import EventLog, event_log, numbered
from tests.kit.own_broker import OwnBroker
from tests.kit.steps import until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

WITHIN_S = 90.0
STEP = 200


class Seen:
    """What one subscription brought."""

    def __init__(self) -> None:
        self.ids: set[str | None] = set()
        self.places: Counter[Place] = Counter()

    async def follow(self, log: EventLog, group: str | None) -> None:
        """Take all events there are."""
        events = subscribe(log.settings, log.bootstrap, group=group, start=Beginning())
        async with aclosing(events):
            async for event, place in events:
                self.ids.add(event.event_id)
                self.places[place] += 1


def test_a_broker_that_is_stopped_killed_and_started_loses_a_subscriber_nothing(
    kafka: OwnBroker,
) -> None:
    async def follow(log: EventLog) -> tuple[Seen, Seen]:
        alone, member = Seen(), Seen()
        tasks = [
            asyncio.create_task(alone.follow(log, None)),
            asyncio.create_task(member.follow(log, f"{log.settings.topics.prefix}g")),
        ]
        for step, end in enumerate((kafka.stop, kafka.kill, None)):
            await log.write(numbered(step * STEP, STEP))
            wanted: set[str | None] = {f"e{number}" for number in range((step + 1) * STEP)}
            await until(partial(wanted_by_both, wanted, alone, member), WITHIN_S)
            if end is not None:
                await asyncio.to_thread(end)
                await asyncio.to_thread(kafka.start)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return alone, member

    def wanted_by_both(wanted: set[str | None], *both: Seen) -> bool:
        return all(wanted <= one.ids for one in both)

    with event_log(kafka.bootstrap) as log:
        alone, member = asyncio.run(follow(log))
    assert alone.ids == member.ids
    assert set(alone.places.values()) == {1}
    assert alone.places.keys() == member.places.keys()
