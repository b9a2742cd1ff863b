"""An IMAP server with Gmail's ways: labels for folders, X-GM-RAW, localised names, word search.

A folder shows the mails that have its label; All Mail shows all but spam and trash.  Expunging a
mail from a folder takes the label off and deletes nothing, except in Spam and Trash.
"""

from __future__ import annotations

import re
import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.header import decode_header, make_header
from typing import Final

from imapclient import imap_utf7

from producers.sources.probe.accounts import Account, ImapAccount
from tests.kit.rude_mail import port_of, serving

CAPABILITY: Final = "IMAP4rev1 IDLE X-GM-EXT-1 UIDPLUS MOVE SPECIAL-USE QUOTA AUTH=PLAIN"
GERMAN: Final = ("[Gmail]/Alle Nachrichten", "[Gmail]/Spam", "[Gmail]/Papierkorb")
JAPANESE: Final = ("[Gmail]/すべてのメール", "[Gmail]/迷惑メール", "[Gmail]/ゴミ箱")
INBOX: Final = "INBOX"
_UID_STEP: Final = 1000
_PARTS: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([()])|([^\s()"]+)')


@dataclass
class GmailMail:
    """One mail."""

    number: int
    raw: bytes
    labels: set[str]
    deleted: set[str] = field(default_factory=set)
    """Folders in which it is marked."""

    def header(self, name: str) -> str:
        """Return a header, decoded."""
        return str(make_header(decode_header(str(message_from_bytes(self.raw)[name] or ""))))


class Gmail:
    """One account."""

    def __init__(self, names: Sequence[str], *, raw_search: bool, flags: bool) -> None:
        self.all_mail, self.spam, self.trash = names
        self.mails: list[GmailMail] = []
        self.searches: list[str] = []
        self.waiting = 0
        """How often a client began to wait for mail."""
        self.raw_search = raw_search
        self.flags = flags
        self.lock = threading.RLock()
        self._count = 0

    def put(self, subject: str, *labels: str, **headers: str) -> None:
        """Let a mail arrive; without a label it is in All Mail only."""
        lines = [
            f"Subject: {subject}",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        with self.lock:
            self._count += 1
            raw = ("\r\n".join(lines) + "\r\n\r\n").encode()
            self.mails.append(GmailMail(self._count, raw, set(labels)))

    @property
    def folders(self) -> list[str]:
        """Return all folders."""
        return [INBOX, self.all_mail, self.spam, self.trash]

    def within(self, folder: str) -> list[GmailMail]:
        """Return the mails that a folder shows."""
        with self.lock:
            if folder == self.all_mail:
                return [m for m in self.mails if not m.labels & {self.spam, self.trash}]
            return [m for m in self.mails if folder in m.labels]

    def uid(self, folder: str, mail: GmailMail) -> int:
        """Return the number of a mail in a folder; it has another one in each."""
        return _UID_STEP * (self.folders.index(folder) + 1) + mail.number

    def list(self) -> str:
        """Return the answer to LIST."""
        flagged = {self.all_mail: "\\All", self.spam: "\\Junk", self.trash: "\\Trash"}
        lines = ['* LIST (\\HasChildren \\NoSelect) "/" "[Gmail]"\r\n']
        for folder in self.folders:
            use = flagged.get(folder, "") if self.flags else ""
            name = imap_utf7.encode(folder).decode()
            lines.append(f'* LIST (\\HasNoChildren {use}) "/" "{name}"\r\n')
        return "".join(lines)

    def expunge(self, folder: str, uids: set[int]) -> None:
        """Expunge from a folder what is marked there."""
        with self.lock:
            for mail in self.within(folder):
                if folder not in mail.deleted or self.uid(folder, mail) not in uids:
                    continue
                mail.deleted.discard(folder)
                if folder in {self.spam, self.trash}:
                    self.mails.remove(mail)
                elif folder != self.all_mail:
                    mail.labels.discard(folder)

    def account(self, port: int) -> Account:
        """Return how to look into it."""
        imap = ImapAccount(
            "127.0.0.1", port, ssl=False, username="me@example.com", password="secret", timeout_s=10
        )
        return Account("gmail", "me@example.com", imap=imap)


class _Session:
    def __init__(self, gmail: Gmail, connection: socket.socket, over: threading.Event) -> None:
        self._gmail, self._connection, self._over = gmail, connection, over
        self._folder = INBOX
        self._commands: dict[str, Callable[[list[str], str], str]] = {
            "CAPABILITY": lambda _, __: f"* CAPABILITY {CAPABILITY}\r\n",
            "LIST": lambda _, __: gmail.list(),
            "SELECT": self._select,
            "EXAMINE": self._select,
            "SEARCH": self._search,
            "FETCH": self._fetch,
            "STORE": self._store,
            "EXPUNGE": self._expunge,
            "MOVE": self._move,
            "GETQUOTAROOT": lambda _, __: (
                '* QUOTAROOT INBOX ""\r\n* QUOTA "" (STORAGE 9 99999)\r\n'
            ),
            "LOGOUT": lambda _, __: "* BYE\r\n",
        }

    def talk(self) -> None:
        """Answer until the client has gone."""
        self._say("* OK Gimap ready\r\n")
        heard = self._connection.makefile("rb")
        for raw in heard:
            tag, _, line = raw.decode().strip().partition(" ")
            words = line.removeprefix("UID ").split()
            name = words[0].upper()
            if name == "AUTHENTICATE":
                self._say("+ \r\n")
                heard.readline()
            elif name == "IDLE":
                self._idle()
                heard.readline()
            elif name in self._commands:
                try:
                    self._say(self._commands[name](words[1:], line))
                except ValueError as exc:
                    self._say(f"{tag} BAD {exc}\r\n")
                    continue
            self._say(f"{tag} OK done\r\n")

    def _say(self, text: str) -> None:
        self._connection.sendall(text.encode())

    def _idle(self) -> None:
        before = len(self._gmail.within(self._folder))
        self._gmail.waiting += 1
        self._say("+ idling\r\n")
        while not self._over.is_set():
            if select.select([self._connection], [], [], 0.02)[0]:
                return
            now = len(self._gmail.within(self._folder))
            if now != before:
                self._say(f"* {now} EXISTS\r\n")
                before = now

    def _select(self, words: list[str], line: str) -> str:
        name = imap_utf7.decode(line.partition(" ")[2].strip('"').encode())
        if name not in self._gmail.folders:
            raise ValueError("no such folder")
        self._folder = name
        return f"* {len(self._gmail.within(name))} EXISTS\r\n"

    def _by_uid(self, numbers: str) -> list[GmailMail]:
        wanted = {int(number) for number in numbers.split(",")}
        found = self._gmail.within(self._folder)
        return [mail for mail in found if self._gmail.uid(self._folder, mail) in wanted]

    def _search(self, words: list[str], line: str) -> str:
        self._gmail.searches.append(line)
        parts = [m[1] or m[2] or m[3] or "" for m in _PARTS.finditer(line.partition("SEARCH ")[2])]
        found = []
        for mail in self._gmail.within(self._folder):
            rest = list(parts)
            matches = True
            while rest:
                matches &= self._term(rest, mail)
            if matches:
                found.append(str(self._gmail.uid(self._folder, mail)))
        return f"* SEARCH {' '.join(found)}\r\n"

    def _term(self, rest: list[str], mail: GmailMail) -> bool:
        """Take one term off *rest* and tell whether *mail* matches it."""
        term = rest.pop(0)
        if term == "(":
            matches = self._term(rest, mail)
            rest.pop(0)
            return matches
        if term == "OR":
            one, other = self._term(rest, mail), self._term(rest, mail)
            return one or other
        if term == "X-GM-RAW":
            if not self._gmail.raw_search:
                raise ValueError("could not parse command")
            return _has_words(mail.header("Subject"), rest.pop(0).removeprefix("subject:"))
        if term == "SUBJECT":
            return _has_words(mail.header("Subject"), rest.pop(0))
        if term == "HEADER":
            name, value = rest.pop(0), rest.pop(0)
            # Headers of one's own are in no index.
            return name == "MESSAGE-ID" and _has_words(mail.header(name), value)
        marked = self._folder in mail.deleted
        return {"ALL": True, "DELETED": marked, "UNDELETED": not marked}[term]

    def _fetch(self, words: list[str], line: str) -> str:
        answers = []
        for number, mail in enumerate(self._by_uid(words[0]), start=1):
            header = mail.raw.decode()
            fields = line[line.index("BODY") :].partition("]")[0].replace(".PEEK", "")
            uid = self._gmail.uid(self._folder, mail)
            facts = f'UID {uid} X-GM-MSGID {mail.number} INTERNALDATE "01-Jan-2026 00:00:00 +0000"'
            size = len(mail.raw)
            answers.append(f"* {number} FETCH ({facts} {fields}]<0> {{{size}}}\r\n{header})\r\n")
        return "".join(answers)

    def _store(self, words: list[str], line: str) -> str:
        for mail in self._by_uid(words[0]):
            mail.deleted.add(self._folder)
        return ""

    def _expunge(self, words: list[str], line: str) -> str:
        self._gmail.expunge(self._folder, {int(number) for number in words[0].split(",")})
        return ""

    def _move(self, words: list[str], line: str) -> str:
        name = imap_utf7.decode(line.partition(words[0])[2].strip().strip('"').encode())
        for mail in self._by_uid(words[0]):
            mail.labels = {name}
        return ""


def _has_words(text: str, wanted: str) -> bool:
    """Tell whether *text* has these words, whole and in this order: Gmail knows no parts of words."""
    have, want = (re.findall(r"\w+", part.lower()) for part in (text, wanted))
    return any(have[at : at + len(want)] == want for at in range(len(have) - len(want) + 1))


@contextmanager
def gmail(
    names: Sequence[str] = GERMAN, *, raw_search: bool = True, flags: bool = True
) -> Iterator[tuple[Gmail, Account]]:
    """Yield an account at Gmail, and how to look into it.

    Args:
        names: Of All Mail, Spam and Trash.
        raw_search: X-GM-RAW works.
        flags: Folders have their special-use flags.
    """
    state = Gmail(names, raw_search=raw_search, flags=flags)
    with serving(lambda connection, over: _Session(state, connection, over).talk()) as server:
        yield state, state.account(port_of(server))
