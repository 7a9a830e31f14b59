"""Fixtures of the tests of runs over files."""

from tests.support.ray_cluster import cluster  # noqa: F401
