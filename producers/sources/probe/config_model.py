"""The keys of the exporter's ``config.yaml``, with their meaning, defaults and limits.

The format is the mail E2E exporter's, so that its file can be kept as it is; keys below
"beyond the exporter" are ours.  Times are seconds, as in that file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Some = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65_535)]

DAY_S = 86_400.0


class _Keys(BaseModel):
    """Unknown keys are told by whoever reads the file; here they are left out."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, coerce_numbers_to_str=True
    )


class ExporterKeys(_Keys):
    """The section ``exporter``."""

    listen_addr: str | None = None
    listen_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    check_interval_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    receive_poll_seconds: Some = 5.0
    receive_timeout_seconds: Some = 120.0
    smtp_timeout_seconds: Some = 60.0
    delete_testmail_after_verify: bool = True
    subject_prefix: Annotated[str, Field(min_length=1, max_length=60)] = "[MAIL-E2E]"
    metrics_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")] = "mail_"
    uncertain_probe_on_timeout: bool = True
    uncertain_probe_timeout_seconds: Some = 12.0
    uncertain_probe_poll_seconds: Some = 4.0
    min_smtp_interval_seconds: Seconds = 0.0
    send_jitter_max_seconds: Seconds = 0.0
    # beyond the exporter
    queue_url: str | None = None
    """A ZoneMTA API; the gauge ``queue_depth`` is read from it."""
    max_parallel_routes: Annotated[int, Field(ge=1, le=10_000)] = 500
    imap_timeout_seconds: Some = 30.0


class SmtpKeys(_Keys):
    """``accounts.<name>.smtp``."""

    host: Annotated[str, Field(min_length=1)]
    port: Port = 587
    starttls: bool = True
    username: str | None = None
    password: SecretStr | None = None
    timeout_seconds: Some | None = None
    # beyond the exporter
    source_address: str | None = None
    ca_file: Path | None = None
    verify: bool = True
    client_cert: Path | None = None
    client_key: Path | None = None
    helo: str | None = None


class ImapKeys(_Keys):
    """``accounts.<name>.imap``."""

    host: Annotated[str, Field(min_length=1)]
    port: Port | None = None
    ssl: bool = True
    username: Annotated[str, Field(min_length=1)]
    password: SecretStr
    folder: Annotated[str, Field(min_length=1)] = "INBOX"
    extra_folders: tuple[str, ...] = ()
    # beyond the exporter
    starttls: bool = False
    timeout_seconds: Some | None = None
    ca_file: Path | None = None
    verify: bool = True
    client_cert: Path | None = None
    client_key: Path | None = None

    @field_validator("extra_folders", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return () if value is None else value


class AccountKeys(_Keys):
    """``accounts.<name>``: an account that only sends needs no ``imap``, one that only receives no ``smtp``."""

    smtp: SmtpKeys | None = None
    imap: ImapKeys | None = None
    address: str | None = None
    """Beyond the exporter; else the name that it logs in with."""


class RouteKeys(_Keys):
    """One of ``tests``."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    sender: Annotated[str, Field(alias="from")]
    recipient: Annotated[str, Field(alias="to")]
    # beyond the exporter
    check_interval_seconds: Annotated[float, Field(ge=1, le=86_400)] | None = None
    receive_timeout_seconds: Some | None = None


class FileKeys(_Keys):
    """The whole file."""

    exporter: ExporterKeys = ExporterKeys()
    accounts: dict[str, AccountKeys] = {}
    tests: tuple[RouteKeys, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value
