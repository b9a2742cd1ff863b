"""Ports for processes that must be told theirs before they start."""

from __future__ import annotations

import socket

import pytest

from mailstream.ports import candidates, free_port, is_free

HOST = "127.0.0.1"


def test_a_port_that_someone_listens_on_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(HOST, port)
    assert is_free(HOST, port)


def test_a_free_port_is_free() -> None:
    assert is_free(HOST, free_port(HOST))


@pytest.mark.parametrize("start", [10_200, 32_768, 49_152])
def test_ports_that_outgoing_connections_use_are_left_out(start: int) -> None:
    assert candidates(start) == range(10_000, start)


@pytest.mark.parametrize("start", [1024, 10_000, 10_199])
def test_where_outgoing_connections_use_nearly_all_ports_any_will_do(start: int) -> None:
    assert candidates(start) == range(10_000, 65_536)
