"""The life of a process: parts start in order, stop in reverse, and signals are obeyed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import MailstreamError
from pipeline.kit.service import announce, announced, outcome, serve, withdraw
from pipeline.kit.values import Address


class Recorded:
    """A part that notes what is done to it."""

    def __init__(self, name: str, story: list[str], **fails: BaseException) -> None:
        self.name = name
        self.story = story
        self.fails = fails
        self.running = asyncio.Event()

    def _do(self, what: str) -> None:
        self.story.append(f"{what} {self.name}")
        if what in self.fails:
            raise self.fails[what]

    async def start(self) -> None:
        self._do("start")

    async def run(self) -> None:
        self._do("run")
        self.running.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.story.append(f"ended {self.name}")

    async def stop(self) -> None:
        self._do("stop")


async def told_to_stop(*parts: Recorded) -> None:
    serving = asyncio.create_task(serve(parts))
    for part in parts:
        await part.running.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await serving


def test_parts_start_in_order_and_stop_in_reverse() -> None:
    story: list[str] = []

    async def scenario() -> None:
        await told_to_stop(Recorded("a", story), Recorded("b", story))

    asyncio.run(scenario())
    assert story[:4] == ["start a", "start b", "run a", "run b"]
    assert sorted(story[4:6]) == ["ended a", "ended b"]
    assert story[6:] == ["stop b", "stop a"]


def test_what_was_started_is_stopped_when_another_part_cannot_start() -> None:
    story: list[str] = []

    async def scenario() -> None:
        broken = Recorded("b", story, start=MailstreamError("no port"))
        await serve([Recorded("a", story), broken, Recorded("c", story)])

    with pytest.raises(MailstreamError, match="no port"):
        asyncio.run(scenario())
    assert story == ["start a", "start b", "stop a"]


def test_a_signal_ends_a_start_that_waits() -> None:
    story: list[str] = []

    class Waiting(Recorded):
        async def start(self) -> None:
            self.running.set()
            await asyncio.Event().wait()

    async def scenario() -> None:
        waiting = Waiting("b", story)
        serving = asyncio.create_task(serve([Recorded("a", story), waiting]))
        await waiting.running.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving

    asyncio.run(scenario())
    assert story == ["start a", "stop a"]


def test_the_failure_of_one_part_stops_all_and_is_raised() -> None:
    story: list[str] = []

    async def scenario() -> None:
        await serve([Recorded("a", story), Recorded("b", story, run=KeyError("bug"))])

    with pytest.raises(KeyError):
        asyncio.run(scenario())
    assert story[-2:] == ["stop b", "stop a"]


def test_a_part_that_does_not_stop_keeps_no_other_from_it() -> None:
    story: list[str] = []

    async def scenario() -> None:
        broken = Recorded("b", story, stop=OSError("stuck"))
        await told_to_stop(Recorded("a", story), broken)

    with pytest.raises(MailstreamError, match="did not stop in order: b"):
        asyncio.run(scenario())
    assert story[-2:] == ["stop b", "stop a"]


def test_a_part_that_takes_too_long_to_stop_is_given_up() -> None:
    class Stuck(Recorded):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    async def scenario() -> None:
        part = Stuck("a", [], run=MailstreamError("over"))
        with pytest.raises(MailstreamError, match="over"):
            await serve([part], deadline_s=0.01)

    asyncio.run(scenario())


def test_a_part_that_ends_by_itself_ends_the_process() -> None:
    class Short(Recorded):
        async def run(self) -> None:
            return

    async def scenario() -> None:
        await serve([Short("a", [])])

    with pytest.raises(MailstreamError, match="ended although nobody asked it to: a"):
        asyncio.run(scenario())


SLOW = """
import asyncio
from pipeline.kit.service import serve

class Slow:
    name = "slow"
    async def start(self): print("up", flush=True)
    async def run(self): await asyncio.Event().wait()
    async def stop(self):
        print("stopping", flush=True)
        await asyncio.Event().wait()

asyncio.run(serve([Slow()]))
"""


def test_a_second_signal_ends_a_process_that_is_slow_to_stop() -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 1


def test_an_outcome_is_the_result_or_the_exception_but_never_a_cancellation() -> None:
    async def works() -> int:
        return 1

    async def fails() -> int:
        raise KeyError("x")

    async def cancelled() -> int:
        raise asyncio.CancelledError

    assert asyncio.run(outcome(works())) == 1
    assert isinstance(asyncio.run(outcome(fails())), KeyError)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(outcome(cancelled()))


def test_an_announcement_tells_where_a_service_listens(tmp_path: Path) -> None:
    assert announced(tmp_path) == {}
    announce(tmp_path, "ingest", Address("127.0.0.1", 1234))
    announce(tmp_path, "worker-1", Address("::1", 80))
    found = announced(tmp_path)
    assert set(found) == {"ingest", "worker-1"}
    assert found["ingest"].address == Address("127.0.0.1", 1234)
    assert found["worker-1"].address == Address("::1", 80)
    assert found["ingest"].pid == os.getpid()
    written = json.loads((tmp_path / "run" / "ingest.json").read_text())
    assert written == {"pid": os.getpid(), "address": "127.0.0.1:1234"}
    announce(tmp_path, "ingest", Address("127.0.0.1", 99))
    assert announced(tmp_path)["ingest"].address.port == 99
    withdraw(tmp_path, "ingest")
    withdraw(tmp_path, "ingest")
    assert set(announced(tmp_path)) == {"worker-1"}
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["worker-1.json"]


def test_the_announcement_of_a_process_that_ended_does_not_count(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "gone.json").write_text(json.dumps({"pid": ended.pid, "address": "a:1"}))
    (folder / "init.json").write_text(json.dumps({"pid": 1, "address": "a:1"}))
    for name, text in (("a", ""), ("b", "[]"), ("c", '{"pid": "x"}'), ("d", '{"pid": -1, "address": "a:1"}')):  # fmt: skip
        (folder / f"{name}.json").write_text(text)
    assert set(announced(tmp_path)) == {"init"}


def test_one_process_does_not_withdraw_what_another_announced(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ingest.json").write_text(json.dumps({"pid": 1, "address": "a:1"}))
    withdraw(tmp_path, "ingest")
    assert (folder / "ingest.json").exists()
