"""A real Postfix and a real Dovecot on loopback, as many as tests want; needs root.

Mail goes where the recipient's name says: ``probe-a`` and ``probe-b`` get it in their INBOX,
``junk`` is probe-b's Junk, ``twice`` comes to probe-b two times, ``held`` waits until
:meth:`MailTarget.release`, ``grey`` is greylisted, ``full`` has no room, and the names in
``mail_target_config`` are refused in one phase or another.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from imapclient import IMAPClient

from mailstream.ports import free_port
from producers.sources.probe.accounts import Account, ImapAccount, SmtpAccount
from tests.kit.certificates import Authority, Pair
from tests.kit.mail_target_config import (
    DOMAIN,
    PASSWORDS,
    Layout,
    Ports,
    dovecot_conf,
    main_cf,
    master_cf,
    postfix_maps,
    users,
)
from tests.kit.processes import Program, wait_until

_SBIN: Final = "/usr/sbin:/sbin"
_POSTFIX: Final = Path("/usr/lib/postfix/sbin")
_HERE: Final = "127.0.0.1"
START_S: Final = 60.0


class Greylist(socketserver.ThreadingTCPServer):
    """Postfix' policy protocol: ``grey`` must come a second time."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__((_HERE, 0), _Policy)
        self.known: set[str] = set()
        self.patience = 1
        """How often a new recipient is sent away."""
        self.asked: dict[str, int] = {}

    @property
    def port(self) -> int:
        """Return where it listens."""
        return int(self.server_address[1])


class _Policy(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        asked: dict[str, str] = {}
        for line in self.rfile:
            name, _, value = line.decode().strip().partition("=")
            if name:
                asked[name] = value
                continue
            self.wfile.write(f"action={self._action(asked.get('recipient', ''))}\n\n".encode())
            asked = {}

    def _action(self, recipient: str) -> str:
        server = self.server
        assert isinstance(server, Greylist)
        if not recipient.startswith("grey"):
            return "dunno"
        server.asked[recipient] = server.asked.get(recipient, 0) + 1
        later = server.asked[recipient] <= server.patience
        return "defer_if_permit 4.7.1 Greylisted, please come again" if later else "dunno"


class MailTarget:
    """One Postfix and one Dovecot that belong together."""

    def __init__(
        self, root: Path, authority: Authority, pair: Pair, policy: Greylist, capability: str | None
    ) -> None:
        self.authority = authority
        self.greylist = policy
        self.ports = Ports(*(free_port(_HERE) for _ in range(6)))
        self._at = Layout(
            root, self.ports, pair.cert, pair.key, authority.cert, policy.port, capability
        )
        self._postfix = Program(
            "postfix", [_POSTFIX / "master", "-d", "-c", root / "postfix"], root
        )
        conf = root / "dovecot" / "dovecot.conf"
        self._dovecot = Program("dovecot", [_dovecot(), "-F", "-c", conf], root)

    def account(self, name: str, *, address: str | None = None) -> Account:
        """Return how to send as *name* and look into that mailbox; verified, by submission."""
        user, password = f"{name}@{DOMAIN}", PASSWORDS[name]
        smtp = SmtpAccount(
            "localhost",
            self.ports.submission,
            username=user,
            password=password,
            timeout_s=30.0,
            ca_file=self.authority.cert,
            password_env=f"{name.upper().replace('-', '_')}_SMTP_PASS",
        )
        imap = ImapAccount(
            "localhost",
            self.ports.imaps,
            username=user,
            password=password,
            timeout_s=30.0,
            ca_file=self.authority.cert,
            password_env=f"{name.upper().replace('-', '_')}_IMAP_PASS",
        )
        return Account(name, address or user, smtp, imap)

    @contextmanager
    def client(self, name: str) -> Iterator[IMAPClient]:
        """Yield another client's connection to a mailbox, INBOX open for changes."""
        context = ssl.create_default_context(cafile=self.authority.cert)
        with IMAPClient("localhost", self.ports.imaps, ssl_context=context, timeout=30) as client:
            client.login(f"{name}@{DOMAIN}", PASSWORDS[name])
            client.select_folder("INBOX")
            yield client

    def at(self, name: str) -> Account:
        """Return the account of probe-b under an address with a habit of its own."""
        return replace(self.account("probe-b"), address=f"{name}@{DOMAIN}")

    def release(self) -> None:
        """Deliver what is held."""
        self._run("postsuper", "-H", "ALL")
        self._run("postqueue", "-f")

    def queued(self) -> int:
        """Return how many mails wait in Postfix."""
        said = subprocess.run(
            ["postqueue", "-c", self._at.root / "postfix", "-j"],
            env=_environment(),
            capture_output=True,
            check=True,
        )
        return len(said.stdout.splitlines())

    def start(self) -> None:
        """Write the configuration and start both."""
        root = self._at.root
        for name in ("postfix", "dovecot", "queue", "data", "state", "run/dovecot", "mail"):
            (root / name).mkdir(parents=True, exist_ok=True)
        shutil.chown(root / "mail", self._at.user, self._at.user)
        shutil.chown(root / "data", "postfix")
        (root / "dovecot" / "users").write_text(users())
        (root / "dovecot" / "dovecot.conf").write_text(dovecot_conf(self._at))
        (root / "postfix" / "main.cf").write_text(main_cf(self._at))
        (root / "postfix" / "master.cf").write_text(master_cf(self._at))
        for name, table in postfix_maps().items():
            (root / "postfix" / name).write_text(table)
        self._run("postfix", "check")
        self._dovecot.start()
        self._postfix.start()
        wait_until(self._listen, "the mail servers listen", within_s=START_S)

    def stop(self) -> None:
        """End both, however they are."""
        for program in (self._postfix, self._dovecot):
            if program.running:
                # Their children, too: they would still write into what is being removed.
                os.killpg(program.pid, signal.SIGKILL)
            program.end()

    def said(self) -> str:
        """Return the logs of both."""
        logs = [self._at.root / "postfix.log", self._at.root / "dovecot.log"]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def _run(self, command: str, *arguments: str) -> None:
        line = [command, "-c", str(self._at.root / "postfix"), *arguments]
        done = subprocess.run(line, env=_environment(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode() + self.said()

    def _listen(self) -> bool:
        for program in (self._postfix, self._dovecot):
            assert program.running, f"{program.name} ended:\n{program.said()}{self.said()}"
        return all(_listens(port) for port in vars(self.ports).values())


@contextmanager
def mail_target(*, days: int = 30, capability: str | None = None) -> Iterator[MailTarget]:
    """Yield a target that runs.

    Args:
        days: How long its certificate is good; -1 is one that expired yesterday.
        capability: What its IMAP says that it can, in place of all that it can.
    """
    assert os.geteuid() == 0, "Postfix runs as root only"
    with (
        tempfile.TemporaryDirectory(
            prefix="mailstream-mail-", ignore_cleanup_errors=True
        ) as folder,
        Greylist() as policy,
    ):
        root = Path(folder)
        root.chmod(0o755)  # Postfix and Dovecot have users of their own
        thread = threading.Thread(target=policy.serve_forever)
        thread.start()
        authority = Authority(root / "tls")
        target = MailTarget(
            root, authority, authority.issue("server", days=days), policy, capability
        )
        try:
            target.start()
            yield target
        finally:
            target.stop()
            policy.shutdown()
            thread.join()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((_HERE, port)) == 0


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{_SBIN}"}


def _dovecot() -> str:
    found = shutil.which("dovecot", path=_environment()["PATH"])
    assert found is not None, "dovecot is not here: `make test` installs it"
    return found
