"""The key of the privacy hashes: one per data folder, whoever comes first."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.core.errors import ConfigError, MailstreamError
from pipeline.kit.privacy_key import privacy_key
from pipeline.kit.settings import PrivacySettings, Settings

RACE = """
import sys
from pathlib import Path
from pipeline.kit.privacy_key import privacy_key
from pipeline.kit.settings import Settings
print("up", flush=True)
sys.stdin.readline()
print(privacy_key(Settings(data_dir=Path(sys.argv[1]))).hex())
"""


def test_the_configured_key_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    privacy = PrivacySettings(hash_key=SecretStr("sesame"))
    assert privacy_key(Settings(data_dir=tmp_path / "new", privacy=privacy)) == b"sesame"
    assert not (tmp_path / "new").exists()


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new")
    key = privacy_key(settings)
    assert len(key) == 32
    assert privacy_key(settings) == key
    file = tmp_path / "new" / "privacy.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list((tmp_path / "new").iterdir()) == [file]
    assert privacy_key(Settings(data_dir=tmp_path / "other")) != key


def test_processes_that_start_together_read_one_key(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path / "new")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "up\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    keys = {racer.communicate()[0].strip() for racer in racers}
    assert len(keys) == 1
    assert len(bytes.fromhex(keys.pop())) == 32


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"g" * 64])
def test_a_broken_key_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "privacy.key"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="expected 64 hexadecimal digits"):
        privacy_key(Settings(data_dir=tmp_path))
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MailstreamError, match="the key cannot be read or made"):
        privacy_key(Settings(data_dir=tmp_path / "file" / "below"))
