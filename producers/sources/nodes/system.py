"""This machine: CPU, memory, disks, network, and established connections by listening port."""

from __future__ import annotations

import asyncio
import os
from collections import Counter as Multiset
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import psutil

from producers.sources.nodes.samples import COUNTER, Family, Sample

SOURCE: Final = "system"
MAX_PORTS: Final = 100
MAX_DEVICES: Final = 64
_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_ESTABLISHED: Final = "01"
_LISTENING: Final = "0A"
_IGNORED_DEVICES: Final = ("loop", "ram", "veth", "zram")

_CPU: Final = Family("mail_system_cpu_seconds", "CPU time by mode, all processors.", COUNTER)
_CPUS: Final = Family("mail_system_cpus", "Processors.")
_LOAD: Final = Family("mail_system_load1", "Load average of one minute.")
_BOOT: Final = Family(
    "mail_system_boot_timestamp_seconds", "When the machine started, seconds since the epoch."
)
_MEMORY: Final = Family("mail_system_memory_size_bytes", "Memory of the machine.")
_AVAILABLE: Final = Family(
    "mail_system_memory_available_bytes", "Memory that programs could still have without swapping."
)
_SWAP: Final = Family("mail_system_swap_size_bytes", "Swap space.")
_SWAP_USED: Final = Family("mail_system_swap_used_bytes", "Swap space in use.")
_DISK: Final = Family("mail_system_filesystem_size_bytes", "Size of a file system.")
_DISK_FREE: Final = Family(
    "mail_system_filesystem_available_bytes", "Space that users other than root may still fill."
)
_INODES: Final = Family("mail_system_filesystem_files", "Files that a file system can hold.")
_INODES_FREE: Final = Family(
    "mail_system_filesystem_files_free", "Files that a file system can still take."
)
_READ: Final = Family("mail_system_disk_read_bytes", "Bytes read by device.", COUNTER)
_WRITTEN: Final = Family("mail_system_disk_written_bytes", "Bytes written by device.", COUNTER)
_BUSY: Final = Family(
    "mail_system_disk_busy_seconds", "Time in which a device had something to do.", COUNTER
)
_RECEIVED: Final = Family(
    "mail_system_network_receive_bytes", "Bytes received by interface.", COUNTER
)
_SENT: Final = Family("mail_system_network_transmit_bytes", "Bytes sent by interface.", COUNTER)
_NET_ERRORS: Final = Family(
    "mail_system_network_errors", "Packets with errors or dropped, by interface.", COUNTER
)
_CONNECTIONS: Final = Family(
    "mail_system_connections", "Established TCP connections by listening port; the 100 busiest."
)


def connections_by_port(tables: Iterable[str]) -> dict[int, int]:
    """Return the established connections of each port that is listened on.

    Args:
        tables: The texts of ``/proc/net/tcp`` and ``/proc/net/tcp6``.
    """
    listening: set[int] = set()
    established: Multiset[int] = Multiset()
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split(maxsplit=4)
            if len(fields) < 4:
                continue
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == _LISTENING:
                listening.add(port)
            elif fields[3] == _ESTABLISHED:
                established[port] += 1
    ranked = sorted(listening, key=lambda port: (-established[port], port))
    return {port: established[port] for port in ranked[:MAX_PORTS]}


def _cpu_samples() -> Iterator[Sample]:
    for mode, seconds in psutil.cpu_times()._asdict().items():
        if mode not in ("guest", "guest_nice"):  # they are in user and nice already
            yield _CPU.sample(seconds, mode=mode)
    yield _CPUS.sample(psutil.cpu_count() or 1)
    yield _LOAD.sample(os.getloadavg()[0])
    yield _BOOT.sample(psutil.boot_time())


def _memory_samples() -> Iterator[Sample]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    yield _MEMORY.sample(memory.total)
    yield _AVAILABLE.sample(memory.available)
    yield _SWAP.sample(swap.total)
    yield _SWAP_USED.sample(swap.used)


def _filesystem_samples() -> Iterator[Sample]:
    mounted = {part.device: part.mountpoint for part in psutil.disk_partitions()}
    for mountpoint in list(mounted.values())[:MAX_DEVICES]:
        try:
            status = os.statvfs(mountpoint)
        except OSError:  # not ours to look into, or just unmounted
            continue
        yield _DISK.sample(status.f_blocks * status.f_frsize, mountpoint=mountpoint)
        yield _DISK_FREE.sample(status.f_bavail * status.f_frsize, mountpoint=mountpoint)
        yield _INODES.sample(status.f_files, mountpoint=mountpoint)
        yield _INODES_FREE.sample(status.f_favail, mountpoint=mountpoint)


def _device_samples() -> Iterator[Sample]:
    disks = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    shown = [name for name in sorted(disks) if not name.startswith(_IGNORED_DEVICES)]
    for name in shown[:MAX_DEVICES]:
        yield _READ.sample(disks[name].read_bytes, device=name)
        yield _WRITTEN.sample(disks[name].write_bytes, device=name)
        busy_ms = getattr(disks[name], "busy_time", None)
        if busy_ms is not None:
            yield _BUSY.sample(busy_ms / 1000, device=name)
    links = psutil.net_io_counters(pernic=True, nowrap=False)
    shown = [name for name in sorted(links) if not name.startswith(_IGNORED_DEVICES)]
    for name in shown[:MAX_DEVICES]:
        link = links[name]
        yield _RECEIVED.sample(link.bytes_recv, device=name)
        yield _SENT.sample(link.bytes_sent, device=name)
        faulty = link.errin + link.errout + link.dropin + link.dropout
        yield _NET_ERRORS.sample(faulty, device=name)


def _connection_samples() -> Iterator[Sample]:
    tables = [path.read_text() for path in map(Path, _TABLES) if path.exists()]
    for port, count in connections_by_port(tables).items():
        yield _CONNECTIONS.sample(count, port=str(port))


def look() -> list[Sample]:
    """Return what the machine is like now; takes some milliseconds."""
    return [
        *_cpu_samples(),
        *_memory_samples(),
        *_filesystem_samples(),
        *_device_samples(),
        *_connection_samples(),
    ]


class System:
    """Looks at this machine."""

    source = SOURCE

    def __init__(self, node: str, interval_ms: int) -> None:
        """Show it as *node*."""
        self.node = node
        self.interval_ms = interval_ms

    async def poll(self, now_ms: int) -> list[Sample]:  # noqa: ARG002  what every target takes
        """Return what it is like now."""
        return await asyncio.to_thread(look)

    async def close(self) -> None:
        """Close nothing: nothing is held open."""
