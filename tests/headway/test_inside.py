"""Names stay inside their directory; links of a hub's cache are followed within their repository."""

from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.inside import Folder, check_name


@pytest.mark.parametrize("name", ["model.onnx", "plots/latency.png", "a..b", "…/x", ".hidden"])
def test_plain_names_are_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "a/", "..", "C:\\x", "C:x", "a\\b", "a\0b"]
)
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"relative name|leads out"):
        check_name(name)


def test_a_link_out_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    bundle = tmp_path / "bundle"
    (bundle / "folder").mkdir(parents=True)
    (bundle / "file").write_text("own")
    (bundle / "inner").symlink_to("file")
    (bundle / "out").symlink_to("../secret")
    (bundle / "up").symlink_to("..")
    (bundle / "circle").symlink_to("circle")
    folder = Folder(bundle)
    assert folder.file("inner").read_text() == "own"
    for name, reason in (
        ("out", "link that leads out"),
        ("up/secret", "link that leads out"),
        ("folder", "not a plain file"),
        ("none", "missing"),
        ("file/x", "missing"),
        ("circle", "cannot be read"),
        ("../secret", "leads out of its directory"),
    ):
        with pytest.raises(SourceError, match=reason):
            folder.file(name)


def test_links_of_a_hub_s_cache_lead_into_the_blobs_of_their_repository_alone(tmp_path: Path) -> None:
    for name in ("models--me--mine", "models--you--yours"):
        (tmp_path / name / "blobs").mkdir(parents=True)
        (tmp_path / name / "blobs" / "aa").write_text(name)
        (tmp_path / name / "token").write_text("secret")
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "main" / "bundle"
    snapshot.mkdir(parents=True)
    for name, target in (
        ("own", "../../../blobs/aa"),
        ("other", "../../../../models--you--yours/blobs/aa"),
        ("beside", "../../../token"),
    ):
        (snapshot / name).symlink_to(target)
    folder = Folder(snapshot)
    assert folder.file("own").read_text() == "models--me--mine"
    for name in ("other", "beside"):
        with pytest.raises(SourceError, match="leads out"):
            folder.file(name)
