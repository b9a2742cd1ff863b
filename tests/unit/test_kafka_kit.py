"""Kafka's errors and clients, as the kit makes them ours."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import aiokafka.errors
import pytest
from aiokafka.client import AIOKafkaClient
from pydantic import SecretStr

from pipeline.core.errors import (
    ConfigError,
    FencedError,
    InvariantError,
    MailstreamError,
    Reason,
    RecordError,
    TransientError,
)
from pipeline.core.topics import MAX_MESSAGE_BYTES, TOPIC, TOPICS
from pipeline.kit.kafka import DISPOSITIONS, client_options, core_error, mapped_errors
from pipeline.kit.settings import KafkaSettings, Settings, TopicSettings
from pipeline.kit.topic_admin import topic_config

CLASSES = {
    name: value
    for name, value in vars(aiokafka.errors).items()
    if isinstance(value, type)
    and issubclass(value, Exception)
    and value.__module__ == aiokafka.errors.__name__
}


def test_every_error_class_of_the_library_has_a_disposition_and_no_other_is_named() -> None:
    names = {cls.__name__ for cls in CLASSES.values()}
    assert names - DISPOSITIONS.keys() == set()
    # Aliases (GroupCoordinatorNotAvailableError = CoordinatorNotAvailableError) have rows too.
    assert DISPOSITIONS.keys() - CLASSES.keys() == set()


@pytest.mark.parametrize("cls", CLASSES.values(), ids=lambda cls: cls.__name__)
def test_every_error_becomes_ours_and_keeps_its_cause(cls: type[Exception]) -> None:
    original = cls("why")
    with pytest.raises(MailstreamError) as caught, mapped_errors():
        raise original
    assert caught.value.__cause__ is original
    assert cls.__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (aiokafka.errors.KafkaConnectionError(), TransientError),
        (aiokafka.errors.NotEnoughReplicasError(), TransientError),
        (ConnectionResetError(), TransientError),
        (TimeoutError(), TransientError),
        (aiokafka.errors.ProducerFenced(), FencedError),
        (aiokafka.errors.InvalidProducerEpoch(), FencedError),
        (aiokafka.errors.UnknownMemberIdError(), FencedError),
        (aiokafka.errors.CommitFailedError(), FencedError),
        (aiokafka.errors.OutOfOrderSequenceNumber(), InvariantError),
        (aiokafka.errors.OffsetOutOfRangeError({}), InvariantError),
        (aiokafka.errors.MessageSizeTooLargeError(), RecordError),
        (aiokafka.errors.TopicAuthorizationFailedError(), ConfigError),
    ],
)
def test_an_error_is_what_can_be_done_about_it(error: Exception, ours: type[Exception]) -> None:
    assert type(core_error(error)) is ours


def test_a_record_too_large_says_so() -> None:
    error = core_error(aiokafka.errors.RecordTooLargeError())
    assert isinstance(error, RecordError)
    assert error.reason is Reason.TOO_LARGE


def test_a_class_that_a_later_library_adds_has_the_disposition_of_its_base() -> None:
    added = type("BrandNewError", (aiokafka.errors.ProducerFenced,), {})
    assert type(core_error(added())) is FencedError


def test_other_errors_pass_as_they_are() -> None:
    for error in (KeyError("x"), RecordError(Reason.MALFORMED, "x"), asyncio.CancelledError()):
        with pytest.raises(type(error)) as caught, mapped_errors():
            raise error
        assert caught.value is error


def test_options_without_security_are_what_a_client_takes() -> None:
    options = client_options(KafkaSettings(), "a:1,b:2")
    assert options == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT"}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", cert, "-days", "1", "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_sasl_over_tls_reaches_every_client(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    kafka = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="joe",
        sasl_password=SecretStr("secret"),
        ssl_cafile=cert,
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    options = client_options(kafka, "a:1")
    assert options["sasl_plain_password"] == "secret"
    context = options["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname

    async def made() -> None:
        client = AIOKafkaClient(**options)
        await client.close()

    asyncio.run(made())


def test_certificates_that_cannot_be_used_are_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("not a certificate")
    kafka = KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "cert.pem")
    with pytest.raises(ConfigError, match="certificates cannot be used"):
        client_options(kafka, "a:1")


def test_topics_are_configured_as_declared() -> None:
    settings = Settings()
    for topic in TOPICS:
        config = topic_config(settings, topic)
        assert config["cleanup.policy"] == ("compact" if topic.compacted else "delete")
        kept_ms = -1 if topic.compacted else settings.retention_ms(topic)
        assert config["retention.ms"] == str(kept_ms)
        assert config["max.message.bytes"] == str(MAX_MESSAGE_BYTES)
        assert config["retention.bytes"] == "-1"
        assert config["min.insync.replicas"] == "1"
    week = 7 * 86_400_000
    assert topic_config(settings, TOPIC["raw.zonemta"])["segment.ms"] == str(week // 8)
    assert topic_config(settings, TOPIC["seen"])["segment.ms"] == str(7 * 3_600_000 // 8)
    assert topic_config(settings, TOPIC["events"])["segment.ms"] == str(week)


def test_three_copies_need_two_acknowledgements_and_byte_limits_make_smaller_segments() -> None:
    settings = Settings(
        topics=TopicSettings(replication_factor=3, retention_bytes={"raw": 1 << 28, "dead": 1})
    )
    raw, dead = (topic_config(settings, TOPIC[name]) for name in ("raw.haraka", "dead"))
    assert raw["min.insync.replicas"] == "2"
    assert (raw["retention.bytes"], raw["segment.bytes"]) == (str(1 << 28), str(1 << 25))
    assert dead["segment.bytes"] == str(2 * MAX_MESSAGE_BYTES)
