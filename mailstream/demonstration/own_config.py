"""The configuration of a demo that nobody configured: every source is on, with data of its own."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

import yaml

from mailstream.ports import free_port, is_free
from mailstream.running.folder_lock import folder_lock
from mailstream.simulation.world import NODES
from pipeline.kit.settings import Settings
from pipeline.kit.settings_nodes import NodesSettings
from pipeline.kit.settings_view import ViewSettings
from pipeline.kit.values import Address

HOST: Final = "127.0.0.1"
SERVER: Final = "web1"
INTERVAL: Final = "10s"
"""How often simulated servers are polled: a show is short."""


def write_own_config(folder: Path) -> Path:
    """Write the configuration into *folder* and return where it is.

    Listeners have their usual ports if those are free, else any.

    Raises:
        ConfigError: Another demo runs on *folder*, or the folder cannot be used.
    """
    path = folder / "mailstream.yaml"
    with folder_lock(folder / "data"):  # parts of another demo may read the file again
        path.write_text(yaml.safe_dump(sections(free_port(HOST)), sort_keys=False))
    return path


def sections(port: int) -> dict[str, Any]:
    """Return the configuration; simulated servers answer at *port*."""
    usual, url = Settings(), f"http://{HOST}:{port}"
    server = {
        "name": SERVER,
        "url": url,
        "token": "simulated-token-of-the-demo",
        "interval": INTERVAL,
        "sending_ip": "203.0.113.80",
    }
    return {
        "data_dir": "data",
        "ingest": {"listen": _place(usual.ingest.listen)},
        "metrics": {"listen": _place(usual.metrics.listen)},
        "gelf": {
            "listen": _place(usual.gelf.listen),
            "udp": _place(usual.gelf.udp, socket.SOCK_DGRAM),
            "tcp": _place(usual.gelf.tcp),
        },
        "view": {"listen": _place(ViewSettings().listen)},
        "cpanel": {"listen": _place(usual.cpanel.listen), "servers": [server]},
        "nodes": {"listen": _place(NodesSettings().listen)},
        "zonemta": {
            "nodes": [
                {"name": node, "url": f"{url}/{node}", "interval": INTERVAL} for node in NODES
            ]
        },
    }


def _place(usual: Address | None, kind: socket.SocketKind = socket.SOCK_STREAM) -> str:
    """Return the usual address if its port is free, else one with any port."""
    if usual is not None and is_free(usual.host, usual.port, kind):
        return str(usual)
    return f"{HOST}:0"
