"""Times as text, both ways."""

from __future__ import annotations

import pytest

from pipeline.core.errors import Reason, RecordError
from pipeline.core.timestamp import MAX_MS, MIN_MS, epoch_ms, rfc3339

MOMENT = 1_767_323_045_678  # 2026-01-02T03:04:05.678Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-02T03:04:05.678Z", MOMENT),
        ("2026-01-02t03:04:05.678z", MOMENT),
        ("2026-01-02T08:34:05.678+05:30", MOMENT),
        ("2026-01-01T19:04:05.678-08:00", MOMENT),
        ("2026-01-02T03:04:05.678-00:00", MOMENT),
        ("2026-01-02T03:04:05.6789999999999999Z", MOMENT),
        ("2026-01-02T03:04:05.6Z", MOMENT - 78),
        ("2026-01-02T03:04:05Z", MOMENT - 678),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("1971-01-01T00:00:00.000Z", MIN_MS),
        ("9999-12-31T23:59:59.999Z", MAX_MS),
    ],
)
def test_any_form_of_rfc_3339_names_its_millisecond(text: str, ms: int) -> None:
    assert epoch_ms(text) == ms


@pytest.mark.parametrize(
    ("seconds", "ms"),
    [(1_767_323_045, MOMENT - 678), (1_767_323_045.678, MOMENT), (31_536_000, MIN_MS)],
)
def test_numbers_are_seconds_since_the_epoch(seconds: float, ms: int) -> None:
    assert epoch_ms(seconds) == ms


@pytest.mark.parametrize(
    "value",
    [
        "",
        "now",
        "1767323045",
        "2026-01-02",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:04:61Z",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+00:60",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05.678Z\n",
        "\uff12026-01-02T03:04:05.678Z",
        "2026-01-02T03:04:05.\uff1678Z",
        "0001-01-01T00:00:00.000Z",
        "1970-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999-00:01",
        "-2026-01-02T03:04:05Z",
        0,
        -1,
        -1.5,
        31_535_999,
        1_767_323_045_678,
        float("nan"),
        float("inf"),
        float("-inf"),
        10**400,
        True,
    ],
)
def test_anything_else_is_refused(value: str | float) -> None:
    with pytest.raises(RecordError) as refused:
        epoch_ms(value)
    assert refused.value.reason is Reason.INVALID_FIELD


@pytest.mark.parametrize("ms", [0, 1, 999, MOMENT, MIN_MS, MAX_MS, -1])
def test_text_has_utc_and_milliseconds(ms: int) -> None:
    text = rfc3339(ms)
    assert len(text) == 24
    if ms >= MIN_MS:
        assert epoch_ms(text) == ms


def test_a_time_without_a_date_is_refused() -> None:
    with pytest.raises(ValueError, match="no date"):
        rfc3339(10**20)
