"""A probe as a real process before the mail target of the tests."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailstream.ports import free_port
from tests.kit.mail_target import MailTarget
from tests.kit.processes import Receiver, wait_until

HOST = "127.0.0.1"
PREFIX = "mail_e2e_exporter_"
METRICS_PASS, API_KEY, WRONG = "metrics-5ecret", "api-key-5ecret", "wrong-5ecret"


def account(target: MailTarget, name: str, **smtp: Any) -> dict[str, Any]:
    """Return an account of the target as the probe's file has it; passwords are in variables."""
    found = target.account(name)
    assert found.smtp is not None
    assert found.imap is not None
    variable = f"${{{name.upper().replace('-', '_')}_PASS}}"
    shared = {"host": "localhost", "username": found.smtp.username, "password": variable}
    shared["ca_file"] = str(found.smtp.ca_file)
    return {
        "smtp": {**shared, "port": found.smtp.port, "starttls": True, **smtp},
        "imap": {**shared, "port": found.imap.port, "ssl": True, "folder": "INBOX"},
    }


def content(target: MailTarget, **exporter: Any) -> dict[str, Any]:
    accounts = {name: account(target, name) for name in ("probe-a", "probe-b")}
    # Its mail is sent to probe-b's Junk by the target.
    accounts["junk"] = {**account(target, "probe-b"), "address": "junk@example.test"}
    accounts["locked-out"] = account(target, "probe-a", password=WRONG)
    return {
        "exporter": {
            "listen_addr": HOST,
            "listen_port": 0,
            "check_interval_seconds": 2,
            "receive_timeout_seconds": 20,
            "origin": "here",
            **exporter,
        },
        "accounts": accounts,
        "tests": [
            {"name": "a-to-b", "from": "probe-a", "to": "probe-b"},
            {"from": "probe-b", "to": "probe-a"},
            {"name": "to-junk", "from": "probe-a", "to": "junk"},
            {"name": "locked-out", "from": "locked-out", "to": "probe-b"},
        ],
    }


class Probe(Receiver):
    """One ``mailstream produce probe`` with a file and a ``.env`` beside it."""

    def __init__(self, folder: Path, config: Path, tree: Mapping[str, Any]) -> None:
        super().__init__("probe", config, folder)
        self.file = folder / "config.yaml"
        self.file.write_text(json.dumps(tree))
        (folder / ".env").write_text(
            f"PROBE_A_PASS=pass-a\nPROBE_B_PASS='pass-b'\nMETRICS_USER=prom\n"
            f"METRICS_PASS={METRICS_PASS}\nAPI_KEY={API_KEY}\nDEBUG=true\n"
        )

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Return status and text of an answer."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://{self.address()}{path}"
        request = urllib.request.Request(url, method=method, headers=names)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()

    def page(self) -> str:
        login = base64.b64encode(f"prom:{METRICS_PASS}".encode()).decode()
        status, text = self.ask("/metrics", Authorization=f"Basic {login}")
        assert status == 200
        return text

    def shown(self, name: str, **labels: str) -> float | None:
        """Return the sum of a family's series with these labels; None: there are none."""
        found = [
            float(line.rpartition(" ")[2])
            for line in self.page().splitlines()
            if line.startswith(PREFIX + name + "{")
            and all(f'{key}="{value}"' in line for key, value in labels.items())
        ]
        return sum(found) if found else None

    def listening(self) -> None:
        self.start()
        self.wait_for("/health")

    def rounds(self, number: int, outcome: str, **labels: str) -> None:
        """Wait for as many outcomes."""
        wait_until(
            lambda: (self.shown("outcomes_total", outcome=outcome, **labels) or 0) >= number,
            f"{number} of {outcome}",
            within_s=60,
        )


def alone(folder: Path) -> Path:
    """Write a configuration whose Kafka is away."""
    config = folder / "mailstream.yaml"
    settings = {
        "data_dir": str(folder),
        "probe": {"config": "config.yaml"},
        "kafka": {"bootstrap_servers": f"{HOST}:{free_port(HOST)}"},
    }
    config.write_text(json.dumps(settings))
    return config
