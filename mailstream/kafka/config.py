"""The files of the local broker's folder: its settings, its logging, its last words."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline.core.topics import MAX_MESSAGE_BYTES

_SETTINGS: Final = f"""\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENTS:PLAINTEXT
auto.create.topics.enable=false
# One node: one copy of Kafka's own topics, and few partitions to open at a start.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# There is no fleet of consumers to wait for.
group.initial.rebalance.delay.ms=0
# An abandoned open transaction hides all later commits of a partition until it is cleaned up.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
message.max.bytes={MAX_MESSAGE_BYTES}
# The default, 128 MB of the heap, is for thousands of compacted partitions.
log.cleaner.dedupe.buffer.size=16777216
# After a kill the node must wait until its own old session has ended before it may register.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
"""

_LOGGING: Final = """\
appenders=file
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={log}
appender.file.filePattern={log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %c{{1}}: %m%n
appender.file.policies.type=Policies
appender.file.policies.start.type=OnStartupTriggeringPolicy
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
rootLogger.level=INFO
rootLogger.appenderRefs=file
rootLogger.appenderRef.file.ref=file
"""


def write(folder: Path, *, host: str, port: int, controller_port: int) -> None:
    """Write the broker's settings and logging files into *folder*."""
    (folder / "logs").mkdir(exist_ok=True)
    addresses = {
        "listeners": f"CLIENTS://{host}:{port},CONTROLLER://{host}:{controller_port}",
        "advertised.listeners": f"CLIENTS://{host}:{port}",
        "controller.quorum.voters": f"1@{host}:{controller_port}",
        "log.dirs": _escaped(str(folder / "log")),
    }
    lines = "".join(f"{name}={value}\n" for name, value in addresses.items())
    properties(folder).write_text(_SETTINGS + lines)
    log4j(folder).write_text(_LOGGING.format(log=_escaped(str(server_log(folder)))))


def settings() -> dict[str, str]:
    """Return the settings that are the same for every broker of ours, by name."""
    lines = (line for line in _SETTINGS.splitlines() if not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def properties(folder: Path) -> Path:
    """Return where the broker's settings are."""
    return folder / "server.properties"


def log4j(folder: Path) -> Path:
    """Return where the broker's logging is set."""
    return folder / "log4j2.properties"


def server_log(folder: Path) -> Path:
    """Return where the broker logs."""
    return folder / "logs" / "server.log"


def output(folder: Path) -> Path:
    """Return where the JVM's own output goes."""
    return folder / "logs" / "output.log"


def is_formatted(folder: Path) -> bool:
    """Return whether the log folder has its identity (the last file that formatting writes)."""
    return (folder / "log" / "meta.properties").exists()


def last_words(folder: Path) -> str:
    """Return why the broker ended, as far as its logs tell in one line."""
    for path in (server_log(folder), output(folder)):
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        wrong = [at for at, line in enumerate(lines) if " ERROR " in line or " FATAL " in line]
        if wrong:
            # The exception stands in the line after; it says more than "fatal exception".
            said = lines[wrong[-1] : wrong[-1] + 2]
            return f"{said[-1].strip()} (in {path})"
        if path == output(folder) and lines:
            return f"{lines[-1].strip()} (in {path})"
    return f"see {server_log(folder)}"


def _escaped(value: str) -> str:
    r"""Escape *value* for a Java properties file, where ``\`` begins an escape."""
    return value.replace("\\", "\\\\")
