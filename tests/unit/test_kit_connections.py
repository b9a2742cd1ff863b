"""A connection that closes while a request is written is lost, like any other."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from pipeline.kit.connections import heed_closed_connections


def test_a_write_to_a_connection_that_was_just_closed_is_a_connection_error() -> None:
    async def scenario(port: int) -> None:
        heed_closed_connections()
        heed_closed_connections()
        connection: Any = AIOKafkaConnection("127.0.0.1", port)
        connection._versions = {MetadataRequest.API_KEY: (0, 5)}
        connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
        connection._read_task = asyncio.create_task(asyncio.sleep(60))  # it has not noticed yet
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(KafkaConnectionError):
            connection.send(MetadataRequest([]))
        assert not connection.connected()

    with socket.create_server(("127.0.0.1", 0)) as server:
        uvloop.run(scenario(server.getsockname()[1]))
