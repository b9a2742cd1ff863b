"""What is shown of the disk of the data folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from prometheus_client import CollectorRegistry

from pipeline.kit.disk import DataDisk
from pipeline.kit.telemetry import scrape


def shown(folder: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(DataDisk(folder))
    lines = scrape(registry)[0].decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.split() for line in lines if not line.startswith("#"))
    }


def test_the_room_and_the_size_of_the_disk_are_shown(tmp_path: Path) -> None:
    found = shown(tmp_path)
    assert set(found) == {"mailstream_data_free_bytes", "mailstream_data_size_bytes"}
    assert found["mailstream_data_size_bytes"] == shutil.disk_usage(tmp_path).total
    assert 0 <= found["mailstream_data_free_bytes"] <= found["mailstream_data_size_bytes"]


def test_a_folder_that_is_not_there_has_no_numbers_and_breaks_no_page(tmp_path: Path) -> None:
    assert shown(tmp_path / "not" / "there") == {}
