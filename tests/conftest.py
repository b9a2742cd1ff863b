"""Fixtures that all tests share."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.broker import session_broker
from tests.kit.postgres import Database, PostgresServer, postgres_server

# How fast a machine is must not decide a law: laws take as long as they take.
settings.register_profile("mailstream", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mailstream")

# What a shell starts in the background ignores Ctrl-C, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Return the bootstrap address of the session's broker; topics and groups are by uuid."""
    with session_broker() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return the session's PostgreSQL server."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """Return an empty database."""
    with postgres.database() as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def _on_this_machine_only() -> Iterator[None]:
    """Refuse connections to other machines: a test proves nothing about a network's weather."""
    if "KAFKA_BOOTSTRAP" in os.environ:  # which may well be another machine
        yield
        return
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            host = ipaddress.ip_address(address[0].partition("%")[0] or "127.0.0.1")
            assert host.is_loopback or host.is_unspecified, f"a test connects to {host}"
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        yield
