"""The section ``probe`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from pipeline.kit.settings_base import Listener, Name
from pipeline.kit.values import Address, AddressValue, Items, MailAddress, PathValue


class ProbeSettings(Listener):
    """Roundtrip probes."""

    config: PathValue | None = Field(
        default=None,
        description="The probe's own file, in the form of the mail E2E exporter's `config.yaml` "
        "(`docs/probe.md`); null: off in `mailstream run`.",
    )
    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9782),
        description="Where its endpoints are, unless that file has `listen_addr` or `listen_port`; "
        "port 0: any free one.",
    )
    origin: Name | None = Field(
        default=None,
        description="The label `origin` of its outcomes, unless that file has one; null: the "
        "machine's host name. Two probes need two.",
    )
    buffer_bytes: int = Field(
        default=4 << 20,
        ge=1 << 20,
        le=1 << 30,
        description="Most bytes of outcomes held in memory while Kafka has not acknowledged them.",
    )
    spool_bytes: int = Field(
        default=64 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="Most bytes of outcomes kept on disk while Kafka is away.",
    )
    accounts: Items[MailAddress] = Field(
        default=(),
        description="Addresses that probes send from and to: mail of theirs that the MTAs report has "
        "`is_probe` and stays out of the numbers of customer mail. Recipients are known only by a "
        "worker with the `privacy.hash_key` of the producers.",
    )
