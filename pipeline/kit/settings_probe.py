"""The section ``probe`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from pipeline.kit.settings_base import Section
from pipeline.kit.values import Items, Kind, unusable

_ADDRESS: Final = "a mail address"
_MAX_ADDRESS: Final = 320


def _address(text: str) -> str:
    local, _, domain = text.rpartition("@")
    if not local or not domain or len(text) > _MAX_ADDRESS:
        raise unusable(_ADDRESS)
    if not text.isprintable() or any(char in " <>," for char in text):
        raise unusable(_ADDRESS)
    return text


MailAddress = Annotated[str, AfterValidator(_address), Kind("mail address", _ADDRESS)]


class ProbeSettings(Section):
    """Roundtrip probes."""

    accounts: Items[MailAddress] = Field(
        default=(),
        description="Addresses that probes send from and to: mail of theirs that the MTAs report has "
        "`is_probe` and stays out of the numbers of customer mail. Recipients are known only by a "
        "worker with the `privacy.hash_key` of the producers.",
    )
