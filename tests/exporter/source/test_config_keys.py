"""Which settings ask for something."""

import pytest

from headway.exporter.source.config_keys import asks


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_what_is_empty_or_off_asks_for_nothing(value: object) -> None:
    assert not asks(value)


@pytest.mark.parametrize("value", [0, 0.0, True, "a", [0], {"a": None}])
def test_anything_else_does(value: object) -> None:
    """The number 0 too, though it equals False."""
    assert asks(value)
