"""The builder for full TensorRT against a stand-in for the library, which cannot be installed everywhere: flags, cache, record."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headway.engine import build as tensorrt_build
from headway.engine.build import BuildSettings, build_engine
from headway.engine.profiles import Profile
from headway.errors import TargetError

PROFILES = [Profile((1, 1), (8, 24), (32, 40)), Profile((1, 41), (8, 64), (32, 64))]


class Library:
    """`tensorrt` as far as the builder uses it; remembers what was asked of it."""

    __name__, __version__ = "tensorrt", "11.1.0.106"

    class ILogger:
        Severity = SimpleNamespace(ERROR="error", INTERNAL_ERROR="internal")

        def __init__(self) -> None: ...

    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(
        VERSION_COMPATIBLE="version", STRIP_PLAN="strip", REFIT_IDENTICAL="refit", TF32="tf32", SPARSE_WEIGHTS="sparse"
    )
    HardwareCompatibilityLevel = SimpleNamespace(NONE=0, SAME_COMPUTE_CAPABILITY=2, AMPERE_PLUS=1)
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")

    def __init__(self, refuses: str | None = None):
        self.refuses = refuses
        self.flags: list[str] = []
        self.cache_is_of_another_gpu = False
        self.shapes: list[tuple] = []
        self.known: bytes | None = None
        self.network_flags = 0
        self.level = None

    def Builder(self, log: Any) -> Any:
        self.flags[:] = ["tf32"]
        config = SimpleNamespace(
            set_flag=self.flags.append,
            clear_flag=self.flags.remove,
            create_timing_cache=self._cache,
            set_timing_cache=lambda _cache, ignore_mismatch: not (self.known and self.cache_is_of_another_gpu),
            add_optimization_profile=lambda _profile: 0,
        )
        self.config = config
        network = SimpleNamespace(
            num_inputs=2, num_layers=5, get_input=lambda i: SimpleNamespace(name=("input_ids", "attention_mask")[i])
        )
        return SimpleNamespace(
            create_network=lambda flags: setattr(self, "network_flags", flags) or network,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shape: self.shapes.append(shape)),
            build_serialized_network=lambda _network, _config: memoryview(b"vtrt the engine"),
        )

    def _cache(self, known: bytes) -> Any:
        self.known = known
        return SimpleNamespace(serialize=lambda: known + b"timed ")

    def OnnxParser(self, _network: Any, _log: Any) -> Any:
        error = SimpleNamespace(
            node_name=lambda: "encoder.layer.0.output.dense",
            node_operator=lambda: "Odd",
            desc=lambda: str(self.refuses),
        )
        return SimpleNamespace(
            parse_from_file=lambda _path: self.refuses is None, num_errors=1, get_error=lambda _i: error
        )


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    stand_in = Library()
    monkeypatch.setattr(tensorrt_build, "import_module", lambda _name: stand_in)
    monkeypatch.setattr(tensorrt_build, "this_gpu", lambda: "sm_89")
    return stand_in


def test_profiles_flags_and_record_against_a_stand_in_for_the_library(library: Library, tmp_path: Path) -> None:
    settings = BuildSettings(version_compatible=True, hardware="ampere+", stripped=True, level=4, sparse=True)
    record = build_engine("tensorrt", tmp_path / "m.onnx", PROFILES, settings, tmp_path / "m.engine")
    assert library.network_flags == 1 << 1
    assert library.flags == ["version", "strip", "refit", "sparse"]
    assert library.config.hardware_compatibility_level == 1 and library.config.builder_optimization_level == 4
    assert library.shapes == [
        (name, *shape)
        for shape in (((1, 1), (8, 24), (32, 40)), ((1, 41), (8, 64), (32, 64)))
        for name in ("input_ids", "attention_mask")
    ]
    assert (tmp_path / "m.engine").read_bytes() == b"vtrt the engine"
    assert json.loads((tmp_path / "m.json").read_text())["gpus"] == record["gpus"] == ["sm_89"]
    assert record["version"] == "11.1.0.106" and record["version_compatible"] and record["stripped"]


def test_the_timing_cache_is_kept_and_used_again_against_a_stand_in_for_the_library(
    library: Library, tmp_path: Path
) -> None:
    settings = BuildSettings(cache=tmp_path / "timing.cache")
    for cached in (b"", b"timed "):
        build_engine("tensorrt", tmp_path / "m.onnx", PROFILES, settings, tmp_path / "m.engine")
        assert library.known == cached
    assert (tmp_path / "timing.cache").read_bytes() == b"timed timed "


def test_a_timing_cache_of_another_gpu_is_begun_anew_against_a_stand_in_for_the_library(
    library: Library, tmp_path: Path
) -> None:
    (tmp_path / "timing.cache").write_bytes(b"another ")
    library.cache_is_of_another_gpu = True
    settings = BuildSettings(cache=tmp_path / "timing.cache")
    build_engine("tensorrt", tmp_path / "m.onnx", PROFILES, settings, tmp_path / "m.engine")
    assert (tmp_path / "timing.cache").read_bytes() == b"timed "


def test_an_engine_for_no_gpu_is_refused(library: Library, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no GPU here to build for"):
        build_engine("tensorrt_rtx", tmp_path / "m.onnx", PROFILES, BuildSettings(), tmp_path / "m.engine")


def test_a_refused_node_is_named_and_nothing_is_written(library: Library, tmp_path: Path) -> None:
    library.refuses = "no such operator"
    with pytest.raises(TargetError, match=r"encoder\.layer\.0\.output\.dense.*Odd.*no such operator"):
        build_engine("tensorrt", tmp_path / "m.onnx", PROFILES, BuildSettings(), tmp_path / "m.engine")
    assert list(tmp_path.iterdir()) == []


def test_gpus_cannot_be_named_to_full_tensorrt(library: Library, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="the machine it runs on"):
        build_engine("tensorrt", tmp_path / "m.onnx", PROFILES, BuildSettings(("sm_89",)), tmp_path / "m.engine")


def test_bindings_without_a_parser_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_build, "import_module", lambda _name: SimpleNamespace(__version__="10.9.0"))
    assert "has no ONNX parser: pip install 'tensorrt>=10.9'" in str(tensorrt_build.missing("tensorrt"))
