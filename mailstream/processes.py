"""Processes of this machine: telling one from another, and ending with the one that started us."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SUPERVISOR: Final = "MAILSTREAM_SUPERVISOR"
"""Set for the parts of ``mailstream run`` only: the process id of their supervisor."""

_PR_SET_PDEATHSIG: Final = 1


def identity(pid: int) -> str | None:
    """Return what tells process *pid* from a later one of the same number; None if it ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _identity_by_ps(pid)
    except ProcessLookupError:
        return None
    state, started_ticks = fields[0], fields[19]  # proc(5): fields 3 and 22
    return None if state in "ZX" else f"{boot}:{started_ticks}"


def _identity_by_ps(pid: int) -> str | None:
    """As :func:`_identity`, where there is no /proc."""
    answer = subprocess.run(  # noqa: S603  a fixed command, without a shell
        ["ps", "-o", "state=,lstart=", "-p", str(pid)],  # noqa: S607  wherever POSIX has it
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def follow_supervisor(environ: Mapping[str, str]) -> None:
    """End this process, in order, when the supervisor named in *environ* has ended.

    Linux sends SIGTERM at the supervisor's death (prctl(2), PR_SET_PDEATHSIG); elsewhere parts
    that were left behind are stopped by the next ``mailstream run``.
    """
    supervisor = environ.get(SUPERVISOR, "")
    if not supervisor.isdecimal() or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisor):  # it ended before the kernel knew
        sys.exit(1)
