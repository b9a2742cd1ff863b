"""A real ZoneMTA with our plugin in all of its processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mailstream.ports import free_port
from tests.kit.mta_stores import MTAS, Stores, wait_until_greets
from tests.kit.plugin_package import install_plugin
from tests.kit.processes import ROOT, Program, wait_until

_PACKAGE: Final = MTAS / "zonemta" / "node_modules" / "zone-mta"
ADDRESSES: Final = ("127.0.0.2", "127.0.0.3")
"""Addresses that mail leaves from."""


class ZoneMta(Program):
    """Main process, two receivers and two senders, on free ports of 127.0.0.1."""

    def __init__(
        self,
        folder: Path,
        stores: Stores,
        plugin: Mapping[str, Any],
        *,
        sink: int,
        dns: int,
        log: int,
        api: int | None = None,
    ) -> None:
        """Describe it.

        Args:
            folder: Of its own, for plugins, configuration and log.
            stores: For its queue.
            plugin: Our plugin's configuration.
            sink: Port that it delivers to.
            dns: Port of its name server.
            log: Port that its ``log.remote`` sends to.
            api: Port of its API; None: any free one.
        """
        # It looks for its own plugins and for packages below the working folder.
        (folder / "plugins").symlink_to(_PACKAGE / "plugins")
        install_plugin("zonemta", folder / "node_modules" / "zonemta-mailstream")
        ours = ROOT / "tests" / "kit" / "mtas" / "zonemta"
        self.submission, self.feeder, queue = (free_port("127.0.0.1") for _ in range(3))
        self.api = api or free_port("127.0.0.1")
        everywhere = ["main", "receiver", "sender"]
        pool = [{"address": one, "name": f"out{n}.example.com"} for n, one in enumerate(ADDRESSES)]
        to_sink = {"port": sink, "processes": 1, "connections": 2, "ignoreIPv6": True}
        interface = {"enabled": True, "host": "127.0.0.1", "processes": 1}
        config = {
            "nameservers": [f"127.0.0.1:{dns}"],
            "dns": {"caching": False},
            "log": {"remote": {"protocol": "udp4", "host": "127.0.0.1", "port": log}},
            "mtaSts": {"enabled": False},
            "pluginsPath": str(ours),
            "plugins": {
                "modules/zonemta-mailstream": {"enabled": everywhere, **plugin},
                "policy": {"enabled": "receiver"},
            },
            "dbs": {
                "mongo": f"mongodb://127.0.0.1:{stores.mongodb}/zone-mta",
                "redis": {"host": "127.0.0.1", "port": stores.redis, "db": 3},
                "sender": "zone-mta",
            },
            "smtpInterfaces": {
                "submission": {
                    **interface,
                    "port": self.submission,
                    "authentication": True,
                    "allowInsecureAuth": True,
                },
                "feeder": {**interface, "port": self.feeder, "authentication": False},
            },
            "api": {"port": self.api, "host": "127.0.0.1"},
            "queueServer": {"port": queue, "host": "127.0.0.1"},
            "queue": {"deferTimes": [1000]},
            "pools": {"out": pool},
            "zones": {
                "default": {**to_sink, "pool": "out"},
                "bounces": {**to_sink, "pool": "out"},
            },
        }
        path = folder / "zonemta.json"
        path.write_text(json.dumps(config))
        command: list[str | Path] = ["env", "-C", folder, "node", _PACKAGE / "app.js"]
        command.append(f"--config={path}")
        super().__init__("zonemta", command, folder)

    def start(self) -> None:
        """Start it, and wait until it takes mail."""
        super().start()
        # The main process listens before a receiver is there to take the client over.
        wait_until_greets(self, self.submission, self.feeder)

    def stop_as_systemd_does(self) -> None:
        """Send SIGTERM to every process of it at once, and wait until all are gone."""
        group = self.pid
        os.killpg(group, signal.SIGTERM)
        self._wait(30)
        wait_until(lambda: not _any_left(group), "all of ZoneMTA has ended", within_s=30)


def _any_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
