"""The ZoneMTA plugin in a real ZoneMTA: what it does to mail arrives on ``mail.events``, once."""

from __future__ import annotations

import asyncio
import logging
import smtplib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TypeAlias

import httpx
import pytest
from pygelf import GelfUdpHandler

from mailstream.ports import free_port
from tests.kit.kafka_read import read_topics
from tests.kit.mail_sink import REFUSING, UNKNOWN, dns_stub, mail_sink
from tests.kit.mta_site import (
    PASSWORD,
    SENDER,
    Event,
    MtaSite,
    assert_ids_are_distinct,
    message_id,
    of,
)
from tests.kit.mta_stores import stores
from tests.kit.processes import wait_until
from tests.kit.scrape import Page
from tests.kit.stand import stand
from tests.kit.view import KEY as VIEW_KEY
from tests.kit.view import View
from tests.kit.zonemta import ADDRESSES, ZoneMta

pytestmark = pytest.mark.integration

Site: TypeAlias = MtaSite[ZoneMta]
KEY = "key-of-mta1"


@pytest.fixture(scope="module")
def site(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("zonemta")
    ingest, smtp, log, api = (free_port("127.0.0.1") for _ in range(4))
    keys = [{"name": "mta1", "key": KEY, "sources": ["zonemta"]}]
    plugin = {
        "url": f"http://127.0.0.1:{ingest}",
        "api_key": KEY,
        "node": "mta1.example.com",
        "spool": str(folder / "spool"),
        "flush_ms": 200,
        "retry_max_ms": 500,
    }
    with ExitStack() as stack:
        st = stack.enter_context(
            stand(
                broker,
                folder / "mailstream",
                ingest={"listen": f"127.0.0.1:{ingest}", "api_keys": keys},
                zonemta={
                    "log_remote": {"listen": "127.0.0.1:0", "udp": f"127.0.0.1:{log}"},
                    "nodes": [{"name": "mta1", "url": f"http://127.0.0.1:{api}"}],
                },
                view={"listen": "127.0.0.1:0", "api_key": VIEW_KEY},
            )
        )
        st.ingest()
        st.worker()
        sink = stack.enter_context(mail_sink(smtp))
        dns = stack.enter_context(dns_stub())
        (folder / "stores").mkdir()
        kept = stack.enter_context(stores(folder / "stores"))
        mta = ZoneMta(folder, kept, plugin, sink=smtp, dns=dns, log=log, api=api)
        stack.callback(mta.end)
        mta.start()
        yield MtaSite(st, mta, sink)


def test_a_mail_that_is_delivered(site: Site) -> None:
    site.send(site.mta.submission, "delivered", "ok@delivered.example", user="alice")
    events = site.events(
        lambda all_: bool(of(all_, to_domain="delivered.example", event_type="delivered"))
    )
    (sent,) = of(events, event_type="sent", to_domain="delivered.example")
    assert sent["recipients"] == 1
    assert (sent["user"], sent["from_domain"]) == ("alice", "example.com")
    (delivered,) = of(events, event_type="delivered", to_domain="delivered.example")
    assert delivered["queue_id"] == sent["queue_id"]
    assert delivered["message_id"] == sent["message_id"] == message_id("delivered")
    assert (delivered["user"], delivered["router"]) == ("alice", "submission")
    assert delivered["sending_ip"] in ADDRESSES
    assert delivered["mx_host"] == "mx1.delivered.example"
    assert (delivered["attempt"], delivered["seq"]) == (1, "001")
    assert delivered["response_code"] == 250
    assert 0 <= delivered["smtp_time_ms"] <= delivered["queue_time_ms"]
    assert delivered["mta_node"] == "mta1.example.com"
    assert (delivered["source"], delivered["origin"]) == ("zonemta", "mta1")


def test_each_recipient_has_its_own_outcome_and_bounces_their_dsns(site: Site) -> None:
    site.send(
        site.mta.feeder,
        "several",
        "ok@a.example",
        "hard@b.example",
        "tmp@c.example",
        "full@d.example",
    )
    kinds = Counter({"sent": 1, "delivered": 1, "bounced": 3, "deferred": 1})
    domains = "a.example", "b.example", "c.example", "d.example"

    def mine(events: Sequence[Event]) -> list[Event]:
        return of(events, message_id=message_id("several"))

    def dsns(events: Sequence[Event]) -> list[Event]:
        return [one for one in of(events, is_dsn=True) if one["to_domain"] == "example.com"]

    events = site.events(
        lambda all_: (
            Counter(one["event_type"] for one in mine(all_)) >= kinds
            and len(of(dsns(all_), event_type="delivered")) >= 3
        )
    )
    assert Counter(one["event_type"] for one in mine(events)) == kinds
    (sent,) = of(mine(events), event_type="sent")
    assert sent["recipients"] == len(domains)
    outcomes = [(one["to_domain"], one["event_type"]) for one in mine(events) if one is not sent]
    assert sorted(outcomes) == [
        ("a.example", "delivered"),
        ("b.example", "bounced"),
        ("c.example", "bounced"),
        ("c.example", "deferred"),
        ("d.example", "bounced"),
    ]
    (deferred,) = of(mine(events), event_type="deferred")
    assert (deferred["response_code"], deferred["error_code"]) == (451, "greylist")
    (given_up,) = of(mine(events), event_type="bounced", to_domain="c.example")
    assert (deferred["attempt"], given_up["attempt"]) == (1, 2)
    assert given_up["seq"] == deferred["seq"]
    (full,) = of(mine(events), to_domain="d.example")
    assert (full["response_code"], full["error_code"]) == (452, "capacity")
    (hard,) = of(mine(events), to_domain="b.example")
    assert hard["response_message"].startswith("550 5.1.1 <")
    assert "hard@b.example" not in str(events)
    kinds_of_dsns = Counter(one["event_type"] for one in dsns(events))
    assert kinds_of_dsns == Counter({"sent": 3, "delivered": 3})
    assert all(one.get("user") is None for one in dsns(events))
    assert [to for sender, to in site.sink.taken if not sender] == [SENDER] * 3


def test_mail_that_finds_no_host(site: Site) -> None:
    site.send(site.mta.feeder, "nowhere", f"ok@{REFUSING}", f"ok@{UNKNOWN}")
    events = site.events(
        lambda all_: (
            bool(of(all_, event_type="bounced", to_domain=UNKNOWN))
            and bool(of(all_, event_type="bounced", to_domain=REFUSING))
        )
    )
    (refused,) = of(events, event_type="deferred", to_domain=REFUSING)
    assert refused["sending_ip"] in ADDRESSES
    assert "mx_host" not in refused
    assert "response_code" not in refused
    assert refused["bounce_class"] == "network"
    (unknown,) = of(events, to_domain=UNKNOWN, event_type="bounced")
    assert unknown["bounce_class"] == "bad_domain"
    assert "refused" in refused["error_message"]


def test_mail_that_is_not_taken(site: Site) -> None:
    with pytest.raises(smtplib.SMTPDataError):
        site.send(site.mta.submission, "refuse me", "ok@e.example", "ok@f.example", user="bob")
    site.send(site.mta.feeder, "drop me", "ok@g.example")
    events = site.events(lambda all_: len(of(all_, event_type="rejected")) >= 2)
    (refused,) = of(events, error_code="noqueue")
    assert (refused["recipients"], refused["response_code"]) == (2, 550)
    assert (refused["error_message"], refused["user"]) == ("policy", "bob")
    (dropped,) = of(events, error_code="drop")
    assert dropped["error_message"] == "loop"
    assert PASSWORD not in str(events)


def test_a_restart_of_all_loses_nothing_and_doubles_nothing(site: Site) -> None:
    assert site.stand.ingest().stop() == 0
    mails = 20
    for n in range(mails):
        site.send(site.mta.feeder, f"restart {n}", f"ok@r{n}.example")
    wait_until(
        lambda: len([to for _, to in site.sink.taken if "@r" in to]) == mails,
        "all is delivered while ingest is away",
        within_s=60,
    )
    site.mta.stop_as_systemd_does()
    site.mta.start()
    site.stand.ingest()
    expected = Counter({"sent": mails, "delivered": mails})

    def found(events: Sequence[Event]) -> Counter[str]:
        mine = [one for one in events if one["message_id"].startswith("<restart-")]
        return Counter(one["event_type"] for one in mine)

    events = site.events(
        lambda all_: found([one for one in all_ if "message_id" in one]) >= expected
    )
    assert found([one for one in events if "message_id" in one]) == expected
    assert_ids_are_distinct(events)


def test_the_log_the_hooks_and_gelf_of_one_mta_count_each_outcome_once(site: Site) -> None:
    st, worker = site.stand, site.stand.worker()
    # Only now: what the log tells comes first, and would hide what only hooks know.
    log, gelf = st.log_remote(), st.gelf()
    before = Page([worker.metrics() or ""])
    site.send(site.mta.feeder, "feeds", "ok@feeds1.example", "hard@feeds2.example")
    expected = {"sent": 2, "delivered": 2, "bounced": 1}  # with the DSN's own

    def grown(name: str, **labels: str) -> float:
        page = Page([worker.metrics() or ""])
        return page.total(name, **labels) - before.total(name, **labels)

    wait_until(
        lambda: grown("mail_events_duplicate_total", source="zonemta") == 5,
        "both feeds have told all",
        within_s=60,
    )
    read = asyncio.run(read_topics(st.bootstrap, [st.topic("raw.zonemta")], st.partitions))
    feeds: dict[str, list[str]] = {}
    for one in read:
        feeds.setdefault(one.header("id"), []).append(one.header("feed"))
    told = [one for one in feeds.values() if "log_remote" in one]
    assert [sorted(one) for one in told] == [["hook", "log_remote"]] * 5
    assert log.value("mailstream_component_discarded_events_total", reason="malformed") == 0
    events = [one for one in st.events() if one["feed"] == "log_remote"]
    for event in events:
        tell_by_gelf(gelf.port("udp"), event)
    wait_until(
        lambda: grown("mail_events_shadow_total", source="gelf") == len(events) == 5,
        "GELF has told all once more",
        within_s=60,
    )
    assert {kind: grown("mail_events_total", event_type=kind) for kind in expected} == expected
    assert grown("mail_events_total") == 5


def tell_by_gelf(port: int, event: Event) -> None:
    """Send what the WildDuck plugin of ZoneMTA says of *event*."""
    word = {"sent": "QUEUED", "delivered": "ACCEPTED", "bounced": "REJECTED"}[event["event_type"]]
    fields = {
        "_component": "mta",
        "_queue_id": event["queue_id"],
        "_queue_id_seq": event.get("seq"),
    }
    handler = GelfUdpHandler("127.0.0.1", port, **fields)
    log = logging.getLogger(f"{__name__}.gelf")
    log.propagate = False
    log.addHandler(handler)
    try:
        log.warning("MTA [%s] %s", word, event["queue_id"])
    finally:
        log.removeHandler(handler)
        handler.close()


def test_a_message_that_waits_is_looked_up_without_naming_its_recipients(site: Site) -> None:
    view = View(site.stand.config, site.stand.folder)
    try:
        view.start_and_listen()
        queue_id = queued(site, "Subject: a secret\r\n\r\nbody of the mail", "tmp@waiting.example")
        asked = f"{view.url}/api/v1/messages/{queue_id}"
        with httpx.Client(headers={"X-API-Key": VIEW_KEY}) as client:

            def deferred() -> httpx.Response | None:
                answer = client.get(asked)
                assert answer.status_code == 200, answer.text
                return answer if "deferred" in answer.text else None

            answer = wait_until(deferred, "the message is deferred", within_s=30)
            unknown = client.get(f"{asked[:-6]}ffffff")
        assert httpx.get(asked).status_code == 401
    finally:
        view.end()
    told = answer.json()
    assert (told["queue_id"], told["node"]) == (queue_id, "mta1")
    assert told["message"]["from"] == SENDER
    (delivery,) = told["deliveries"]
    assert delivery["status"] == "DEFERRED"
    assert delivery["recipient"].endswith("@waiting.example")
    assert told["message"]["to"] == [delivery["recipient"]]
    assert "Greylisted" in delivery["deferred"]["response"]
    for secret in ("tmp@", "a secret", "body of the mail"):
        assert secret not in answer.text
    assert (unknown.status_code, unknown.json()["error"]) == (404, "unknown_message")


def queued(site: Site, mail: str, recipient: str) -> str:
    """Send one mail and return its queue id, as the MTA tells it."""
    with smtplib.SMTP("127.0.0.1", site.mta.submission, timeout=30) as client:
        client.login("alice", PASSWORD)
        client.mail(SENDER)
        client.rcpt(recipient)
        code, said = client.data(mail)
        assert code == 250, said
        return said.decode().split()[-1]
