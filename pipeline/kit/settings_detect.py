"""What the configuration says about the search for hijacked accounts and blocked addresses."""

from __future__ import annotations

from pydantic import Field

from pipeline.kit.settings_base import Section


class DetectSettings(Section):
    """When an account is taken for hijacked, and an address of ours for blocked; see docs/alerts.md."""

    enabled: bool = Field(
        default=True,
        description="Whether anomalies are looked for; needs a window longer than 1h and the families "
        "user, ip_provider and failure.",
    )
    least_recipients: int = Field(
        default=100,
        ge=1,
        description="Recipients of an account in 5 minutes that are never too many.",
    )
    least_destinations: int = Field(
        default=50,
        ge=1,
        description="Different recipient domains in 5 minutes that are never too many.",
    )
    least_attempts: int = Field(
        default=50, ge=1, description="Outcomes of an account below which its failures say nothing."
    )
    least_failure_ratio: float = Field(
        default=0.4, gt=0, le=0.9, description="Share of bounces that is never too high."
    )
    least_block_attempts: int = Field(
        default=20,
        ge=1,
        description="Attempts from an address to a provider below which its refusals say nothing.",
    )
