"""An MTA with our plugin before a mailstream: mail in by SMTP, events out of ``mail.events``."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from typing import Any, Final, Generic, TypeAlias, TypeVar

from tests.kit.mail_sink import Sink
from tests.kit.processes import Program, wait_until
from tests.kit.stand import Stand

Event: TypeAlias = dict[str, Any]
M = TypeVar("M", bound=Program)

SENDER: Final = "alice@example.com"
PASSWORD: Final = "opensesame"
"""Of every user."""

_ARRIVED_S: Final = 90.0


class MtaSite(Generic[M]):
    """All that stands between a mail and its events."""

    def __init__(self, stand: Stand, mta: M, sink: Sink) -> None:
        """Describe it; everything runs."""
        self.stand, self.mta, self.sink = stand, mta, sink

    def send(self, port: int, subject: str, *recipients: str, user: str | None = None) -> None:
        """Send one mail, after a login if *user* is given; its id is made of *subject*.

        Raises:
            smtplib.SMTPException: The MTA does not take it.
        """
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = SENDER, "list@example.net", subject
        mail["Message-ID"] = message_id(subject)
        mail.set_content("body of the mail")
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            if user is not None:
                client.login(user, PASSWORD)
            client.send_message(mail, SENDER, recipients)

    def events(self, until: Callable[[Sequence[Event]], bool]) -> list[Event]:
        """Return ``mail.events`` once *until* holds for it.

        Raises:
            TimeoutError: It does not; it tells the events and what the MTA said.
        """

        def arrived() -> list[Event] | None:
            events = self.stand.events()
            return events if until(events) else None

        try:
            return wait_until(arrived, "all events", within_s=_ARRIVED_S, every_s=0.5)
        except TimeoutError as exc:
            found = "\n".join(map(str, self.stand.events()))
            raise TimeoutError(f"{exc}\n{found}\n{self.mta.said()}") from exc


def message_id(subject: str) -> str:
    """Return the Message-ID of the mail with this subject."""
    return f"<{subject.replace(' ', '-')}@example.com>"


def of(events: Sequence[Event], **fields: object) -> list[Event]:
    """Return the events with these fields."""
    return [one for one in events if all(one.get(name) == is_ for name, is_ in fields.items())]


def assert_ids_are_distinct(events: Sequence[Event]) -> None:
    """Assert that nothing is there twice."""
    ids = [one["event_id"] for one in events]
    assert len(set(ids)) == len(ids)
