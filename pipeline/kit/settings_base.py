"""What sections of the configuration are made of: the base models and the kinds of texts they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from pipeline.core.event import RESERVED_VALUES
from pipeline.kit.values import (
    Address,
    AddressValue,
    Items,
    Kind,
    NetworkValue,
    PathValue,
    duration_text,
    unusable,
)

SECOND_MS: Final = 1000

_MAX_NAME: Final = 64
_NAME: Final = "1 to 64 printable characters without spaces, other than " + " and ".join(
    sorted(RESERVED_VALUES)
)
_KEY_TEXT: Final = "printable ASCII characters without spaces"


def _name(text: str) -> str:
    if not 0 < len(text) <= _MAX_NAME or not text.isprintable() or " " in text:
        raise unusable(_NAME)
    if text in RESERVED_VALUES:
        raise unusable(_NAME)
    return text


def _visible(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise unusable(_KEY_TEXT)
    return secret


def _filled(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value():
        raise unusable("text that is not empty")
    return secret


def between(lowest_ms: int, highest_ms: int) -> Callable[[int], int]:
    """Return a validator of durations in this range."""
    expected = f"a duration of {duration_text(lowest_ms)} to {duration_text(highest_ms)}"

    def check(ms: int) -> int:
        if not lowest_ms <= ms <= highest_ms:
            raise unusable(expected)
        return ms

    return check


Name = Annotated[str, AfterValidator(_name), Kind("name", _NAME)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_visible)]
Secret = Annotated[SecretStr, AfterValidator(_filled)]


class Section(BaseModel):
    """A part of the configuration: frozen, strict, no unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        use_attribute_docstrings=False,
        hide_input_in_errors=True,
    )


class Listener(Section):
    """What every HTTP listener has."""

    listen: AddressValue = Field(default=Address("127.0.0.1", 0), description="Where it listens.")
    allow: Items[NetworkValue] = Field(
        default=(), description="Networks that may connect; empty: any, where credentials are set."
    )
    tls_cert: PathValue | None = Field(
        default=None, description="Certificate chain (PEM); null: no TLS."
    )
    tls_key: PathValue | None = Field(default=None, description="Key (PEM) of the certificate.")
