"""A real PostgreSQL server on loopback, with a password, gone with the tests however they end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from mailstream.ports import free_port
from tests.kit.processes import ROOT, wait_until

PASSWORD: Final = "geheim-4711-never-shown"
USER: Final = "mail"
WITHIN_S: Final = 60.0
_UNPACKED: Final = ROOT / ".tools" / "postgres"

# Its standard input is a pipe that only the tests hold open; without its folder a server ends.
_WATCH: Final = 'cat >/dev/null; kill -QUIT "$1" 2>/dev/null; rm -rf "$2"'


class PostgresServer:
    """One server; it refuses to run as root, so then it runs as nobody."""

    def __init__(self, folder: Path) -> None:
        """Make an empty cluster in *folder*, which must be reachable for others."""
        self.folder, self.port = folder, free_port("127.0.0.1")
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self._bin, self._environ = self._programs()
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._call(
            "initdb", "-D", folder / "data", "-U", USER, "-A", "scram-sha-256",
            "--pwfile", secret, "--no-locale", "--encoding=UTF8", "--no-sync",
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    def _programs(self) -> tuple[Path, dict[str, str]]:
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if installed:
            return installed[-1], environ
        found = shutil.which("postgres")
        if found is not None:
            return Path(found).resolve().parent, environ
        home = _UNPACKED
        if self._as:  # nobody may not look into a folder of ours
            home = self.folder / "programs"
            shutil.copytree(_UNPACKED, home, symlinks=True)
        libraries = {path.parent for path in (home / "usr/lib").rglob("*.so.*")}
        (programs,) = (home / "usr/lib/postgresql").glob("*/bin")
        return programs, environ | {"LD_LIBRARY_PATH": ":".join(map(str, sorted(libraries)))}

    def _call(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._bin.resolve() / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self._environ,
            cwd="/",
            **self._as,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "jit": "off",
            "max_connections": 50,
        }
        with (self.folder / "server.log").open("ab") as said:
            self._process = subprocess.Popen(
                [
                    self._bin.resolve() / "postgres",
                    "-D",
                    self.folder / "data",
                    *[
                        part
                        for name, value in settings.items()
                        for part in ("-c", f"{name}={value}")
                    ],
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=self._environ,
                cwd="/",
                start_new_session=True,
                **self._as,
            )
        self._watch = subprocess.Popen(
            ["sh", "-c", _WATCH, "watch", str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        wait_until(self._answers, "PostgreSQL answers", within_s=WITHIN_S)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it in order; connections are cut."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End it at once, as after a loss of power."""
        self._end(signal.SIGQUIT)

    def _end(self, number: signal.Signals) -> None:
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(WITHIN_S)
            self._process = None

    def dsn(self, database: str) -> str:
        """Return the connection string of a database."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Yield an empty database; in the end it is gone."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield Database(self.dsn(name))
        finally:
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Database:
    """One database, asked by a client of its own."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with psycopg.connect(self.dsn) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description is not None else []

    def value(self, query: str, *parameters: Any) -> Any:
        """Return the only value of a query."""
        ((found,),) = self.rows(query, *parameters)
        return found

    def count(self, table: str) -> int:
        """Return how many rows a table has; 0 if it is not there yet or nobody answers."""
        try:
            return int(self.value(f"SELECT count(*) FROM {table}"))
        except (psycopg.errors.UndefinedTable, psycopg.OperationalError):
            return 0


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Yield a running server; in the end it and its data are gone."""
    folder = Path(tempfile.mkdtemp(prefix="mailstream-postgres-"))
    folder.chmod(0o755)
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.crash()
    finally:
        shutil.rmtree(folder)
