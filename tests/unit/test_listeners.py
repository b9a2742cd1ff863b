"""Addresses of the parts, checked before any part is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mailstream.running.listeners import check_listeners, worker_addresses
from pipeline.core.errors import ConfigError
from pipeline.kit.settings import IngestSettings, MetricsSettings, Settings
from pipeline.kit.settings_gelf import GelfSettings
from pipeline.kit.values import Address


def settings(
    ingest: Address, metrics: Address, udp: Address | None = None, tcp: Address | None = None
) -> Settings:
    return Settings(
        gelf=GelfSettings(listen=ANY, udp=udp, tcp=tcp),
        data_dir=Path("unused"),
        ingest=IngestSettings(listen=ingest),
        metrics=MetricsSettings(listen=metrics),
        view=None,
    )


ANY = Address("127.0.0.1", 0)


def test_the_first_worker_has_the_metrics_port_and_the_others_lie_ten_and_more_above() -> None:
    found = worker_addresses(settings(ANY, Address("127.0.0.1", 9781)), 3)
    assert {name: address.port for name, address in found.items()} == {
        "worker-1": 9781,
        "worker-2": 9793,
        "worker-3": 9794,
    }


def test_any_free_port_is_any_free_port_for_all_workers() -> None:
    assert set(worker_addresses(settings(ANY, ANY), 3).values()) == {ANY}


def test_free_addresses_pass_and_are_free_afterwards() -> None:
    check_listeners(settings(ANY, ANY), 2)


def test_a_taken_port_is_named_with_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as refused:
            check_listeners(settings(ANY, Address("127.0.0.1", port)), 1)
    [sentence] = refused.value.mistakes
    assert sentence == (
        f"metrics.listen (worker-1): 127.0.0.1:{port} is taken: stop what listens there, or "
        "choose another address"
    )


def test_the_ports_of_gelf_are_tried_too_and_udp_apart_from_tcp() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.create_server(("127.0.0.1", 0)) as connections,
    ):
        datagrams.bind(("127.0.0.1", 0))
        udp = Address(*datagrams.getsockname())
        tcp = Address(*connections.getsockname())
        with pytest.raises(ConfigError) as refused:
            check_listeners(settings(ANY, ANY, udp, tcp), 1)
    first, second = refused.value.mistakes
    assert first.startswith(f"gelf.tcp: {tcp} is taken")
    assert second.startswith(f"gelf.udp: {udp} is taken")
    check_listeners(settings(ANY, ANY, udp, udp), 1)


def test_two_parts_on_one_address_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    both = Address("127.0.0.1", port)
    with pytest.raises(ConfigError, match=f"metrics.listen .*{port} is taken"):
        check_listeners(settings(both, both), 1)


def test_a_foreign_address_and_a_port_beyond_all_are_refused_together() -> None:
    wrong = settings(Address("192.0.2.1", 9780), Address("127.0.0.1", 65_530))
    with pytest.raises(ConfigError) as refused:
        check_listeners(wrong, 2)
    ingest, worker = refused.value.mistakes
    assert ingest == "ingest.listen: 192.0.2.1:9780 is no address of this machine"
    assert worker.startswith("metrics.listen (worker-2): 127.0.0.1:65542 is beyond")
