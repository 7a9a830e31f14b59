"""Target coreml: converted, never run, and saying so."""

import json
from pathlib import Path

import onnx_ir as ir
import pytest

from headway.bundle import Bundle
from headway.errors import TargetError, UsageError
from headway.exporter.check.lint import lint
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.phones.coreml import CHECKED, CoreMLTarget
from headway.exporter.targets.registry import target_of

from tests.support.variants import rounded

needed = pytest.mark.skipif(CoreMLTarget().available() is not None, reason="needs coremltools (extra coreml)")


@needed
def test_a_package_is_labeled_convert_only(
    sentence_bundle: Exported, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    import coremltools

    source = sentence_bundle.path.parent / "sentence"
    done = export(Recipe(source=str(source), target="coreml", verify="module"), tmp_path / "bundle")
    assert capfd.readouterr().err == ""  # the converter's own progress is not the user's
    assert done.parity.ok
    assert done.manifest.engine == {"convert_only": True, "dtype": "fp32", "checked": CHECKED}
    assert f"Checked was {CHECKED}." in (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "verify: module" in (tmp_path / "bundle" / "recipe.yaml").read_text(encoding="utf-8")
    package = coremltools.models.MLModel(str(tmp_path / "bundle" / "model.mlpackage"), skip_model_load=True)
    description = package.get_spec().description
    assert [i.name for i in description.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [o.name for o in description.output] == ["last_hidden_state", "sentence_embedding"]
    with pytest.raises(TargetError, match="Apple's systems alone"):
        Bundle.open(tmp_path / "bundle")
    with pytest.raises(UsageError, match="no ONNX graph"):
        lint(tmp_path / "bundle", "arm-dotprod")


def test_it_has_to_be_asked_for() -> None:
    with pytest.raises(UsageError, match=r"converts only.*--verify module"):
        target_of(Recipe(source="x", target="coreml"))
    with pytest.raises(UsageError, match="leave verify out"):
        target_of(Recipe(source="x", target="ort", verify="module"))
    with pytest.raises(UsageError, match="bf16 has no place"):
        target_of(Recipe(source="x", target="coreml", verify="module", dtype="bf16"))
    assert "verify" not in json.dumps(Recipe(source="x").to_yaml())


def test_integer_weights_are_refused(one_layer: ir.Model) -> None:
    model: ir.Model = rounded(one_layer)[0]
    with pytest.raises(TargetError, match="is not converted to Core ML"):
        CoreMLTarget().lower(model, None)  # type: ignore[arg-type]
