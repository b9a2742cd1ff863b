"""The mail that a round sends, and what tells it from all other mail."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.header import Header
from email.utils import formatdate
from typing import Final

TOKEN_HEADER: Final = "X-Mailstream-Probe"  # noqa: S105  a name
_LINE: Final = 76
_MOST_ROUTE: Final = 200
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_BODY: Final = """\
This mail was sent by a program that checks whether mail arrives.
It deletes its mail by itself. You can delete this one at any time.
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One mail, ready for DATA."""

    token: str
    sender: str
    recipient: str
    content: bytes
    """Lines end with CRLF; leading dots are not doubled."""


def compose(
    *, prefix: str, route: str, token: str, sender: str, recipient: str, now_ms: int
) -> Message:
    """Return the mail of one round.

    The token is in the subject, on a line of its own that nothing needs to encode or fold, in the
    Message-ID, and in a header of ours: what a server on the way rewrites is found by the rest.
    """
    label = _one_line(f"{prefix} {route[:_MOST_ROUTE]}")
    subject = Header(label, "us-ascii" if label.isascii() else "utf-8", _LINE, "Subject").encode()
    domain = sender.rpartition("@")[2]
    lines = [
        f"From: <{_one_line(sender)}>",
        f"To: <{_one_line(recipient)}>",
        *f"Subject: {subject}".splitlines(),
        f" {token}",
        f"Date: {formatdate(now_ms / 1000)}",
        f"Message-ID: <{token}@{_one_line(domain)}>",
        f"{TOKEN_HEADER}: {token}",
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
        "Precedence: bulk",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "Content-Transfer-Encoding: 7bit",
        "",
        *_BODY.splitlines(),
    ]
    return Message(token, sender, recipient, ("\r\n".join(lines) + "\r\n").encode())


def _one_line(text: str) -> str:
    """Return *text* without anything that could begin another header."""
    return _CONTROL.sub(" ", text).strip()
