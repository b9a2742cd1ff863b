"""One run per data folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailstream.running.folder_lock import folder_lock
from pipeline.core.errors import ConfigError


def test_a_second_run_is_refused_in_one_sentence_that_names_the_first(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(ConfigError) as refused, folder_lock(tmp_path):
        pass
    [sentence] = refused.value.mistakes
    assert sentence == (
        f"data_dir: mailstream runs on {tmp_path} already (process {os.getpid()}): "
        "stop it first, or use another data_dir"
    )


def test_the_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with folder_lock(tmp_path / "made" / "on the way"):
            pass


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="data_dir: cannot use"), folder_lock(tmp_path / "file"):
        pass
