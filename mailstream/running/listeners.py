"""Where the parts of ``mailstream run`` will listen, and whether they can, before any is started."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Final

from pipeline.core.errors import ConfigError
from pipeline.kit.settings import Settings
from pipeline.kit.settings_listeners import openings
from pipeline.kit.values import Address

WORKER_STEP: Final = 10
"""Worker i >= 2 listens this much, plus i, above the metrics port."""
_MAX_PORT: Final = 65535

_WHY: Final = {
    errno.EADDRINUSE: "is taken: stop what listens there, or choose another address",
    errno.EADDRNOTAVAIL: "is no address of this machine",
    errno.EACCES: "is not for this user to listen on: choose a port above 1023",
}


def worker_addresses(settings: Settings, workers: int) -> dict[str, Address]:
    """Return where each worker is to listen, by name; port 0 means any free one."""
    first = settings.metrics.listen
    addresses = {"worker-1": first}
    for number in range(2, workers + 1):
        port = first.port + WORKER_STEP + number if first.port else 0
        addresses[f"worker-{number}"] = Address(first.host, port)
    return addresses


def check_listeners(settings: Settings, workers: int) -> None:
    """Try every configured address, all at the same time.

    Raises:
        ConfigError: Some cannot be used; one sentence for each, with address and key.
    """
    wanted = [
        (f"{opening.section}.listen", opening.listener.listen)
        for opening in openings(settings)
        if opening.listener is not settings.metrics
    ]
    wanted += [
        (f"metrics.listen ({name})", address)
        for name, address in worker_addresses(settings, workers).items()
    ]
    gelf = settings.gelf
    mistakes = []
    sockets = [(key, address, socket.SOCK_STREAM) for key, address in wanted]
    if gelf.tcp is not None:
        sockets.append(("gelf.tcp", gelf.tcp, socket.SOCK_STREAM))
    if gelf.udp is not None:
        sockets.append(("gelf.udp", gelf.udp, socket.SOCK_DGRAM))
    if settings.log_remote is not None:
        sockets.append(("zonemta.log_remote.udp", settings.log_remote.udp, socket.SOCK_DGRAM))
    with ExitStack() as held:
        for key, address, kind in sockets:
            why = _try(address, kind, held)
            if why is not None:
                mistakes.append(f"{key}: {address} {why}")
    if mistakes:
        raise ConfigError(mistakes)


def _try(address: Address, kind: socket.SocketKind, held: ExitStack) -> str | None:
    """Listen on *address* until *held* ends; return why that cannot be, or None."""
    if address.port > _MAX_PORT:
        return "is beyond the highest port, 65535: choose a lower metrics port"
    try:
        family, _, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=kind, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as exc:
        return f"cannot be resolved: {exc.strerror}"
    listener = held.enter_context(socket.socket(family, kind, protocol))
    if kind is socket.SOCK_STREAM:  # two datagram sockets would share the address
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(place)
        if kind is socket.SOCK_STREAM:
            listener.listen(1)  # only a listening socket keeps the next one from the same port
    except OSError as exc:
        return _WHY.get(exc.errno or 0, f"cannot be listened on: {exc.strerror}")
    return None
