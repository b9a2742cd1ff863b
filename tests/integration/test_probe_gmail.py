"""The receiving leg against a server with Gmail's ways."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from producers.sources.probe.token import new_token
from tests.kit.gmail_imap import GERMAN, INBOX, JAPANESE, gmail
from tests.kit.probe_legs import PREFIX, Legs, in_a_loop, legs, until

pytestmark = pytest.mark.integration


def token_of(probe: Legs) -> str:
    return new_token(probe.key, "route", probe.means.clock.now_ms())


@pytest.mark.parametrize("names", [GERMAN, JAPANESE])
@pytest.mark.parametrize("raw_search", [True, False])
@pytest.mark.parametrize(("where", "junk"), [("inbox", False), ("all", False), ("spam", True)])
def test_a_mail_is_found_by_flags_in_whatever_language_and_deleted_for_good(
    names: Sequence[str], raw_search: bool, where: str, junk: bool
) -> None:
    @in_a_loop
    async def scenario() -> None:
        with gmail(names, raw_search=raw_search) as (box, account), legs() as probe:
            token = token_of(probe)
            labels = {"inbox": [INBOX], "all": [], "spam": [box.spam]}[where]
            box.put("of somebody else", INBOX)
            box.put(f"{PREFIX} route {token}", *labels)
            got = await probe.receive(account, token)
            assert got.found is not None
            folder = {"inbox": INBOX, "all": box.all_mail, "spam": box.spam}[where]
            assert (got.found.folder, got.found.junk, got.found.copies) == (folder, junk, 1)
            assert got.found.deleted
            assert [mail.header("Subject") for mail in box.mails] == ["of somebody else"]
            assert any("X-GM-RAW" in search for search in box.searches)

    scenario()


@in_a_loop
async def test_german_folders_without_flags_are_known_by_name() -> None:
    with gmail(flags=False) as (box, account), legs() as probe:
        token = token_of(probe)
        box.put(token)
        got = await probe.receive(account, token)
        assert got.found is not None
        assert got.found.folder == box.all_mail


@in_a_loop
async def test_a_lost_subject_is_made_up_for_by_the_message_id() -> None:
    with gmail() as (box, account), legs() as probe:
        token = token_of(probe)
        box.put("rewritten", INBOX, Message_ID=f"<{token}@example.test>")
        got = await probe.receive(account, token)
        assert got.found is not None


@in_a_loop
async def test_idle_tells_of_a_mail_that_comes_while_waiting() -> None:
    with gmail() as (box, account), legs() as probe:
        token = token_of(probe)
        waiting = asyncio.create_task(probe.receive(account, token))
        await until(lambda: box.waiting, "it waits in its inbox")
        box.put(token, INBOX)
        got = await waiting
        assert got.found is not None
        assert got.found.folder == INBOX


@in_a_loop
async def test_late_mail_is_told_once_though_two_folders_show_it() -> None:
    with gmail() as (box, account), legs() as probe:
        late, spam = token_of(probe), token_of(probe)
        box.put(f"{PREFIX} route {late}", INBOX)
        box.put(f"{PREFIX} route {spam}", box.spam)
        box.put(f"{PREFIX} news of somebody else", INBOX)
        found = await probe.others(account, delete=True)
        assert {(mail.token, mail.folder, mail.copies) for mail in found} == {
            (late, INBOX, 1),
            (spam, box.spam, 1),
        }
        assert len(box.mails) == 1
