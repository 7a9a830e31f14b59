"""Keep third parties' logs and warnings off the user's screen."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_logs(upto: int = logging.WARNING) -> Iterator[None]:
    """Suppress log messages up to warnings, or to the level `upto`, inside the block."""
    level = logging.root.manager.disable
    logging.disable(upto)
    try:
        yield
    finally:
        logging.disable(level)


@contextmanager
def quiet(upto: int = logging.WARNING) -> Iterator[None]:
    """Suppress log messages up to warnings, or to the level `upto`, and Python warnings, inside the block."""
    with without_logs(upto), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
