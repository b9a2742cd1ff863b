"""The probe's legs against a real Postfix and a real Dovecot: what arrives, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from email.header import Header

import pytest

from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import Course, ErrorClass, Found, Phase
from producers.sources.probe.mailbox import Mailbox
from producers.sources.probe.message import TOKEN_HEADER
from producers.sources.probe.receive import sweep
from producers.sources.probe.token import new_token
from tests.kit.mail_target import MailTarget, mail_target
from tests.kit.mail_target_config import LOST, REWRITTEN
from tests.kit.probe_legs import PREFIX, Legs, in_a_loop, legs, until

pytestmark = pytest.mark.integration
NOT_IN_A_ROUND = {Phase.IMAP_DNS, Phase.IMAP_CONNECT, Phase.IMAP_TLS, Phase.IMAP_AUTH}


@pytest.fixture(scope="module")
def target() -> Iterator[MailTarget]:
    with mail_target() as target:
        yield target


@pytest.fixture
def probe(target: MailTarget) -> Iterator[Legs]:
    """Yield a probe, and see that no test leaves mail for the next."""
    with legs() as probe:
        yield probe
    with target.client("probe-b") as client:
        for folder in ("INBOX", "Junk"):
            client.select_folder(folder)
            if uids := client.search():
                client.delete_messages(uids)
                client.expunge()


def put(target: MailTarget, *, folder: str = "INBOX", **headers: str) -> None:
    """Put a mail into probe-b's mailbox as if it had come."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with target.client("probe-b") as client:
        client.append(folder, ("\r\n".join([*lines, "", "body", ""])).encode())


def left(target: MailTarget, folder: str = "INBOX") -> int:
    """Return how many mails are in a folder of probe-b."""
    with target.client("probe-b") as client:
        return int(client.folder_status(folder, ["MESSAGES"])[b"MESSAGES"])


@in_a_loop
async def test_a_mail_arrives_and_every_phase_is_timed(target: MailTarget, probe: Legs) -> None:
    sent, got = await probe.round(target.account("probe-a"), target.account("probe-b"))
    assert got.found is not None
    assert (got.found.folder, got.found.junk, got.found.copies) == ("INBOX", False, 1)
    assert got.found.deleted
    assert set(sent.course.phases_ms) | set(got.course.phases_ms) == set(Phase)
    assert sent.course.reply_codes == {
        "connect": 220,
        "auth": 235,
        "mail": 250,
        "rcpt": 250,
        "data": 250,
    }
    assert sent.course.failure is None
    assert got.course.failure is None
    assert 28 < sent.course.certificate_days["smtp"] < 31
    assert 28 < got.course.certificate_days["imap"] < 31
    assert sent.sent is not None
    assert sent.sent.enhanced_status == "2.0.0"
    assert len(got.found.hops_ms) == 2
    assert left(target) == 0


@in_a_loop
async def test_junk_is_found_and_called_so(target: MailTarget, probe: Legs) -> None:
    _, got = await probe.round(target.account("probe-a"), target.at("junk"))
    assert got.found is not None
    assert (got.found.folder, got.found.junk) == ("Junk", True)
    assert left(target, "Junk") == 0


@in_a_loop
async def test_a_mail_that_comes_late_is_found_while_waiting(
    target: MailTarget, probe: Legs
) -> None:
    held = target.at("held")
    sent = await probe.send(target.account("probe-a"), held)
    waiting = asyncio.create_task(probe.receive(held, sent.token))
    await asyncio.to_thread(target.release)
    got = await waiting
    assert got.found is not None


@in_a_loop
async def test_a_mail_after_its_round_never_counts_for_the_next_one(
    target: MailTarget, probe: Legs
) -> None:
    held = target.at("held")
    early = await probe.send(target.account("probe-a"), held)
    missed = await probe.receive(held, early.token, timeout_s=0.5)
    assert missed.found is None
    assert (missed.failure.phase, missed.failure.error_class) == (
        Phase.FOUND,
        ErrorClass.NOT_FOUND,
    )
    await asyncio.to_thread(target.release)
    _, got = await probe.round(target.account("probe-a"), target.account("probe-b"))
    assert got.found is not None
    assert got.found.token != early.token
    late: list[Found] = []
    while not late:
        late = await probe.others(held, delete=True)
    assert [mail.token for mail in late] == [early.token]
    assert left(target) == 0


@in_a_loop
async def test_two_copies_are_counted_and_both_deleted(target: MailTarget, probe: Legs) -> None:
    twice = target.at("twice")
    sent = await probe.send(target.account("probe-a"), twice)
    await until(lambda: left(target) == 2)
    got = await probe.receive(twice, sent.token)
    assert got.found is not None
    assert got.found.copies == 2
    assert left(target) == 0


@in_a_loop
async def test_a_copy_that_comes_later_is_told_apart(target: MailTarget, probe: Legs) -> None:
    sent, got = await probe.round(target.account("probe-a"), target.account("probe-b"))
    assert got.found is not None
    put(target, Subject=f"{PREFIX} route {sent.token}")
    (again,) = await probe.others(target.account("probe-b"), route="route", delete=True)
    assert again.token == sent.token
    assert left(target) == 0


@pytest.mark.parametrize("route", [REWRITTEN, LOST, "own→own", "x" * 150])
@in_a_loop
async def test_a_rewritten_subject_does_not_hide_a_mail(
    target: MailTarget, probe: Legs, route: str
) -> None:
    _, got = await probe.round(target.account("probe-a"), target.account("probe-b"), route=route)
    assert got.found is not None


@pytest.mark.parametrize("folder", ["INBOX", "Junk"])
@in_a_loop
async def test_every_form_of_the_token_is_recognised(
    target: MailTarget, probe: Legs, folder: str
) -> None:
    def forms(token: str) -> list[dict[str, str]]:
        half = len(token) // 2
        return [
            {"Subject": Header(f"Fwd: {token} grün", "utf-8").encode()},
            {"Subject": f"=?utf-8?q?{token[:half]}?=\r\n =?utf-8?q?{token[half:]}?="},
            {"Subject": f"A: {token.upper()}"},
            {"Subject": "gone", "Message_ID": f"<{token}@example.test>"},
            {"Subject": "gone", TOKEN_HEADER: token},
            {"Subject": f"{token[:half]}\r\n {token[half:]}"},
        ]

    for number in range(len(forms(""))):
        token = new_token(probe.key, "route", probe.means.clock.now_ms())
        put(target, folder=folder, **forms(token)[number])
        got = await probe.receive(target.account("probe-b"), token, timeout_s=1.0)
        assert got.found is not None, forms(token)[number]
        assert got.found.folder == folder
    assert left(target, folder) == 0


@in_a_loop
async def test_mail_of_strangers_and_answers_do_not_count(target: MailTarget, probe: Legs) -> None:
    token = new_token(probe.key, "route", probe.means.clock.now_ms())
    last = "b" if token[-1] == "a" else "a"
    put(target, Subject=f"{PREFIX} route {token[:-1]}{last}")
    put(target, Subject=f"Re: {token}", References=f"<{token}@example.test>")
    put(target, Subject=f"Away: {token}", Auto_Submitted="auto-replied (vacation)")
    put(target, Subject=f"{token}", Content_Type='multipart/report; boundary="x"')
    got = await probe.receive(target.account("probe-b"), token, timeout_s=0.5)
    assert got.found is None
    assert got.failure.error_class is ErrorClass.NOT_FOUND
    assert await probe.others(target.account("probe-b"), delete=True) == []
    assert left(target) == 4


@in_a_loop
async def test_two_probes_leave_each_other_alone(target: MailTarget, probe: Legs) -> None:
    a, b = target.account("probe-a"), target.account("probe-b")
    with legs("probe-2") as other:
        theirs = await other.send(a, b)
        await until(lambda: left(target) == 1)
        rounds = await asyncio.gather(*(probe.round(a, b) for _ in range(4)))
        assert all(got.found is not None and got.found.deleted for _, got in rounds)
        assert await probe.others(b, delete=True) == []
        assert (await other.receive(b, theirs.token)).found is not None
    assert left(target) == 0


@in_a_loop
async def test_what_a_crash_left_is_swept(target: MailTarget, probe: Legs) -> None:
    a, b = target.account("probe-a"), target.account("probe-b")
    old = await probe.send(a, b, route="a route that is no more")
    await until(lambda: left(target) == 1)
    put(target, Subject=f"{PREFIX} looks like one of ours")
    new = new_token(probe.key, "route", probe.means.clock.now_ms() + 60_000)
    put(target, Subject=f"{PREFIX} route {new}")
    before_ms = probe.means.clock.now_ms() + 30_000
    swept = await sweep(b, probe.key, probe.means, prefix=PREFIX, before_ms=before_ms)
    assert [mail.token for mail in swept] == [old.token]
    assert left(target) == 2


@in_a_loop
async def test_a_number_that_now_is_another_mail_s_deletes_nothing(
    target: MailTarget, probe: Legs
) -> None:
    b = target.account("probe-b")
    token = new_token(probe.key, "route", probe.means.clock.now_ms())
    put(target, Subject=token)
    put(target, Subject="of somebody else")
    async with Mailbox(b, probe.key, Course(), probe.means) as mailbox:
        (mail,) = await mailbox.do(Phase.VERIFY, lambda box: box.find(token))
        moved = replace(mail, uid=mail.uid + 1)
        await mailbox.do(Phase.VERIFY, lambda box: box.delete([moved]))
        assert left(target) == 2
        await mailbox.do(Phase.VERIFY, lambda box: box.delete([mail]))
        assert left(target) == 1


@in_a_loop
async def test_mail_in_a_configured_folder_is_found(target: MailTarget, probe: Legs) -> None:
    with target.client("probe-b") as client:
        if not client.folder_exists("Prüfung"):
            client.create_folder("Prüfung")
    b = target.account("probe-b")
    assert b.imap is not None
    imap = replace(b.imap, extra_folders=("is not there", "Prüfung"))
    token = new_token(probe.key, "route", probe.means.clock.now_ms())
    put(target, folder="Prüfung", Subject=token)
    got = await probe.receive(replace(b, imap=imap), token)
    assert got.found is not None
    assert (got.found.folder, got.found.junk) == ("Prüfung", False)
    assert left(target, "Prüfung") == 0


@in_a_loop
async def test_a_full_mailbox_is_named(target: MailTarget, probe: Legs) -> None:
    full: Account = target.account("full")
    sent = await probe.send(target.account("probe-a"), full)
    assert sent.sent is not None
    assert sent.sent.accepted
    got = await probe.receive(full, sent.token, timeout_s=1.0)
    assert got.found is None
    assert got.failure.error_class is ErrorClass.QUOTA
