"""Hundreds of routes by one probe, before a real Postfix and a real Dovecot, some of them hung."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure
from tests.kit.mail_target import MailTarget, mail_target
from tests.kit.probe_process import HOST, Probe, content
from tests.kit.stand import stand

ROUTES: Final = 500
HUNG: Final = 20
"""Of them, half cannot send and half cannot look."""
INTERVAL_S: Final = 60
ROUNDS: Final = 3
MB: Final = 1 << 20


def measure(bootstrap: str, folder: Path) -> Iterator[Figure]:
    """Yield memory, CPU and the rounds that were not on time, over :data:`ROUNDS` intervals."""
    with (
        mail_target() as target,
        socket.create_server((HOST, 0), backlog=128) as silent,
        stand(bootstrap, folder, probe={"config": "config.yaml"}) as st,
    ):
        probe = Probe(folder, st.config, _content(target, silent.getsockname()[1]))
        try:
            probe.listening()
            time.sleep(INTERVAL_S * ROUNDS)
            yield from _figures(probe)
        finally:
            probe.end()


def _figures(probe: Probe) -> Iterator[Figure]:
    more = {"routes": ROUTES, "hung": HUNG, "interval_s": INTERVAL_S, "rounds": ROUNDS}
    good = ROUTES - HUNG
    arrived = probe.shown("outcomes_total", outcome="inbox") or 0
    late = sum(probe.shown("rounds_skipped_total", route=f"route-{n}") or 0 for n in range(good))
    more["arrived"] = round(arrived)
    yield Figure("probe.memory", probe.peak_bytes() / MB, "MB", 500, at_most=True, more=more)
    yield Figure("probe.late_rounds", late, "rounds of good routes", 0, at_most=True, more=more)
    yield Figure("probe.arrived", arrived, "rounds", good * (ROUNDS - 1), more=more)
    yield Figure("probe.cpu", probe.cpu_s() / arrived * 1000, "ms of CPU per round", more=more)


def _content(target: MailTarget, silent: int) -> dict[str, Any]:
    tree = content(target, check_interval_seconds=INTERVAL_S)
    hung = {
        leg: {"host": HOST, "port": silent, "username": "h@example.test"}
        for leg in ("smtp", "imap")
    }
    tree["accounts"]["hung"] = hung
    ends = [("hung", "probe-b"), ("probe-a", "hung")]
    tree["tests"] = [
        {"name": f"route-{number}", "from": "probe-a", "to": "probe-b"}
        for number in range(ROUTES - HUNG)
    ] + [
        {"name": f"hung-{number}", "from": ends[number % 2][0], "to": ends[number % 2][1]}
        for number in range(HUNG)
    ]
    return tree
