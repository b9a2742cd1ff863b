"""The error taxonomy: one class for each thing a caller can *do* about a failure.

::

    MailstreamError
      ConfigError(mistakes)            say all of it and exit 2; raised at start only
      RecordError(reason, detail)      this record is bad: dead-letter, count, go on
      TransientError(retry_after_s)    the same call may work later: back off, within a deadline
        Backpressure                   the far side is full: slow down
      FencedError                      another process owns the partition: drop its state, rejoin
      InvariantError                   the engine's own state is broken: stop with nothing committed
        FrameVersionError              a frame written by a newer program: the partition stops, unready

Errors of foreign libraries are mapped to these where they enter, always ``from exc``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class MailstreamError(Exception):
    """The root of everything that this program raises on purpose."""


class ConfigError(MailstreamError):
    """The configuration is unusable; every mistake is listed at once."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        """Take one sentence per mistake: file, dotted key, and the value expected."""
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class Reason(StrEnum):
    """Why a record cannot be used; becomes the metric label ``reason``."""

    MALFORMED = "malformed"
    """Not JSON, not an object, or a key twice in one object."""
    INVALID_FIELD = "invalid_field"
    """A field has the wrong type, is out of range or too long."""
    MISSING_FIELD = "missing_field"
    """A required field is absent."""
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    RESERVED_VALUE = "reserved_value"
    """A value that the exporter keeps for itself, such as ``_other``."""
    TOO_LARGE = "too_large"
    MISSING_HEADER = "missing_header"
    """A raw record without the headers that its producer must set."""
    BUG = "bug"
    """The pure part of a batch raised on this record: a fault of ours, kept for analysis."""


class RecordError(MailstreamError):
    """One record is unusable.  The batch goes on without it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Take the bounded *reason* and a sentence for people, free of addresses."""
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class TransientError(MailstreamError):
    """The same call may succeed later."""

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        """Take a sentence and, where the far side named one, the wait in seconds."""
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class Backpressure(TransientError):  # noqa: N818  the condition's own name in the field
    """The far side, or our bounded buffer before it, is full."""


class FencedError(MailstreamError):
    """Another process took over this transactional id or partition.  Never retried."""


class InvariantError(MailstreamError):
    """The engine's own state contradicts itself; going on would publish wrong numbers."""


class FrameVersionError(InvariantError):
    """A frame has a version that this program cannot read."""
