"""Rows of ``emailtrack_search``: what identifies one, when it happened, and what is stored of it.

Exim writes a line per delivery attempt and address, and WHM gives a row for each.  A message has
many recipients, each may be deferred many times, an alias fans out to several addresses within one
second, and two hosts may be tried in one: all of that is part of a row's id.  The text of the reply
is not, because versions of WHM differ in its white space.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

from pipeline.core.batch import OutRecord
from pipeline.core.loose import text, whole
from producers.allow_list import AllowList, Cut, Rule, cut
from producers.privacy import Privacy

SOURCE: Final = "cpanel"
FEED: Final = "poll"
SENDING_IP: Final = "mailstream_sending_ip"
"""The one field that is ours: ``sending_ip`` of the configuration, at the time of the poll."""

PENDING: Final = "inprogress"
"""``type`` of a message of which nothing has become yet."""

ALLOWED: Final[AllowList] = {
    "type": Rule.KEEP,
    "msgid": Rule.KEEP,
    "sender": Rule.SENDER,
    "email": Rule.SENDER,
    "user": Rule.SENDER,
    "domain": Rule.KEEP,
    "recipient": Rule.RECIPIENT,
    "deliveredto": Rule.RECIPIENT,
    "deliveryuser": Rule.RECIPIENT,
    "deliverydomain": Rule.KEEP,
    "sendunixtime": Rule.KEEP,
    "actionunixtime": Rule.KEEP,
    "actiontime": Rule.KEEP,
    "size": Rule.KEEP,
    "senderhost": Rule.CLIENT,
    "senderip": Rule.CLIENT,
    "senderauth": Rule.KEEP,
    "spamscore": Rule.KEEP,
    "router": Rule.KEEP,
    "transport": Rule.KEEP,
    "transport_is_remote": Rule.KEEP,
    "host": Rule.KEEP,
    "ip": Rule.KEEP,
    "message": Rule.REPLY,
}
"""Every field that is documented or was seen in answers, under WHM's own names."""

_ACCOUNTS: Final = ("user", "deliveryuser")
_ID_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Row:
    """One row, as far as polling has to understand it."""

    event_id: str
    kind: str
    """``type``."""
    action_s: int | None
    """``actionunixtime``: when the attempt was made."""
    send_s: int | None
    """``sendunixtime``: when the message arrived."""
    given: Mapping[str, Any]
    """As WHM gave it: nothing to keep or to log."""


class RowReader:
    """Reads the rows of one server."""

    def __init__(self, server: str, sending_ip: str | None, privacy: Privacy) -> None:
        """Read rows of the server that is configured under this name."""
        self._server = server
        self._sending_ip = sending_ip
        self._privacy = privacy

    def read(self, given: object) -> Row | None:
        """Return the row, or None if it is no object."""
        if not isinstance(given, dict):
            return None
        kind = text(given.get("type"))
        action_s, send_s = whole(given.get("actionunixtime")), whole(given.get("sendunixtime"))
        return Row(self._id(given, kind, action_s), kind, action_s, send_s, given)

    def stored(self, row: Row) -> Cut:
        """Return what is stored of *row*, as fields, and how many were dropped."""
        record, dropped = cut(row.given, ALLOWED, self._privacy)
        for name in _ACCOUNTS:
            if is_pseudo_user(row.given.get(name)):
                record[name] = row.given[name]
        method, colon, login = text(row.given.get("senderauth")).partition(":")
        if colon:
            record["senderauth"] = f"{method}:{self._privacy.sender(login)}"
        if self._sending_ip is not None:
            record[SENDING_IP] = self._sending_ip
        return Cut(record, dropped)

    def record(self, row: Row, stored: Mapping[str, Any], received_ms: int) -> OutRecord:
        """Return the raw record of *row*, which holds *stored*."""
        key = text(row.given.get("msgid")) or row.event_id
        headers = (
            ("id", row.event_id.encode()),
            ("source", SOURCE.encode()),
            ("feed", FEED.encode()),
            ("origin", self._server.encode()),
            ("received", b"%d" % received_ms),
        )
        return OutRecord(orjson.dumps(stored), key.encode("utf-8", "replace"), headers)

    def _id(self, given: Mapping[str, Any], kind: str, action_s: int | None) -> str:
        """Return the id: recipients are hashed with our key first, or guesses could be tested."""
        queue_id = text(given.get("msgid"))
        if not queue_id:
            parts = [repr(sorted(given.items(), key=lambda item: item[0]))]
        elif kind == PENDING:
            parts = [queue_id, kind]
        else:
            recipients = (text(given.get(name)) for name in ("recipient", "deliveredto"))
            parts = [
                queue_id,
                kind,
                *(self._privacy.address(one) if one else "" for one in recipients),
                "" if action_s is None else str(action_s),
                text(given.get("host")),
            ]
        identity = "|".join([self._server, *parts])
        if not queue_id:  # it is made of everything, addresses too
            identity = self._privacy.hash(identity)
        return sha256(identity.encode("utf-8", "replace")).hexdigest()[:_ID_DIGITS]


def is_pseudo_user(user: object) -> bool:
    """Tell whether a user is one of WHM's own, such as ``-remote-`` and ``-system-``."""
    return isinstance(user, str) and len(user) > 2 and user[0] == user[-1] == "-"
