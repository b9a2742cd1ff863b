"""Events whose panes of all lengths are over when they are written."""

from __future__ import annotations

import asyncio

from tests.kit.oracle import MINUTE, event_time
from tests.kit.raw_log import RawWriter, raw_record
from tests.kit.stand import Stand, now_ms
from tests.kit.traffic import Shape, Varied

AGE = 20 * MINUTE


def write_old(st: Stand, events: int, seed: int = 5) -> int:
    """Write *events* events or a few less; return the newest possible time of theirs."""

    async def write() -> int:
        now = now_ms()
        shape = Shape(users=500, ips=20)
        traffic = Varied(seed=seed, now_ms=now - AGE, spread_ms=30 * MINUTE, shape=shape)
        made = (traffic.zonemta() for _ in range(events))
        # Without those from the future, which count now.
        old = [one for one in made if event_time(one["timestamp"]) <= now - AGE]
        for number, event in enumerate(old):
            event.setdefault("event_id", f"{event['queue_id']}.{event['seq']}")
            event["event_id"] = f"{seed}.{number}.{event['event_id']}"
        async with RawWriter(st.bootstrap, st.raw[0], st.partitions) as writer:
            await writer.write(raw_record(event, "zonemta", now) for event in old)
        return now - AGE

    return asyncio.run(write())
