"""The section ``zonemta.log_remote`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from pipeline.kit.settings_base import Listener
from pipeline.kit.values import Address, AddressValue, Items, NetworkValue


class LogRemoteSettings(Listener):
    """Entries of ZoneMTA's log that its `log.remote` sends over UDP; null: not taken."""

    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9787),
        description="Where `/metrics` and `/health` of the service are; port 0: any free one.",
    )
    udp: AddressValue = Field(
        default=Address("127.0.0.1", 31239),
        description="Where datagrams are taken; port 0: any free one.",
    )
    allow: Items[NetworkValue] = Field(
        default=(),
        description="Networks that may send entries, a must where others can reach `udp`; beside "
        "this machine they alone may read `listen`.",
    )
    receive_buffer_bytes: int = Field(
        default=8 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Receive buffer asked of the kernel (`net.core.rmem_max` caps it).",
    )
    buffer_bytes: int = Field(
        default=32 << 20,
        ge=1 << 20,
        le=16 << 30,
        description="Most bytes of entries held in memory while Kafka has not acknowledged them.",
    )
    spool_bytes: int = Field(
        default=256 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="Most bytes of entries kept on disk while Kafka is away.",
    )
