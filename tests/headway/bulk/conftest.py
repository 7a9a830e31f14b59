"""Fixtures of the tests of runs over files."""

from tests.support.ray_clusters import cluster  # noqa: F401
