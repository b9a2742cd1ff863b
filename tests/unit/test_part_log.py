"""A part's log file: what is surfaced of it, and how it stays bounded."""

from __future__ import annotations

from pathlib import Path

import orjson

from mailstream.running.part_log import LIMIT_BYTES, MOST_BYTES, PartLog


def line(level: str, message: str, **fields: object) -> bytes:
    return orjson.dumps({"time": "t", "level": level, "message": message, **fields}) + b"\n"


def test_warnings_and_errors_are_surfaced_once_and_other_lines_never(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "logs" / "worker-1.log")
    with log.open() as file:
        file.write(line("info", "all is well") + b"Traceback (most recent call last):\n")
        file.write(line("warning", "trying again", error="refused", attempt=2))
        assert log.important() == ["trying again (error=refused, attempt=2)"]
        assert log.important() == []
        file.write(line("error", "it broke"))
        assert log.important() == ["it broke"]


def test_the_kafka_client_s_own_errors_stay_in_the_file(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "worker-1.log")
    with log.open() as file:
        file.write(line("error", "no coordinator", logger="aiokafka.consumer.group_coordinator"))
        file.write(line("error", "lost the broker", logger="pipeline.transport.driver"))
    assert log.important() == ["lost the broker"]


def test_a_line_is_surfaced_when_it_is_whole(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "worker-1.log")
    whole = line("error", "in two writes")
    with log.open() as file:
        file.write(whole[:20])
        assert log.important() == []
        file.write(whole[20:])
        assert log.important() == ["in two writes"]


def test_what_earlier_runs_wrote_is_not_surfaced(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.log"
    path.write_bytes(line("error", "long ago"))
    log = PartLog(path)
    assert log.important() == []
    assert log.last_words() == "long ago"


def test_last_words_are_the_last_line_that_says_something(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "worker-1.log")
    with log.open() as file:
        assert log.last_words() == "it said nothing"
        file.write(b"Traceback\nValueError: too small\n\n")
    assert log.last_words() == "ValueError: too small"


def test_a_file_that_grew_is_moved_aside_while_the_part_goes_on_writing(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "worker-1.log")
    with log.open() as file:
        file.write(b"x" * LIMIT_BYTES)
        log.trim()
        assert log.path.stat().st_size == LIMIT_BYTES
        file.write(b"y\n")
        log.trim()
        assert log.path.stat().st_size == 0
        assert (tmp_path / "worker-1.log.1").stat().st_size == LIMIT_BYTES + 2
        file.write(line("error", "afterwards"))
        assert log.important() == ["afterwards"]


def test_a_part_that_writes_faster_than_it_is_read_keeps_its_newest_lines(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "worker-1.log")
    with log.open() as file:
        file.write(line("error", "first") + b"-" * MOST_BYTES + b"\n" + line("error", "last"))
    assert log.important() == ["last"]


def test_a_file_that_someone_emptied_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "worker-1.log")
    with log.open() as file:
        file.write(line("error", "a longer line than the next"))
        log.important()
        log.path.write_bytes(b"")
        file.write(line("error", "next"))
        assert log.important() == ["next"]


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "worker-1.log")
    log.trim()
    assert log.important() == []
    assert log.last_words() == "it said nothing"
