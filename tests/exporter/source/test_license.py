"""The license that a model card declares; a broken card declares none, and never fails."""

from pathlib import Path

import pytest

from headway.exporter.source.license import declared_license


@pytest.mark.parametrize(
    ("card", "license"),
    [
        (b"---\nlicense: mit\n---\n# A model\n", "mit"),
        (b"---\r\nlicense: mit\r\n---\r\n", "mit"),
        (b"\xef\xbb\xbf---\nlicense: mit\n---\n", "mit"),
        (b"---\nauthor: Andr\xe9\nlicense: mit\n---\n", "mit"),
        (b"---\nmodel-index: 3\nlicense: mit\n---\n", "mit"),
        (b"---\nlicense:\n---\n", None),
        (b"---\nlicense: 3\n---\n", None),
        (b"---\nlicense: [mit\n---\n", None),
        (b"---\n- license: mit\n---\n", None),
        (b"---\n1: 2\nlicense: mit\n---\n", None),
        (b"---\nlicense: mit\n", None),
        (b"\x00\xff\xfe", None),
        (b"", None),
    ],
)
def test_a_card_declares_a_license_or_nothing(card: bytes, license: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(card)
    assert declared_license(tmp_path) == license


def test_a_card_without_metadata_says_nothing_on_the_screen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("# A model\n")
    assert declared_license(tmp_path) is None and declared_license(None) is None
    assert not caplog.records and capfd.readouterr().err == ""
