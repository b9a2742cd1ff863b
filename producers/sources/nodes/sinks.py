"""Where observations and heartbeats go: to Kafka, or to an ingest service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import httpx
import msgspec

from pipeline.core.errors import TransientError
from pipeline.core.observation import OBSERVATION, Heartbeat, encode
from pipeline.kit.clock import Clock
from pipeline.kit.settings import SENDERS, TopicSettings
from pipeline.kit.settings_nodes import PostTo
from producers.api_keys import KEY_HEADER, SOURCE_HEADER
from producers.appender import Appender
from producers.http_api import client_tls
from producers.node_records import NodeRecords
from producers.node_routes import METRICS, NODES
from producers.posting import Sender
from producers.sender_numbers import BOOT_HEADER, NUMBERS_HEADER, Numbers
from producers.sources.nodes.outbox import Held, RefusedError, TooManyError

SOURCE: Final = SENDERS[-1]
_TIMEOUT_S: Final = 30.0
_FOR_GOOD: Final = (400, 415)
_TOO_LARGE: Final = 413
_ACCEPTED: Final = 202


class KafkaSink:
    """Writes to ``raw.node``."""

    def __init__(
        self, appender: Appender, topics: TopicSettings, origin: str, clock: Clock
    ) -> None:
        """Write through *appender*, as *origin*."""
        self._appender = appender
        self._topics = topics
        self._sender = Sender(SOURCE, origin)
        self._clock = clock

    async def send(self, batch: Sequence[Held], numbers: Numbers) -> int:  # noqa: ARG002  what every sink takes
        """Write observations; none is refused.

        Raises:
            TransientError: Kafka did not acknowledge them.
        """
        records = self._records()
        for held in batch:
            records.append(held.node, held.value, OBSERVATION)
        await self._appender.append(records.outputs)
        return 0

    async def tell(self, heartbeat: Heartbeat) -> None:
        """Write a heartbeat.

        Raises:
            TransientError: Kafka did not acknowledge it.
        """
        records = self._records()
        records.add(heartbeat)
        await self._appender.append(records.outputs)

    def _records(self) -> NodeRecords:
        topics = self._topics
        return NodeRecords(self._sender, topics.names, topics.partitions, self._clock.now_ms())


class _Rejected(msgspec.Struct, gc=False):
    rejected: list[object]


class IngestSink:
    """Posts to an ingest service."""

    name = "ingest-client"

    def __init__(self, post_to: PostTo) -> None:
        """Post to *post_to*.

        Raises:
            ConfigError: Its ``cafile`` cannot be used.
        """
        headers = {SOURCE_HEADER: SOURCE, "Content-Type": "application/json"}
        if post_to.key is not None:
            headers[KEY_HEADER] = post_to.key.get_secret_value()
        self._client = httpx.AsyncClient(
            base_url=post_to.url,
            headers=headers,
            verify=client_tls(post_to.url, post_to.cafile),
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    async def send(self, batch: Sequence[Held], numbers: Numbers) -> int:
        """Post observations; return how many were refused.

        Raises:
            TransientError: The service is away, or refuses the key.
            RefusedError: It will never take them.
            TooManyError: It wants fewer at once.
        """
        body = b'{"observations":[' + b",".join(held.value for held in batch) + b"]}"
        headers = {
            BOOT_HEADER: numbers.boot_id,
            NUMBERS_HEADER: f"{numbers.first}-{numbers.last}",
        }
        answer = await self._post(METRICS, body, headers)
        try:
            return len(msgspec.json.decode(answer, type=_Rejected).rejected)
        except msgspec.MsgspecError as exc:
            raise TransientError("the answer is not that of an ingest service") from exc

    async def tell(self, heartbeat: Heartbeat) -> None:
        """Post a heartbeat.

        Raises:
            TransientError: The service is away, or refuses the key.
            RefusedError: It will never take it.
            TooManyError: It takes nothing that large.
        """
        await self._post(NODES, encode(heartbeat), {})

    async def start(self) -> None:
        """Begin nothing: connections are made when they are needed."""

    async def run(self) -> None:
        """Wait until cancelled; the outbox does the work."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        try:
            answer = await self._client.post(path, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise TransientError(f"{path}: {type(exc).__name__}: {exc}") from exc
        if answer.status_code == _ACCEPTED:
            return answer.content
        why = f"{path} is answered with status {answer.status_code}"
        if answer.status_code in _FOR_GOOD:
            raise RefusedError(why)
        if answer.status_code == _TOO_LARGE:
            raise TooManyError(why)
        raise TransientError(why, _retry_after_s(answer.headers.get("Retry-After", "")))


def _retry_after_s(text: str) -> float | None:
    return min(float(text), 60.0) if text.isascii() and text.isdecimal() else None
