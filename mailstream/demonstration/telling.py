"""What the demo tells: what is simulated, and which commands show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mailstream.demonstration.datagrams import takes_logins
from mailstream.demonstration.servers import Simulated
from mailstream.run import Running
from mailstream.simulation.hosting import hacked_site
from mailstream.simulation.traffic import compromised_user


class Times(NamedTuple):
    """When the show becomes interesting, ms after its start."""

    attack_ms: int
    """Passwords are guessed."""
    flood_ms: int
    """Hijacked accounts flood."""


def tell(running: Running, simulated: Simulated, seed: int, rate: float, times: Times) -> None:
    """Tell it on the console."""
    console = running.console
    console.say(f"posting {rate:g} simulated events/s, the mean over a day (seed {seed})")
    login = f" -u {running.settings.metrics.username}" if running.settings.metrics.username else ""
    curl = f"curl -sS{login}"
    for text, url, shown in _scenes(running, simulated, seed, times):
        console.say(text)
        console.command(f"{curl} {url} | grep '{shown}'")


def _scenes(
    running: Running, simulated: Simulated, seed: int, times: Times
) -> Iterator[tuple[str, str, str]]:
    """Yield what is simulated, and where it is to be seen under which name."""
    workers, attack_s = " ".join(running.metrics_urls), times.attack_ms // 1000
    flood_s = times.flood_ms // 1000
    user = compromised_user(seed)
    hidden = "user" in running.settings.privacy.pseudonymise
    named = "" if hidden else f"{{.*{user}"
    yield (
        f"{user} is quiet now; its account floods after {flood_s} s: watch",
        workers,
        f"mail_user_events{named}",
    )
    if takes_logins(running.settings):
        yield (
            f"WildDuck tells of logins over GELF; after {attack_s} s some addresses guess passwords",
            workers,
            'mail_client_ip_auth{.*result="failed"',
        )
    for server in simulated.whm:
        account = f"{hacked_site(seed, server).user}@{server}"
        named = "" if hidden else f"{{.*{account}"
        yield (
            f"cPanel server {server} is polled; {account} is hacked within {flood_s} s",
            workers,
            f"mail_user_events{named}",
        )
    url = running.producer_url("nodes")
    if simulated.zonemta and url is not None:
        nodes = ", ".join(simulated.zonemta)
        yield (
            f"the node agent asks the ZoneMTA nodes {nodes}",
            f"{url}/metrics",
            "mail_zonemta_queue_messages",
        )
    elif running.settings.nodes is not None and running.settings.nodes.system and url is not None:
        yield "the node agent looks at this machine", f"{url}/metrics", "mail_system_"
