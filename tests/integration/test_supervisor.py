"""Real processes under the supervisor: restarted, stopped, never left behind."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailstream.processes import SUPERVISOR, identity
from mailstream.running.console import LineConsole
from mailstream.running.supervisor import Part, Supervisor, left_behind, stop_left_behind

pytestmark = pytest.mark.integration

WAIT_S = 20.0
# says when it is up, and ends in order when asked
GOOD = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile 1: signal.pause()"


def python(name: str, code: str) -> Part:
    return Part(name, (sys.executable, "-c", code))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  another process brings it about
            await asyncio.sleep(0.01)


class Scene:
    """A supervisor, what it says, and its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = io.StringIO()
        self.supervisor = Supervisor(folder, LineConsole(self.said))

    def log(self, name: str) -> str:
        path = self.folder / "log" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    async def start(self, part: Part) -> int:
        """Start *part* and return its process id once it is up."""
        self.supervisor.start(part)
        await until(lambda: "up" in self.log(part.name))
        pid = self.supervisor.pid(part.name)
        assert pid is not None
        return pid


def test_a_part_that_is_killed_is_started_again_and_the_reason_is_told(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Scene(tmp_path)
        first = await stage.start(python("worker-1", GOOD))
        os.kill(first, signal.SIGKILL)
        await until(lambda: stage.log("worker-1").count("up") == 2)
        second = stage.supervisor.pid("worker-1")
        assert second not in {None, first}
        assert "worker-1 was killed by SIGKILL after" in stage.said.getvalue()
        await stage.supervisor.stop(["worker-1"])
        assert stage.supervisor.pid("worker-1") is None

    asyncio.run(scene())


def test_a_part_that_keeps_failing_is_tried_again_ever_more_slowly(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Scene(tmp_path)
        stage.supervisor.start(python("ingest", "import sys; sys.exit('no luck')"))
        await until(lambda: stage.said.getvalue().count("ended with status 1 (no luck)") >= 3)
        for wait in ("0.2 s", "0.4 s", "0.8 s"):
            assert f"starting it again in {wait}" in stage.said.getvalue()
        await stage.supervisor.stop(["ingest"])
        assert not stage.supervisor.refused.done()

    asyncio.run(scene())


def test_a_part_whose_configuration_is_unusable_says_why(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Scene(tmp_path)
        code = (
            "import sys; print('mailstream.yaml: metrics.listen: no', file=sys.stderr); sys.exit(2)"
        )
        stage.supervisor.start(python("worker-1", code))
        async with asyncio.timeout(WAIT_S):
            assert await stage.supervisor.refused == "worker-1: mailstream.yaml: metrics.listen: no"
        await stage.supervisor.stop(["worker-1"])

    asyncio.run(scene())


def test_a_program_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Scene(tmp_path)
        stage.supervisor.start(Part("worker-1", (str(tmp_path / "nowhere"),)))
        await until(lambda: stage.said.getvalue().count("could not be started") >= 2)
        await stage.supervisor.stop(["worker-1"])

    asyncio.run(scene())


def test_a_part_that_does_not_stop_in_time_is_killed_and_that_is_told(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Scene(tmp_path)
        pid = await stage.start(python("worker-1", STUBBORN))
        await stage.supervisor.stop(["worker-1"], within_s=0.3)
        assert identity(pid) is None
        assert "worker-1 did not stop within" in stage.said.getvalue()

    asyncio.run(scene())


def test_a_second_signal_ends_everything_while_the_first_is_still_waited_for(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        stage = Scene(tmp_path)
        pid = await stage.start(python("worker-1", STUBBORN))
        stopping = asyncio.create_task(stage.supervisor.stop(["worker-1"]))
        await asyncio.sleep(0)
        stage.supervisor.kill()
        async with asyncio.timeout(WAIT_S):
            await stopping
        assert identity(pid) is None

    asyncio.run(scene())


def test_a_part_does_not_get_the_terminal_s_signals(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Scene(tmp_path)
        pid = await stage.start(python("worker-1", GOOD))
        assert os.getsid(pid) == pid != os.getsid(0)
        await stage.supervisor.stop(["worker-1"])

    asyncio.run(scene())


def test_restarting_lets_every_part_end_in_order_and_come_again(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Scene(tmp_path)
        await stage.start(python("worker-1", GOOD))
        stage.supervisor.restart()
        await until(lambda: stage.log("worker-1").count("up") == 2)
        assert "worker-1 ended although nobody asked it to" in stage.said.getvalue()
        await stage.supervisor.stop(["worker-1"])

    asyncio.run(scene())


def test_what_a_dead_supervisor_left_is_found_and_stopped_by_the_next(tmp_path: Path) -> None:
    async def scene() -> None:
        first = Scene(tmp_path)
        pids = {
            "worker-1": await first.start(python("worker-1", GOOD)),
            "ingest": await first.start(python("ingest", GOOD)),
        }
        assert left_behind(tmp_path) == pids
        for kept in first.supervisor._kept.values():
            kept.stopping.set()  # as if its supervisor were gone: no one starts it again
        await stop_left_behind(left_behind(tmp_path))
        await until(lambda: left_behind(tmp_path) == {})
        await first.supervisor.stop(pids)

    asyncio.run(scene())


@pytest.mark.parametrize(
    "record", ["", "[]", '{"a": 1}', '{"a": [1]}', '{"a": ["x", "y"]}', "null"]
)
def test_a_damaged_record_means_that_nothing_is_known(tmp_path: Path, record: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "parts").write_text(record)
    assert left_behind(tmp_path) == {}


def test_a_process_that_only_has_the_number_of_a_part_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "parts").write_text(f'{{"worker-1": [{os.getpid()}, "another boot:1"]}}')
    assert left_behind(tmp_path) == {}


PARENT = """
import os, subprocess, sys, time
code = "import os, signal; from mailstream.processes import follow_supervisor; "
code += "follow_supervisor(os.environ); print(os.getpid(), flush=True); signal.pause()"
env = {**os.environ, sys.argv[1]: str(os.getpid())}
subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True)
time.sleep(1000)
"""


def test_a_part_ends_when_its_supervisor_is_killed() -> None:
    command = [sys.executable, "-c", PARENT, SUPERVISOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        known = identity(child)
        parent.kill()
    deadline = time.monotonic() + WAIT_S
    while identity(child) == known:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_part_whose_supervisor_is_gone_already_does_not_start() -> None:
    code = "import os; from mailstream.processes import follow_supervisor; follow_supervisor(os.environ)"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, SUPERVISOR: "1"}, check=False
    )
    assert ended.returncode == 1
