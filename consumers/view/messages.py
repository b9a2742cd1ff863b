"""One message of the queue, as the API of the ZoneMTA that has it tells it.

What a person could be known by is taken out: headers, the subject, recipients, addresses in replies.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import httpx
import orjson

from consumers.view.answers import RefusedError
from pipeline.core.errors import ConfigError
from pipeline.kit.settings_nodes import ZonemtaNode

ID: Final = r"[0-9a-fA-F]{10,32}(\.[0-9a-fA-F]{3})?"
"""A queue id of ZoneMTA, with or without the number of a delivery."""
MAX_BYTES: Final = 4 << 20
MOST_DELIVERIES: Final = 1_000
ANSWER_S: Final = 10.0

_ID: Final = re.compile(ID)
_PLAIN: Final = ("id", "interface", "time", "created", "bodySize", "sendingZone", "transtype")
"""What is told of a message as it is; everything else but the below is left out."""
_CLIENT: Final = ("origin", "originhost", "transhost")
_SENDER: Final = ("from", "user")


class Rules(Protocol):
    """The privacy rules of the installation."""

    def address(self, text: str) -> str:
        """Return ``<hash>@domain``."""

    def sender(self, text: str) -> str:
        """Return what is shown of a sender."""

    def client(self, text: str) -> str:
        """Return what is shown of a client's address."""

    def redact(self, reply: str) -> str:
        """Return a reply with every address in it hashed."""


class Messages:
    """Asks the nodes that are configured."""

    def __init__(self, nodes: Sequence[ZonemtaNode], rules: Rules) -> None:
        """Ask *nodes*.

        Raises:
            ConfigError: A ``cafile`` cannot be used.
        """
        self._nodes = tuple(nodes)
        self._rules = rules
        self._clients = {node.name: _client(node) for node in self._nodes}

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()

    async def look_up(self, queue_id: str, likely: str | None) -> dict[str, Any]:
        """Return what the queue holds of a message.

        Args:
            queue_id: As a stranger gave it.
            likely: The node that the id was last heard of from.

        Raises:
            RefusedError: It is no id, nobody has it, or who might have it does not answer.
        """
        if not _ID.fullmatch(queue_id):
            raise RefusedError(
                400, "invalid_parameter", "queue_id: expected 10 to 32 hexadecimal digits"
            )
        if not self._nodes:
            raise RefusedError(404, "no_nodes", "No ZoneMTA is configured: see zonemta.nodes.")
        asked: set[str] = set()
        silent = []
        for node in sorted(self._nodes, key=lambda node: node.name != likely):
            if node.cluster in asked:
                continue  # they share one queue
            try:
                found = await self._ask(node, queue_id.partition(".")[0])
            except (httpx.HTTPError, ValueError) as exc:
                silent.append(f"{node.name} ({type(exc).__name__})")
                continue
            asked.add(node.cluster)
            if found is not None:
                return {"queue_id": queue_id, "node": node.name, **self._shown(found)}
        left = {node.cluster for node in self._nodes} - asked
        if left:
            raise RefusedError(
                502, "node_unavailable", f"No usable answer from {', '.join(silent)}."
            )
        raise RefusedError(404, "unknown_message", "No queue holds it: it has left, or never came.")

    async def _ask(self, node: ZonemtaNode, queue_id: str) -> Mapping[str, Any] | None:
        async with self._clients[node.name].stream(
            "GET", f"{node.url}/message/{queue_id}"
        ) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError("the answer is too large")
        found = orjson.loads(body)
        if not isinstance(found, dict) or not isinstance(found.get("messages"), list):
            raise ValueError("the answer has another shape")  # noqa: TRY004  as one that is no JSON
        return found

    def _shown(self, found: Mapping[str, Any]) -> dict[str, Any]:
        meta = found.get("meta")
        deliveries = [one for one in found["messages"] if isinstance(one, dict)]
        return {
            "message": dict(self._envelope(meta if isinstance(meta, dict) else {})),
            "deliveries": [dict(self._delivery(one)) for one in deliveries[:MOST_DELIVERIES]],
        }

    def _envelope(self, meta: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name in _PLAIN:
            if isinstance(meta.get(name), str | int | float):
                yield name, meta[name]
        for names, rule in ((_CLIENT, self._rules.client), (_SENDER, self._rules.sender)):
            for name in names:
                if isinstance(meta.get(name), str):
                    yield name, rule(meta[name])
        to = meta.get("to")
        recipients = to if isinstance(to, list) else [to]
        yield "to", [self._rules.address(one) for one in recipients if isinstance(one, str) and one]

    def _delivery(self, one: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name in ("id", "seq", "zone", "status"):
            if isinstance(one.get(name), str):
                yield name, one[name]
        if isinstance(one.get("recipient"), str):
            yield "recipient", self._rules.address(one["recipient"])
        deferred = one.get("deferred")
        if isinstance(deferred, dict):
            times = {name: deferred.get(name) for name in ("count", "first", "last", "next")}
            told: dict[str, Any] = {
                name: value for name, value in times.items() if isinstance(value, str | int | float)
            }
            if isinstance(deferred.get("response"), str):
                told["response"] = self._rules.redact(deferred["response"])
            yield "deferred", told


def _client(node: ZonemtaNode) -> httpx.AsyncClient:
    login = None
    if node.username is not None and node.password is not None:
        login = httpx.BasicAuth(node.username, node.password.get_secret_value())
    try:
        trust = ssl.create_default_context(cafile=node.cafile)
    except OSError as exc:
        raise ConfigError([f"zonemta.nodes: {node.cafile} cannot be used: {exc}"]) from exc
    return httpx.AsyncClient(
        auth=login,
        timeout=ANSWER_S,
        trust_env=False,  # whoever is asked learns the id of a message
        verify=trust,
        limits=httpx.Limits(max_connections=10),
    )
