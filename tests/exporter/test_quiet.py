"""Third parties' messages, inside and after."""

import logging
import warnings

import pytest

from headway.exporter.quiet import quiet, without_logs


def test_warnings_are_kept_off_and_errors_are_not(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a.third.party")
    with quiet(), warnings.catch_warnings(record=True) as caught:
        logger.warning("of no use")
        logger.error("of use")
        warnings.warn("of no use", stacklevel=1)
    assert [r.message for r in caplog.records] == ["of use"] and not caught
    logger.warning("heard again")
    assert caplog.records[-1].message == "heard again"


def test_logging_is_as_before_where_something_fails() -> None:
    before = logging.root.manager.disable
    with pytest.raises(KeyError), quiet():
        raise KeyError("x")
    assert logging.root.manager.disable == before


def test_warnings_of_python_are_heard_where_logs_alone_are_kept_off(caplog: pytest.LogCaptureFixture) -> None:
    with without_logs(), pytest.warns(UserWarning, match="of use"):
        logging.getLogger("a.third.party").warning("of no use")
        warnings.warn("of use", stacklevel=1)
    assert not caplog.records
