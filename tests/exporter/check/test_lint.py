"""What would saturate, overflow or be refused on another processor or runtime."""

from headway.exporter.check.lint import lint
from headway.exporter.export import Exported


def test_lint_reads_ort_files(mobile: Exported, rounded: Exported) -> None:
    """Nothing optimizes a .ort file on loading: the session entry that makes target ort's sums exact has no effect."""
    assert lint(mobile.path, "x86-avx2") == []
    findings = lint(rounded.path, "x86-avx2")
    places = {f.where for f in findings if f.severity == "error" and "can saturate" in f.what}
    assert "encoder.layer.0.attention.self.query" in places and len(places) == 6 * 4
    assert all("export for --target ort" in f.what for f in findings)
    assert lint(rounded.path, "arm-dotprod") == [] == lint(rounded.path, "ort-mobile")
    assert lint(rounded.path / "model.ort", "x86-avx2") == findings
