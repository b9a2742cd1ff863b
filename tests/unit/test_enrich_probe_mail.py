"""Mail of probes that the MTAs report: tagged, and no customer's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.app import probe_accounts
from pipeline.core.batch import TopicPartition
from pipeline.core.errors import ConfigError
from pipeline.core.posted import PostedEvent
from pipeline.enrich.probes import ProbeAccounts
from pipeline.kit.settings_load import load
from producers.privacy_rules import privacy_rules
from tests.kit.enrich import ZONEMTA, Phase1, frames, mail, raw, rows

KEY = "privacy: {hash_key: a-key-that-nobody-guesses"
ACCOUNT = "Probe@Example.org"


def configured(tmp_path: Path, privacy: str = f"{KEY}}}") -> tuple[Phase1, Any]:
    """Return a phase 1 that knows one account, and what ingest makes of an event before."""
    file = tmp_path / "mailstream.yaml"
    file.write_text(f"probe: {{accounts: ['{ACCOUNT}']}}\n{privacy}\n")
    settings = load(file, {})
    rules = privacy_rules(settings)
    tps = ZONEMTA, TopicPartition("mail.raw.haraka", 1)
    return Phase1(*tps, probes=probe_accounts(settings)), rules


def stored(rules: Any, **fields: Any) -> dict[str, Any]:
    """Return an event as ingest stores it."""
    event = PostedEvent(**{name.replace("from_x", "from_"): one for name, one in fields.items()})
    rules.apply(event, "zonemta")
    kept = {name: getattr(event, name) for name in event.__struct_fields__}
    return {name.rstrip("_"): one for name, one in kept.items() if one not in (None, False)}


@pytest.mark.parametrize(
    "privacy",
    [
        f"{KEY}}}",
        f"{KEY}, keep_recipients: true}}",
        f"{KEY}, pseudonymise: [user]}}",
        "",
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        {"from_address": "probe@example.org"},
        {"from_x": "<Probe@EXAMPLE.ORG>"},
        {"from_user": "probe", "from_domain": "example.org"},
        {"user": "probe@example.org", "from_address": "other@example.org"},
        {"from_address": "ann@x.org", "to": "probe@example.org"},
        {"from_address": "ann@x.org", "to": "<PROBE@example.org>"},
        {"from_address": "", "to": "probe@example.org"},
        {"from_address": "ann@x.org", "to_user": "probe@example.org", "to_domain": "x.org"},
    ],
)
def test_mail_from_or_to_an_account_is_a_probe(
    tmp_path: Path, fields: dict[str, str], privacy: str
) -> None:
    phase1, rules = configured(tmp_path, privacy)
    made = phase1.event(mail(user=None, to_domain=None) | stored(rules, **fields))
    assert made["is_probe"] is True


@pytest.mark.parametrize(
    "fields",
    [
        {"from_address": "probe2@example.org"},
        {"from_address": "probe@example.com"},
        {"from_address": "ann@x.org", "to": "none@example.org"},
        {"from_address": "ann@x.org", "to_domain": "example.org"},
        {"is_probe": True},
    ],
)
def test_other_mail_is_not(tmp_path: Path, fields: dict[str, Any]) -> None:
    phase1, rules = configured(tmp_path)
    assert "is_probe" not in phase1.event(mail(user=None, to_domain=None) | stored(rules, **fields))


def test_mail_of_probes_is_in_no_family_of_customers(tmp_path: Path) -> None:
    phase1, rules = configured(tmp_path)
    probe = stored(rules, from_address=ACCOUNT, event_type="bounced", response_code=550)
    result = phase1.commit([raw(mail(user=None) | probe, 0), raw(mail(), 1)])
    found = rows(frames(result).values())
    assert {key[1] for key in found if key[0] == "user"} == {("alice",)}
    assert {key[0] for key in found if key[2] == "bounced"} == {"node", "client_ip"}
    assert phase1.tally.counters["mail_failures_total"] == {}
    assert sum(phase1.tally.counters["mail_events_total"].values()) == 2


def test_without_accounts_there_are_no_probes_and_no_key_is_made(tmp_path: Path) -> None:
    file = tmp_path / "mailstream.yaml"
    file.write_text(f"data_dir: {tmp_path / 'data'}")
    assert not probe_accounts(load(file, {}))
    assert not (tmp_path / "data").exists()
    assert not ProbeAccounts().receive(PostedEvent(to_hash="x", to_domain="y"))


@pytest.mark.parametrize("text", ["probe", "@x.org", "a@", "a b@x.org", "<a@x.org>", "a@x\x01"])
def test_what_is_no_address_is_a_mistake_that_names_its_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mailstream.yaml"
    written = text.replace("\x01", "\\x01")
    file.write_text(f'probe: {{accounts: ["a@x.org", "{written}"]}}')
    with pytest.raises(ConfigError, match=r"probe\.accounts\[1\]: expected a mail address"):
        load(file, {})
