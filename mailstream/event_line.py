"""One enriched event as a line for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Final

from rich.console import Console
from rich.text import Text

from mailstream.commands.common import printable
from pipeline.core.event import MailEvent
from pipeline.core.membership import ARRIVED

STYLES: Final = {
    "delivered": "green",
    "received": "green",
    "auth_succeeded": "green",
    "sent": "cyan",
    "deferred": "yellow",
    "expired": "red",
    "bounced": "red",
    "bounced_late": "red",
    "rejected": "red",
    "complained": "magenta",
    "auth_failed": "magenta",
}
"""Colour of each ``event_type``; others have none."""

_WIDTH: Final = max(map(len, STYLES))


def show_on(stream: IO[str]) -> Callable[[MailEvent], None]:
    """Return what writes events to the terminal behind *stream*."""
    console = Console(file=stream, highlight=False)

    def show(event: MailEvent) -> None:
        console.print(line(event), soft_wrap=True)

    return show


def line(event: MailEvent) -> Text:
    """Return time, type, who to whom, by which address, and what the other side said."""
    kind = event.event_type or "-"
    text = Text()
    text.append(f"{(event.timestamp or '-')[11:23]:<12} ", style="dim")
    text.append(f"{printable(kind):<{_WIDTH}}", style=STYLES.get(kind, ""))
    for word, style in _words(event):
        text.append(" ")
        text.append(printable(word), style=style)
    return text


def _words(event: MailEvent) -> Iterator[tuple[str, str]]:
    sender = event.user or event.login or event.from_address or event.from_domain
    yield f"{event.source or '-'}/{event.mta_node or event.origin or '-'}", "blue"
    yield event.route or sender or "-", "bold"
    if event.outcome is not None:
        yield event.outcome, "green" if event.outcome in ARRIVED else "red"
    receiver = event.to_user or event.to_domain
    if receiver:
        yield f"-> {receiver}", "bold"
    address = event.sending_ip or event.client_ip
    if address:
        yield address, ""
    answer = " ".join(
        str(part) for part in (event.response_code, event.enhanced_status) if part is not None
    )
    if answer:
        yield answer, STYLES.get(event.event_type or "", "")
    if event.bounce_class:
        yield event.bounce_class, "yellow"
    said = event.response_message or event.error_message
    if said and event.event_type not in {"delivered", "sent", "received"}:
        yield said, ""
