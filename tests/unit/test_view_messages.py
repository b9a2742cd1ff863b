"""Looking a message up at its node: what is asked, what is told, and what stays untold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from consumers.view.answers import RefusedError
from consumers.view.messages import Messages
from pipeline.kit.settings_nodes import ZonemtaNode
from producers.privacy import Privacy
from tests.kit.http_server import serving

ID = "18c9aa0012f0004f3a"
PRIVACY = Privacy(b"key")
MESSAGE: dict[str, Any] = {
    "meta": {
        "id": ID,
        "interface": "feeder",
        "from": "ann@example.com",
        "to": ["joe@example.net", "sue@example.net"],
        "origin": "192.0.2.9",
        "user": "ann",
        "time": 1_700_000_000_000,
        "bodySize": 1234,
        "subject": "a secret",
        "headers": {"lines": [{"key": "subject", "line": "Subject: a secret"}]},
        "parsedEnvelope": {"to": ["joe@example.net"]},
        "dkim": {"keys": [{"privateKey": "a secret"}]},
    },
    "messages": [
        {
            "id": ID,
            "seq": "001",
            "zone": "default",
            "recipient": "joe@example.net",
            "status": "DEFERRED",
            "deferred": {
                "count": 2,
                "first": 1_700_000_000_000,
                "next": 1_700_000_300_000,
                "response": "450 4.2.1 <joe@example.net> is over quota",
                "log": {"text": "a secret"},
            },
        },
        5,
    ],
}


class Node:
    """A stand-in for ZoneMTA's API."""

    def __init__(self, held: dict[str, Any]) -> None:
        self.held, self.asked = held, list[str]()

    async def message(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        found = self.held.get(request.match_info["id"])
        if isinstance(found, web.Response):
            return found
        if found is None:
            return web.json_response({"error": "not found"}, status=404)
        return web.json_response(found)


@contextmanager
def nodes(*held: dict[str, Any]) -> Iterator[tuple[list[Node], list[str]]]:
    made = [Node(one) for one in held]
    urls: list[str] = []

    def serve(left: list[Node]) -> Iterator[None]:
        if not left:
            yield
            return
        app = web.Application()
        app.router.add_get("/message/{id}", left[0].message)
        with serving(app) as server:
            urls.append(server.url)
            yield from serve(left[1:])

    with contextmanager(serve)(made):
        yield made, urls


def look_up(given: list[ZonemtaNode], queue_id: str, likely: str | None = None) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        messages = Messages(given, PRIVACY)
        try:
            return await messages.look_up(queue_id, likely)
        finally:
            await messages.close()

    return asyncio.run(ask())


def refusal(given: list[ZonemtaNode], queue_id: str) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        look_up(given, queue_id)
    return refused.value


def test_a_message_is_told_without_what_would_name_people() -> None:
    with nodes({ID: MESSAGE}) as (_, (url,)):
        found = look_up([ZonemtaNode(name="mta1", url=url)], ID)
    joe, sue = PRIVACY.address("joe@example.net"), PRIVACY.address("sue@example.net")
    assert found == {
        "queue_id": ID,
        "node": "mta1",
        "message": {
            "id": ID,
            "interface": "feeder",
            "time": 1_700_000_000_000,
            "bodySize": 1234,
            "origin": "192.0.2.9",
            "from": "ann@example.com",
            "user": "ann",
            "to": [joe, sue],
        },
        "deliveries": [
            {
                "id": ID,
                "seq": "001",
                "zone": "default",
                "status": "DEFERRED",
                "recipient": joe,
                "deferred": {
                    "count": 2,
                    "first": 1_700_000_000_000,
                    "next": 1_700_000_300_000,
                    "response": f"450 4.2.1 <{joe}> is over quota",
                },
            }
        ],
    }
    assert "secret" not in str(found)
    assert "joe" not in str(found)


def test_the_likely_node_is_asked_first_and_a_cluster_once() -> None:
    with nodes({}, {}, {ID: MESSAGE}) as (asked, urls):
        given = [
            ZonemtaNode(name="a1", cluster="a", url=urls[0]),
            ZonemtaNode(name="a2", cluster="a", url=urls[1]),
            ZonemtaNode(name="b1", cluster="b", url=urls[2]),
        ]
        assert look_up(given, f"{ID}.001")["node"] == "b1"
        assert [len(one.asked) for one in asked] == [1, 0, 1]
        assert look_up(given, ID, "b1")["node"] == "b1"
        assert [len(one.asked) for one in asked] == [1, 0, 2]
        assert {path for one in asked for path in one.asked} == {f"/message/{ID}"}


@pytest.mark.parametrize(
    "queue_id",
    ["", "short", "../../queue", f"{ID}/../x", f"{ID}?a=b", "g" * 18, f"{ID}\n", "1" * 33],
)
def test_what_is_no_id_is_asked_of_nobody(queue_id: str) -> None:
    with nodes({}) as ((node,), (url,)):
        refused = refusal([ZonemtaNode(name="mta1", url=url)], queue_id)
        assert (refused.status, refused.error) == (400, "invalid_parameter")
        assert node.asked == []


def test_a_message_that_nobody_has_is_told_from_a_node_that_does_not_answer() -> None:
    assert (refusal([], ID).status, refusal([], ID).error) == (404, "no_nodes")
    with nodes({}, {}) as (_, urls):
        gone = "http://127.0.0.1:1"
        there = ZonemtaNode(name="mta1", url=urls[0])
        refused = refusal([there], ID)
        assert (refused.status, refused.error) == (404, "unknown_message")
        away = ZonemtaNode(name="mta2", cluster="other", url=gone)
        refused = refusal([there, away], ID)
        assert (refused.status, refused.error) == (502, "node_unavailable")
        assert "mta2 (ConnectError)" in refused.detail
        # Another node of the same cluster knows the same queue.
        same = ZonemtaNode(name="mta0", url=gone)
        assert refusal([same, there], ID).error == "unknown_message"


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="no JSON"),
        web.Response(text="[]", content_type="application/json"),
        web.Response(text="{}", content_type="application/json"),
        web.Response(status=500),
        web.Response(body=b"[" * (5 << 20)),
        web.Response(body=b'{"messages":[' + b"[" * 100_000),
    ],
    ids=["no JSON", "list", "empty", "error", "huge", "deep"],
)
def test_an_unusable_answer_is_no_answer(answer: web.Response) -> None:
    with nodes({ID: answer}) as (_, (url,)):
        refused = refusal([ZonemtaNode(name="mta1", url=url)], ID)
        assert (refused.status, refused.error) == (502, "node_unavailable")


def test_a_hostile_message_is_told_as_far_as_it_has_the_shape() -> None:
    hostile = {
        "meta": {"id": ["x"], "to": {"a": 1}, "from": 5, "time": None},
        "messages": [{}, {"seq": 1, "recipient": ["x"], "deferred": {"count": [1], "response": 5}}],
    }
    with nodes({ID: hostile}) as (_, (url,)):
        found = look_up([ZonemtaNode(name="mta1", url=url)], ID)
    assert found["message"] == {"to": []}
    assert found["deliveries"] == [{}, {"deferred": {}}]
