"""Fixtures of the tests of whole flows."""

from tests.support.compressing import classifier, own_cache, text  # noqa: F401
