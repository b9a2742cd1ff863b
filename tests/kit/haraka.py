"""A real Haraka with our plugin."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mailstream.ports import free_port
from tests.kit.mail_sink import REFUSING
from tests.kit.mta_stores import MTAS, wait_until_greets
from tests.kit.plugin_package import install_plugin
from tests.kit.processes import ROOT, Program

_PACKAGE: Final = MTAS / "haraka" / "node_modules" / "Haraka"


class Haraka(Program):
    """One process on a free port of 127.0.0.1."""

    def __init__(
        self, folder: Path, plugin: Mapping[str, object], users: Mapping[str, str], *, sink: int
    ) -> None:
        """Describe it.

        Args:
            folder: Of its own, for configuration, plugins, queue and log.
            plugin: Our plugin's configuration.
            users: Names and passwords.
            sink: Port that it delivers to.
        """
        self.port = free_port("127.0.0.1")
        config = folder / "config"
        config.mkdir()
        (folder / "queue").mkdir()
        # It does not start without this file.
        shutil.copy(_PACKAGE / "config" / "connection.ini", config)
        install_plugin("haraka", folder / "node_modules" / "haraka-plugin-mailstream")
        (folder / "plugins").mkdir()
        shutil.copy(ROOT / "tests" / "kit" / "mtas" / "haraka" / "policy.js", folder / "plugins")
        files: dict[str, str] = {
            "plugins": "auth/flat_file\nmailstream\npolicy\n",
            "me": "mx.example.com\n",
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=0\n",
            "outbound.ini": "temp_fail_intervals=5s\nlocal_mx_ok=true\n",
            "auth_flat_file.ini": "[core]\nmethods=PLAIN,LOGIN\nconstrain_sender=false\n[users]\n"
            + _ini(users),
            "mailstream.ini": _ini(plugin),
            "policy.ini": _ini({"sink": sink, "refusing": REFUSING}),
        }
        for name, text in files.items():
            (config / name).write_text(text)
        super().__init__("haraka", ["node", _PACKAGE / "bin" / "haraka", "-c", folder], folder)

    def start(self) -> None:
        """Start it, and wait until it takes mail."""
        super().start()
        wait_until_greets(self, self.port)


def _ini(values: Mapping[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())
