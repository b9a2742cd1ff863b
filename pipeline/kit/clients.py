"""What aiokafka's consumers do not do themselves: end while Kafka is away, heed its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import NoError, NotCoordinatorForGroupError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest

from pipeline.kit.closing import close_within

STOP_S: Final = 3.0
WAIT_MS: Final = 100
"""How long one who reads to the end waits for records."""


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close the connections, within seconds.

    aiokafka's own ``stop`` raises the cancellation of its fetches where Kafka does not answer,
    and leaves the connections open then.
    """
    await close_within(_stopped(consumer), 3 * STOP_S)


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    if not await close_within(consumer.stop(), STOP_S):
        await close_within(consumer._client.close(), STOP_S)


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> frozenset[int]:
    """Return the numbers of the partitions of *topic*; none if there is no such topic.

    Of all topics' metadata: to ask for one by name may create it, where brokers auto-create.
    """
    cluster = await consumer._client.fetch_all_metadata()
    return frozenset(cluster.partitions_for_topic(topic) or ())


async def is_torn(consumer: AIOKafkaConsumer, partition: TopicPartition, start: int) -> bool:
    """Tell whether *start* is the first record of a partition whose earlier records were deleted."""
    if (await consumer.beginning_offsets([partition]))[partition] == 0:
        return False
    first = (await consumer.offsets_for_times({partition: 0}))[partition]
    return first is None or first.offset >= start


async def records_until(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[list[Any]]:
    """Yield the records of the assigned partitions before *ends*, as they are fetched.

    Behind an end a transaction may be there in part.
    """
    reading = set(ends)
    while True:
        reading -= {one for one in reading if await consumer.position(one) >= ends[one]}
        if not reading:
            return
        for partition, records in (await consumer.getmany(timeout_ms=WAIT_MS)).items():
            yield [record for record in records if record.offset < ends[partition]]


def heed_group_errors(coordinator: Any) -> None:
    """Raise what an OffsetFetch answer says about the whole group, so that aiokafka asks again.

    Since version 2 of that answer a coordinator that is loading, or is none any more, names no
    partition and puts its error beside them.  aiokafka 0.14 reads the partitions alone: nothing
    was ever committed, it concludes, and the log would be read from its beginning.
    """
    send = coordinator._send_req

    async def heeding(request: Any) -> Any:
        response = await send(request)
        if isinstance(request, OffsetFetchRequest):
            error = for_code(getattr(response, "error_code", 0))
            if error is NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
            if error is not NoError:
                raise error
        return response

    coordinator._send_req = heeding
