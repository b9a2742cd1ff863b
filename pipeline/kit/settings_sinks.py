"""The section ``sinks`` of the configuration: stores of others that the stream is copied to."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.core.pane import DAY_MS, HOUR_MS
from pipeline.kit.settings_base import Listener, Secret, Section, between
from pipeline.kit.values import Address, AddressValue, Duration

Kept = Annotated[Duration, AfterValidator(between(DAY_MS, 36_500 * DAY_MS))]


class PostgresRetention(Section):
    """How long PostgreSQL keeps rows, by their own time; whole partitions go at once."""

    events: Annotated[Duration, AfterValidator(between(7 * DAY_MS, 36_500 * DAY_MS))] = Field(
        default=90 * DAY_MS, description="How long `email_events` are kept; 7d or more."
    )
    panes: Kept = Field(default=400 * DAY_MS, description="How long `panes` are kept.")
    metrics: Kept = Field(
        default=90 * DAY_MS,
        description="How long the tables `metrics_*` and `heartbeats` are kept.",
    )
    hourly: Kept = Field(
        default=400 * DAY_MS,
        description="How long `email_events_hourly` is kept; not shorter than `events`.",
    )
    daily: Kept | None = Field(
        default=None, description="How long `email_events_daily` is kept; null: for ever."
    )
    rejects: Kept = Field(
        default=30 * DAY_MS, description="How long records that could not be stored are kept."
    )


class PostgresSettings(Listener):
    """PostgreSQL or TimescaleDB, written by `mailstream sink postgres`; null: off."""

    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9788),
        description="Where its `/metrics` and `/health` are; port 0: any free one.",
    )
    dsn: Secret = Field(
        description="Connection string, such as `postgresql://mailstream@127.0.0.1/mail`; "
        "the tables are made in the first schema of its search path."
    )
    retention: PostgresRetention = PostgresRetention()
    compress_after: Annotated[Duration, AfterValidator(between(HOUR_MS, 3650 * DAY_MS))] = Field(
        default=7 * DAY_MS,
        description="Age at which TimescaleDB compresses; without the extension nothing is.",
    )


class SinksSettings(Section):
    """Stores of others that the stream is copied to."""

    postgres: PostgresSettings | None = Field(
        default=None, description="PostgreSQL or TimescaleDB; null: off."
    )
