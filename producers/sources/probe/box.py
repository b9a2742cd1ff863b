"""Looking into the folders of a mailbox and deleting from them; blocks, runs in a thread.

Looking never changes anything: folders are opened read-only, flags are not set.  Deleting touches
only mails whose token proved to be ours.
"""

from __future__ import annotations

import imaplib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, ParamSpec, TypeVar

from producers.sources.probe.folders import Places, places
from producers.sources.probe.imap_client import Client
from producers.sources.probe.mail_header import FIELDS, MOST_BYTES, read_header
from producers.sources.probe.message import TOKEN_HEADER
from producers.sources.probe.token import Token

_P = ParamSpec("_P")
_T = TypeVar("_T")

_GMAIL: Final = "X-GM-EXT-1"
_NEWEST: Final = 50
_ROOM_KIB: Final = 16
"""What a mail needs: less is a full mailbox."""
_MOST_OWN: Final = 500
"""Own mails that are read from one folder at a time: what is left comes next time."""
_HEADER: Final = f"BODY.PEEK[HEADER.FIELDS ({' '.join(FIELDS)})]<0.{MOST_BYTES}>"


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail of ours in a folder."""

    uid: int
    token: Token
    folder: str
    internal_date_ms: int | None
    hops_ms: tuple[int, ...]
    same: int | None
    """Equal for the same mail in several folders (Gmail)."""


class Box:
    """An open mailbox."""

    def __init__(self, client: Client, main: str, extra: tuple[str, ...], key: bytes) -> None:
        """Find out which folders there are."""
        self._client = client
        self._key = key
        self._gmail = client.has_capability(_GMAIL)
        self._idles = bool(client.has_capability("IDLE"))
        self._missing: set[str] = set()
        client.fresh()
        self.places: Places = places(_unless_refused(client.list_folders) or [], main, extra)

    @property
    def idles(self) -> bool:
        """Tell whether the server says by itself that mail has come."""
        return self._idles

    def find(self, token: str, *, thorough: bool = False) -> list[Mail]:
        """Return the copies of one mail, of the first folder that has any.

        Args:
            token: Of the mail.
            thorough: Read the newest mails, too, for servers whose search is slow to learn.
        """
        for folder in self.places.in_order():
            if self._open(folder) and (mails := self._of(token, folder, thorough=thorough)):
                return mails
        return []

    def copies(self, token: str, found: list[Mail]) -> list[Mail]:
        """Return all copies in all folders, *found* first; each mail once."""
        copies = list(found)
        for folder in self.places.in_order():
            # What shows all mail shows the copies of other folders again.
            if folder in {found[0].folder, self.places.everything} or not self._open(folder):
                continue
            copies += self._of(token, folder, thorough=False)
        seen: set[int] = set()
        once = []
        for mail in copies:
            if mail.same is None or mail.same not in seen:
                once.append(mail)
            if mail.same is not None:
                seen.add(mail.same)
        return once

    def own(self, prefix: str, wanted: Callable[[Token], bool]) -> list[Mail]:
        """Return own mails whose token is *wanted*; none twice."""
        found: list[Mail] = []
        for folder in self.places.in_order():
            if not self._open(folder):
                continue
            known = {mail.same for mail in found if mail.same is not None}
            everything = folder == self.places.everything
            tokens = {mail.token.text for mail in found} if everything else set()
            found += [
                mail
                for mail in self._read(
                    folder, self._search(self._own_criteria(prefix))[-_MOST_OWN:]
                )
                if wanted(mail.token) and mail.same not in known and mail.token.text not in tokens
            ]
        return found

    def delete(self, mails: list[Mail]) -> None:
        """Delete *mails*, and nothing that others have marked."""
        for folder, there in _by_folder(mails):
            self._client.fresh()
            self._client.select_folder(folder)
            uids = self._still(folder, there)
            if not uids:
                continue
            trash = self.places.trash
            if self._gmail and trash and trash != folder and self._client.has_capability("MOVE"):
                # To Gmail, deleting in a folder only takes its label off; all mail stays.
                self._client.move(uids, trash)
                self._empty_trash(trash, there)
            else:
                self._expunge(uids)

    def wait_here(self) -> bool | None:
        """Ask the server to tell when mail comes; return if some has, None if it will not tell."""
        self._open(self.places.main)
        self._client.fresh()
        news = self._client.begin_idle()
        self._idles = news is not None
        return news

    def wait_no_more(self) -> None:
        """Stop being told."""
        self._client.fresh()
        self._client.idle_check(timeout=0)
        self._client.idle_done()

    def full(self) -> str | None:
        """Return what the server says about a mailbox that has no room left, else None."""
        if not self._client.has_capability("QUOTA"):
            return None
        quotas = _unless_refused(self._client.quotas, self.places.main)
        for name, usage, limit in quotas or ():
            if usage + (_ROOM_KIB if name == "STORAGE" else 1) > limit:
                return f"{name} {usage} of {limit}"
        return None

    def _open(self, folder: str) -> bool:
        """Open *folder* read-only; without the main folder there is nothing to say."""
        if folder in self._missing:
            return False
        self._client.fresh()
        if folder == self.places.main:
            self._client.select_folder(folder, readonly=True)
        elif _unless_refused(self._client.select_folder, folder, readonly=True) is None:
            self._missing.add(folder)  # a configured folder that is not there, or not ours to see
            return False
        return True

    def _of(self, token: str, folder: str, *, thorough: bool) -> list[Mail]:
        uids = self._search(self._criteria(token))
        if not uids and thorough:
            uids = self._client.raw_search("ALL")[-_NEWEST:]
        return [mail for mail in self._read(folder, uids) if mail.token.text == token]

    def _criteria(self, token: str) -> list[list[Any]]:
        """Return searches, the likeliest first."""
        fallback = ["OR", ["HEADER", "MESSAGE-ID", token], ["HEADER", TOKEN_HEADER.upper(), token]]
        ladder: list[list[Any]] = [["SUBJECT", token], fallback]
        return [["X-GM-RAW", f"subject:{token}"], *ladder] if self._gmail else ladder

    def _own_criteria(self, prefix: str) -> list[list[Any]]:
        ours: list[Any] = ["HEADER", TOKEN_HEADER.upper(), ""]
        if not prefix or not prefix.isascii():
            return [["UNDELETED", *ours]]
        ladder: list[list[Any]] = [["UNDELETED", "OR", ["SUBJECT", prefix], ours]]
        raw = ["X-GM-RAW", 'subject:"' + prefix.replace('"', " ") + '"']
        return [raw, *ladder] if self._gmail else ladder

    def _search(self, ladder: list[list[Any]]) -> list[int]:
        """Return the UIDs of the first search that finds any; one that is refused finds none."""
        refused = False
        for criteria in ladder:
            uids = _unless_refused(self._client.raw_search, criteria)
            if uids:
                return uids
            refused = refused or uids is None
        return self._client.raw_search("ALL")[-_NEWEST:] if refused else []

    def _read(self, folder: str, uids: list[int]) -> list[Mail]:
        """Return the mails of ours among *uids*."""
        mails = []
        for begin in range(0, len(uids), _NEWEST):
            self._client.fresh()
            what = ["INTERNALDATE", _HEADER, *(["X-GM-MSGID"] if self._gmail else [])]
            for uid, facts in self._client.fetch(uids[begin : begin + _NEWEST], what).items():
                header = read_header(_header_of(facts), self._key)
                if header is not None:
                    when = _ms(facts.get(b"INTERNALDATE"))
                    same = facts.get(b"X-GM-MSGID")
                    mails.append(Mail(uid, header.token, folder, when, header.hops_ms, same))
        return mails

    def _still(self, folder: str, mails: list[Mail]) -> list[int]:
        """Return the UIDs that are still these mails, now that the folder is open for changes.

        A folder that was made anew since (UIDVALIDITY) may have given them to mail of others.
        """
        known = {mail.uid: mail.token.text for mail in mails}
        now = self._read(folder, list(known))
        return [mail.uid for mail in now if known.get(mail.uid) == mail.token.text]

    def _expunge(self, uids: list[int]) -> None:
        self._client.add_flags(uids, [b"\\Deleted"], silent=True)
        if self._client.has_capability("UIDPLUS"):
            self._client.uid_expunge(uids)
        elif set(self._client.raw_search("DELETED")) <= set(uids):
            # EXPUNGE takes what anyone has marked: only when that is ours alone.  Else the mark
            # must do, and the mail goes with the next EXPUNGE of whoever marked the others.
            self._client.expunge()

    def _empty_trash(self, trash: str, mails: list[Mail]) -> None:
        self._client.select_folder(trash)
        uids = []
        for mail in mails:
            found = self._search(self._criteria(mail.token.text))
            uids += [copy.uid for copy in self._read(trash, found) if copy.same == mail.same]
        if uids:
            self._expunge(uids)


def _unless_refused(command: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
    """Return what a command returns, None if the server refuses it; a lost connection raises."""
    try:
        return command(*args, **kwargs)
    except imaplib.IMAP4.abort:
        raise
    except imaplib.IMAP4.error:
        return None


def _by_folder(mails: list[Mail]) -> Iterator[tuple[str, list[Mail]]]:
    folders: dict[str, list[Mail]] = {}
    for mail in mails:
        folders.setdefault(mail.folder, []).append(mail)
    yield from folders.items()


def _header_of(facts: dict[bytes, Any]) -> bytes:
    """Return the header among what FETCH told; servers write its name as they like."""
    found = (value for name, value in facts.items() if name.upper().startswith(b"BODY["))
    return next((value for value in found if isinstance(value, bytes)), b"")


def _ms(when: object) -> int | None:
    return int(when.timestamp() * 1000) if isinstance(when, datetime) else None
