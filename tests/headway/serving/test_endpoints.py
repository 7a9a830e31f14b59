"""The table of paths."""

from headway.serving.endpoints import ENDPOINTS


def test_each_path_stands_once_and_says_what_it_does() -> None:
    places = [(e.method, e.path) for e in ENDPOINTS]
    assert len(places) == len(set(places))
    assert all(e.says.endswith(".") and (e.method == "GET") == (not e.example) for e in ENDPOINTS)


def test_kserve_has_each_path_with_a_version_and_without() -> None:
    models = [e.path for e in ENDPOINTS if e.path.startswith("/v2/models/")]
    assert len(models) == 6 and sum("{version}" in path for path in models) == 3
