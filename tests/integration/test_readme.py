"""What README.md tells people to type does what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kit.processes import ROOT, wait_until
from tests.kit.stand import stand

pytestmark = pytest.mark.integration

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [text for language, text in BLOCKS if language == "sh"]
PORT_OF_INGEST, PORT_OF_METRICS = "127.0.0.1:9780", "127.0.0.1:9781"


def test_the_first_event_is_accepted_and_shown_as_written(broker: str, tmp_path: Path) -> None:
    (post,) = (text for text in COMMANDS if "/email-events" in text)
    (look,) = (text for text in COMMANDS if "/metrics" in text)
    (promised,) = (
        text for language, text in BLOCKS if not language and "mail_user_events{" in text
    )
    with stand(broker, tmp_path) as st:
        worker = st.worker(1)
        st.wait_until_ready()
        ingest, metrics = st.ingest().address(), worker.address()
        assert ingest is not None
        assert metrics is not None
        post = post.replace(PORT_OF_INGEST, ingest)
        look = look.replace(PORT_OF_METRICS, metrics)
        for _ in range(2):  # posted again, the numbers stay
            assert json.loads(typed(post)) == {"accepted": 1, "rejected": []}
            st.wait_until_caught_up()
            wait_until(lambda: typed(look) == promised, "what is promised", within_s=30)
        total = worker.metrics() or ""
        assert 'mail_events_duplicate_total{source="zonemta"} 1' in total


def test_the_make_targets_that_are_named_exist() -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    declared = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test"} <= named <= declared


def test_the_files_that_are_named_exist() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    named = re.findall(r"`([\w./-]+/[\w.-]+\.\w+)`", README)
    assert linked
    assert [name for name in (*linked, *named) if not (ROOT / name).exists()] == []


def typed(command: str) -> str:
    """Return what a shell prints for *command*."""
    bash = shutil.which("bash")
    assert bash is not None
    answer = subprocess.run([bash, "-c", command], capture_output=True, text=True, check=False)
    return answer.stdout
