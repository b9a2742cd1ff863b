"""The spool: a bounded queue of records on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.batch import OutRecord
from pipeline.core.errors import MailstreamError
from producers.spool import Spool

LIMIT = 1 << 20


def record(number: int, size: int = 20) -> OutRecord:
    return OutRecord(
        b"%d " % number + b"x" * size, b"key%d" % number, [("id", b"%d" % number), ("source", b"s")]
    )


def drained(spool: Spool, most: int = 3) -> list[OutRecord]:
    found: list[OutRecord] = []
    while some := spool.peek(most):
        found += some
        spool.drop(some)
    return found


def test_records_come_out_as_they_went_in(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT, segment_bytes=300)
    records = [record(number) for number in range(20)]
    for one in records:
        assert spool.append([one]) == 1
    assert spool.records == 20
    assert len(list(tmp_path.glob("*.spool"))) > 1
    assert drained(spool) == records
    assert not spool
    assert (spool.size, spool.records) == (0, 0)
    assert not list(tmp_path.glob("*.spool"))


def test_what_a_process_left_is_found_by_the_next_and_what_it_had_read_of_a_file_too(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, LIMIT)
    records = [record(number) for number in range(5)]
    spool.append(records)
    spool.drop(spool.peek(2))
    assert spool.records == 3
    spool.close()
    again = Spool(tmp_path, LIMIT)
    assert again.records == 5
    again.append([record(5)])
    assert drained(again) == [*records, record(5)]


def test_two_processes_do_not_share_a_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    with pytest.raises(MailstreamError, match="another process"):
        Spool(tmp_path, LIMIT)
    spool.close()
    Spool(tmp_path, LIMIT).close()


def test_a_folder_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MailstreamError, match="file: cannot be used for a spool"):
        Spool(tmp_path / "file", LIMIT)


@pytest.mark.parametrize("torn", [1, 11, 13, 30])
def test_a_torn_end_costs_the_last_record_alone(tmp_path: Path, torn: int) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append([record(number) for number in range(3)])
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    path.write_bytes(path.read_bytes()[:-torn])
    again = Spool(tmp_path, LIMIT)
    assert again.damaged == 1
    assert drained(again) == [record(0), record(1)]


def test_a_flipped_bit_ends_the_file_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append([record(number) for number in range(3)])
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert drained(Spool(tmp_path, LIMIT)) == [record(0), record(1)]


def test_a_full_spool_takes_what_fits_and_room_comes_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000, segment_bytes=200)
    kept = spool.append([record(number) for number in range(100)])
    assert 0 < kept < 100
    assert spool.size <= 1000
    assert spool.append([record(0, 900)]) == 0
    assert drained(spool) == [record(number) for number in range(kept)]
    assert spool.append([record(7)]) == 1


def test_a_folder_that_is_gone_loses_records_and_not_the_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    (tmp_path / "spool" / "lock").unlink()
    (tmp_path / "spool").rmdir()
    assert spool.append([record(1)]) == 0
    assert not spool


def test_files_that_are_gone_are_counted_as_damaged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    assert spool.append([record(1)]) == 1
    shutil.rmtree(tmp_path / "spool")
    assert spool.peek(10) == []
    assert not spool
    assert spool.damaged == 1


STEPS = st.lists(st.one_of(st.integers(1, 5), st.sampled_from(["take", "restart"])), max_size=30)


@settings(deadline=None)
@given(STEPS, st.integers(1, 4))
def test_it_is_a_queue_whatever_is_done_to_it(steps: list[int | str], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), LIMIT, segment_bytes=150)
        model: deque[OutRecord] = deque()
        number = 0
        for step in steps:
            if isinstance(step, int):
                records = [record(number + place) for place in range(step)]
                number += step
                assert spool.append(records) == step
                model.extend(records)
            elif step == "take":
                some = spool.peek(most)
                assert list(some) == list(model)[: len(some)]
                assert bool(some) == bool(model)
                if some:
                    spool.drop(some)
                for _ in some:
                    model.popleft()
            else:
                spool.close()
                spool = Spool(Path(folder), LIMIT, segment_bytes=150)
                found = spool.records  # of a file that was begun, what had been read comes again
                assert found >= len(model)
                repeated = found - len(model)
                while repeated > 0:
                    some = spool.peek(repeated)
                    spool.drop(some)
                    repeated -= len(some)
        assert drained(spool) == list(model)
        spool.close()
