"""Refusals: their classes, and when to come back."""

import pytest

from headway.serving.refusal import Refusal, invalid, overloaded


@pytest.mark.parametrize(("wait", "seconds"), [(0.01, 1), (0.9, 1), (1.2, 2), (5.0, 5)])
def test_an_overloaded_server_says_when_to_come_back(wait: float, seconds: int) -> None:
    refusal = overloaded(wait)
    assert (refusal.status, refusal.kind, refusal.retry_after) == (429, "Overloaded", seconds)


def test_what_is_wrong_with_a_request_is_its_text() -> None:
    assert str(invalid("no text", 422)) == "no text" and invalid("x").kind == "Validation"
    assert Refusal(500, "x").kind == "Backend"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "Unauthorized"),
        (404, "NotFound"),
        (408, "Timeout"),
        (413, "Validation"),
        (503, "Unhealthy"),
        (504, "Timeout"),
    ],
)
def test_each_status_has_its_class(status: int, kind: str) -> None:
    assert Refusal(status, "x").kind == kind
