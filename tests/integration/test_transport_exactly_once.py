"""The engine on a real broker: each id once, on the events and in the sums."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.kit.engine import Place, working
from tests.kit.steps import until

pytestmark = pytest.mark.integration


def test_every_id_is_copied_and_counted_once(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        ids = [f"{number % 7}-{number}" for number in range(5000)]
        async with working(place) as worker:
            await until(lambda: worker.ready)
            await place.write(ids)
            await place.write(ids[:500])
            await until(lambda: worker.fold.total == len(ids))
            assert worker.stats.transactions > 0
        assert Counter(await place.read("events")) == Counter(ids)

    asyncio.run(scenario())
