"""What readers of quantized checkpoints share. Each reader's own tests show its refusals."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from headway.errors import SourceError
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.quantization import beside, settings_of
from headway.exporter.source.source import open_source

from tests.support import integer_checkpoints as integers
from tests.support.models import make_model


def test_a_setting_that_no_tensor_follows_is_refused_before_any_library_reads_it(tmp_path: Path) -> None:
    make_model(tmp_path)
    integers.configure(tmp_path, {"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(SourceError, match="says bitsandbytes, and no tensor is as that method saves them"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(("integer", "kind"), [(True, "integers"), (False, "floats")])
def test_a_tensor_of_another_kind_is_refused_by_name(tmp_path: Path, integer: bool, kind: str) -> None:
    stored = SimpleNamespace(
        directory=tmp_path, state={"a.scale": SimpleNamespace(floating=integer, shape=(2,), dtype="x")}
    )
    with pytest.raises(SourceError, match=f"a.scale is x, {kind} are expected beside a.weight"):
        beside(stored, "a.weight", "a.scale", integer=integer)  # type: ignore[arg-type]
    assert beside(stored, "a.weight", "a.scale", (2,), integer=not integer) is stored.state["a.scale"]  # type: ignore[arg-type]


def test_a_setting_that_says_nothing_is_no_setting(tmp_path: Path) -> None:
    make_model(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("{", '{"quantization_config": null,', 1))
    assert open_source(str(tmp_path)).checkpoint is None


@pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"quantization_config": {}}])
def test_a_config_without_settings_leaves_all_to_the_tensors(config: dict[str, object]) -> None:
    assert settings_of(Checkpoint(Path("place"), config, {}), "int8", ("bits",)) == {}


def test_settings_that_are_no_object_are_refused() -> None:
    with pytest.raises(SourceError, match=r"quantization_config of config.json is not a JSON object"):
        settings_of(Checkpoint(Path("place"), {"quantization_config": "int8"}, {}), "int8", ("bits",))
