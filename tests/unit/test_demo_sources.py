"""What the demo sends and serves: its own configuration, datagrams, servers to be polled."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import zlib
from itertools import islice
from pathlib import Path

import httpx
from pydantic import SecretStr

from mailstream.demonstration.datagrams import LoginSender, takes_logins
from mailstream.demonstration.own_config import write_own_config
from mailstream.demonstration.servers import simulated_servers
from mailstream.ports import free_port, is_free
from mailstream.run import Running
from mailstream.running.console import LineConsole
from mailstream.running.watch import Probe
from mailstream.simulation.logins import LoginPlan, logins
from pipeline.kit.clock import SystemClock
from pipeline.kit.settings import Settings
from pipeline.kit.settings_cpanel import CpanelServer, CpanelSettings
from pipeline.kit.settings_gelf import GelfSettings
from pipeline.kit.settings_load import load
from pipeline.kit.settings_nodes import ZonemtaNode, ZonemtaSettings
from pipeline.kit.values import Address
from producers.registry import configured

TOKEN = "0123456789abcdef"


def test_the_demo_s_own_configuration_has_every_source_on(tmp_path: Path) -> None:
    settings = load(write_own_config(tmp_path), {})
    assert [one.name for one in configured(settings)] == ["ingest", "cpanel", "gelf", "nodes"]
    assert settings.zonemta is not None
    assert len(settings.zonemta.nodes) == 3
    assert takes_logins(settings)


def test_a_port_of_datagrams_that_is_taken_is_not_free() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert not is_free("127.0.0.1", port, socket.SOCK_DGRAM)
        assert is_free("127.0.0.1", port)


def test_each_login_is_a_datagram_and_none_is_sent_before_its_time() -> None:
    async def scene(settings: Settings) -> LoginSender:
        probe, clock = Probe(settings), SystemClock()
        running = Running(
            settings=settings,
            console=LineConsole(io.StringIO()),
            probe=probe,
            ingest_url=lambda: None,
            producer_url=lambda _name: None,
            metrics_urls=(),
            note=lambda _note: None,
        )
        sender = LoginSender(running, clock)
        await sender.send_all(islice(logins(LoginPlan(1, clock.now_ms(), rate=200)), 20))
        await probe.close()
        return sender

    with socket.socket(type=socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        udp = Address("127.0.0.1", listener.getsockname()[1])
        settings = Settings(data_dir=Path("unused"), gelf=GelfSettings(udp=udp))
        sender = asyncio.run(scene(settings))
        messages = [json.loads(zlib.decompress(listener.recv(65_535))) for _ in range(20)]
    assert sender.sent == 20
    assert all(message["_component"] == "wildduck" for message in messages)
    assert max(message["timestamp"] for message in messages) * 1000 <= SystemClock().now_ms()


def polled(url: str) -> Settings:
    token = SecretStr(TOKEN)
    real = CpanelServer(name="real", url="https://web.example:2087", token=token)
    return Settings(
        data_dir=Path("unused"),
        cpanel=CpanelSettings(servers=(CpanelServer(name="web1", url=url, token=token), real)),
        zonemta=ZonemtaSettings(nodes=(ZonemtaNode(name="mta1", url=f"{url}/mta1"),)),
    )


def test_servers_on_loopback_are_simulated_with_the_token_of_the_configuration() -> None:
    async def scene() -> None:
        url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        served = simulated_servers(polled(url), 1, 50.0, 60_000, SystemClock())
        async with served as simulated, httpx.AsyncClient(base_url=url) as client:
            assert simulated.whm == ["web1"]
            assert simulated.zonemta == ["mta1"]
            search = "/json-api/emailtrack_search?success=1"
            told = await client.get(search, headers={"Authorization": f"whm root:{TOKEN}"})
            assert told.json()["data"]["records"]
            assert (await client.get(search)).status_code == 403
            assert (await client.get("/mta1/counter/zone/")).json()["active"]["rows"] == 0
            assert "zonemta_queue_size" in (await client.get("/mta1/metrics")).text
            assert (await client.get("/mta2/metrics")).status_code == 404

    asyncio.run(scene())


def test_where_something_real_listens_nothing_is_simulated() -> None:
    async def scene(url: str) -> None:
        served = simulated_servers(polled(url), 1, 50.0, 60_000, SystemClock())
        async with served as simulated:
            assert simulated.whm == []
            assert simulated.zonemta == []

    with socket.create_server(("127.0.0.1", 0)) as real:
        asyncio.run(scene(f"http://127.0.0.1:{real.getsockname()[1]}"))
