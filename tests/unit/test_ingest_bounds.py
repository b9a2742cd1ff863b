"""Bounds of the ingest service: disk, inflated bodies, keys."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.core.errors import Reason, RecordError
from pipeline.kit.settings import ApiKey
from producers.api_keys import ApiKeys, SourceNotAllowedError, UnknownSourceError, WrongKeyError
from producers.disk import DiskSpace
from producers.posting import Sender
from producers.request_body import TooLargeError, inflate
from tests.kit.clock import FakeClock


@pytest.mark.parametrize(("share", "full"), [(0.0, False), (1.1, True)])
def test_a_disk_is_full_below_a_share_of_free_space(
    tmp_path: Path, share: float, full: bool
) -> None:
    assert DiskSpace(tmp_path, FakeClock(), share).is_full() is full


def test_where_no_broker_is_local_no_disk_is_full() -> None:
    assert not DiskSpace(None, FakeClock(), 1.1).is_full()


def test_a_folder_that_is_not_there_is_the_broker_s_trouble(tmp_path: Path) -> None:
    assert not DiskSpace(tmp_path / "none", FakeClock(), 1.1).is_full()


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_a_body_is_inflated_up_to_the_limit(size: int) -> None:
    assert inflate(gzip.compress(b"x" * size), 1000) == b"x" * size


@pytest.mark.parametrize("size", [1001, 10_000_000])
def test_a_body_is_not_inflated_beyond_it(size: int) -> None:
    with pytest.raises(TooLargeError):
        inflate(gzip.compress(b"x" * size), 1000)


MEMBER = gzip.compress(b"x", mtime=0)


@pytest.mark.parametrize(
    "body",
    [b"", b"x", MEMBER[:-1], MEMBER + b"y", MEMBER * 2],
)
def test_what_is_not_one_gzip_member_is_malformed(body: bytes) -> None:
    with pytest.raises(RecordError) as error:
        inflate(body, 1000)
    assert error.value.reason is Reason.MALFORMED


KEYS = ApiKeys(
    [
        ApiKey(name="a", key=SecretStr("one"), sources=("haraka",)),
        ApiKey(name="b", key=SecretStr("two")),
    ]
)


def test_the_key_names_the_origin_and_the_header_the_source() -> None:
    assert KEYS.sender({"X-API-Key": "two"}) == Sender("zonemta", "b")
    assert KEYS.sender({"X-API-Key": "one", "X-Source": " Haraka "}) == Sender("haraka", "a")
    assert ApiKeys([]).sender({"X-API-Key": "any"}) == Sender("zonemta", "default")


def test_a_stranger_learns_nothing_about_sources() -> None:
    for headers in ({}, {"X-API-Key": "on"}, {"X-API-Key": "\udcff", "X-Source": "none"}):
        with pytest.raises(WrongKeyError):
            KEYS.sender(headers)


def test_a_source_must_be_known_and_allowed() -> None:
    with pytest.raises(UnknownSourceError):
        KEYS.sender({"X-API-Key": "two", "X-Source": "cpanel"})
    with pytest.raises(SourceNotAllowedError):
        KEYS.sender({"X-API-Key": "one"})
