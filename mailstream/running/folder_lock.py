"""One ``mailstream run`` per data folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import ConfigError


@contextmanager
def folder_lock(data_dir: Path) -> Iterator[None]:
    """Hold the lock of *data_dir*; the kernel releases it even after ``kill -9``.

    Raises:
        ConfigError: Another run holds it, or the folder cannot be used.
    """
    path = data_dir / "run" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise ConfigError([f"data_dir: cannot use {data_dir}: {exc.strerror}"]) from exc
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "another one"
            mistake = (
                f"data_dir: mailstream runs on {data_dir} already (process {holder}): "
                "stop it first, or use another data_dir"
            )
            raise ConfigError([mistake]) from exc
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
