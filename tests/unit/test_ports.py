"""Ports for processes that must be told theirs before they start."""

from __future__ import annotations

import socket
from pathlib import Path

from mailstream.ports import free_port, is_free

HOST = "127.0.0.1"


def test_a_port_that_someone_listens_on_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(HOST, port)
    assert is_free(HOST, port)


def test_a_free_port_is_free_and_out_of_reach_of_outgoing_connections() -> None:
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    ports = [free_port(HOST) for _ in range(20)]
    assert all(is_free(HOST, port) for port in ports)
    assert max(ports) < int(first)
