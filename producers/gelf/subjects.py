"""What a GELF message is about: mail, a login, noise, or another program's business.

Pure tables over the bracket words that the emitters write (see ``pipeline.core.gelf``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, auto
from typing import Any, Final

from pipeline.core import gelf


class About(StrEnum):
    """What is written of."""

    MTA = auto()
    MX = auto()
    LOGIN = auto()
    NOISE = auto()
    UNKNOWN = auto()
    """Another program's message."""


class Noise(StrEnum):
    """Kinds of messages about neither mail nor logins; become the metric label ``kind``."""

    CONNECTION = auto()
    HTTP = auto()
    IMAP = auto()
    QUOTA = auto()
    HEALTH = auto()
    FORWARD = auto()
    TASK = auto()
    QUEUE = auto()
    REWRITE = auto()
    ENVELOPE = auto()
    """A sender or recipient that was taken."""
    CONTENT = auto()
    """Signatures, logos and attachments of one message."""
    OTHER = auto()


_WORDS: Final[Mapping[Noise, str]] = {
    Noise.CONNECTION: "CONNSTART CONNFAILED CONNRELEASE",
    Noise.IMAP: "APPEND COPY MOVE FETCH SELECT STORE EXPUNGE CREATE DELETE RENAME SEARCH STATUS "
    "SUBSCRIBE UNSUBSCRIBE LIST LSUB NOTIFY RETR DELE",
    Noise.QUOTA: "QUOTA",
    Noise.HEALTH: "HEALTH",
    Noise.FORWARD: "FRWRDOK FRWRDFAIL AUTOREPLYFAIL",
    Noise.TASK: "TASKOK TASKFAIL DELARCH INDEXER MIGRATION WH ENCRYPTFAIL",
    Noise.QUEUE: "QUEUE_POLL QUEUE_BOUNCE",
    Noise.REWRITE: "RWENVELOPE RWFROM",
    Noise.CONTENT: "DKIM BIMI ATT",
}
_KINDS: Final[Mapping[str, Noise]] = {
    **{word: kind for kind, words in _WORDS.items() for word in words.split()},
    "RCPT TO": Noise.ENVELOPE,
    "MAIL FROM": Noise.ENVELOPE,
    "SKIP FORWARD": Noise.FORWARD,
    "FAILED FORWARD": Noise.FORWARD,
}
_HTTP: Final = "HTTP ["
_REFUSED: Final = "no"


def about(message: Mapping[str, Any], word: str) -> About:
    """Return what *message*, whose bracket word is *word*, is about."""
    if gelf.is_login(message):
        return About.LOGIN
    component = message.get("_component")
    if component == gelf.MTA:
        taken = word == "RCPT TO" and message.get("_allowed") != _REFUSED
        return About.MTA if word in gelf.MTA_WORDS and not taken else About.NOISE
    if component == gelf.MX:
        return About.MX if word in gelf.MX_WORDS else About.NOISE
    return About.NOISE if component == gelf.WILDDUCK else About.UNKNOWN


def noise(message: Mapping[str, Any], word: str) -> Noise:
    """Return the kind of a message that is noise."""
    kind = _KINDS.get(word)
    if kind is None:
        kind = Noise.HTTP if _HTTP in message["short_message"] else Noise.OTHER
    return kind
