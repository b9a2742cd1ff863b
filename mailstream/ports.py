"""Choosing ports for processes that must be told theirs before they start."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

_LOWEST: Final = 10_000
_TRIES: Final = 200


def is_free(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Return whether a server could listen on *port* of *host* now."""
    with socket.socket(type=kind) as probe:
        if kind is socket.SOCK_STREAM:  # two datagram sockets would share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str) -> int:
    """Return a free port of *host* that no outgoing connection will take.

    Ports of the ephemeral range are avoided: while the server is down, a client that keeps
    reconnecting can be given the very port it dials, connect to itself and block the restart.

    Raises:
        OSError: No port is free.
    """
    for port in random.sample(candidates(_ephemeral_start()), _TRIES):
        if is_free(host, port):
            return port
    raise OSError(f"no free port on {host}")


def candidates(ephemeral_start: int) -> range:
    """Return the ports to choose from: below the ephemeral range, unless that begins too low."""
    return range(_LOWEST, ephemeral_start if ephemeral_start >= _LOWEST + _TRIES else 1 << 16)


def _ephemeral_start() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768
