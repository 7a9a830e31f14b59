"""Import paths of earlier releases: still there, and each names its new place."""

import subprocess
import sys
import warnings
from importlib import import_module

import pytest

ERRORS = "HeadwayError GateError UsageError SourceError TargetError Interrupted HeadwayWarning"
MANIFEST = "Manifest TensorInfo TokenizerInfo SCHEMA_VERSION MANIFEST check_whole check_files file_records"
CORPUS = "builtin_lines read_lines read_labeled fingerprint mixed_lengths required FORMATS"
PLACES = [
    ("headway.exporter.errors", ERRORS, "headway.errors"),
    ("headway.exporter.bundle", MANIFEST, "headway.manifest"),
    ("headway.exporter.bundle", "Text TextEncoder", "headway.text"),
    ("headway.exporter.bundle", "Bundle", "headway.bundle"),
    ("headway.exporter.tokenizer_check", "unicode_lines compare_ids classes_of", "headway.exporter.tokenizer.check"),
    ("headway.calibration.text", CORPUS, "headway.calibration.corpus"),
]
MOVED = [(old, name, new) for old, names, new in PLACES for name in names.split()]
MOVED += [("headway.exporter.recipe", name, "headway.exporter.recipe.recipe") for name in ("Recipe", "read_recipe")]
STAYED = [
    ("headway.calibration.batches", "draw"),
    ("headway.calibration.batches", "stream_batches"),
    ("headway.calibration.batches", "token_lengths"),
    ("headway.calibration.observe", "Observations"),
    ("headway.calibration.observe", "observe"),
    ("headway.kernels.cpu", "library_path"),
    ("headway.kernels.cpu.build", "build"),
    ("headway.kernels.triton.attention", "packed_attention"),
]


@pytest.mark.parametrize(("old", "name", "new"), MOVED)
def test_an_old_path_gives_the_same_object_and_names_its_new_place(old: str, name: str, new: str) -> None:
    module = import_module(old)
    with pytest.warns(
        DeprecationWarning, match=rf"{old} will go with the next release: import {name} from {new}$"
    ) as said:
        value = getattr(module, name)
    assert value is getattr(import_module(new), name)
    assert [w.filename for w in said] == [__file__]


@pytest.mark.parametrize("old", sorted({old for old, _, _ in PLACES}))
def test_an_old_path_has_no_names_of_its_own(old: str) -> None:
    module = import_module(old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("nothing", "_private", "__path__"):
            with pytest.raises(AttributeError, match=name):
                getattr(module, name)


@pytest.mark.parametrize(("module", "name"), STAYED)
def test_a_documented_path_that_stayed_warns_of_nothing(module: str, name: str) -> None:
    if ".triton" in module:
        pytest.importorskip("triton", reason="Triton is published for Linux only")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert getattr(import_module(module), name).__name__ == name


def test_scripts_of_the_release_before_find_the_command_line() -> None:
    code = "import sys; sys.argv = ['headway', '--help']; from headway.exporter.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Usage" in done.stdout
    assert "DeprecationWarning: headway.exporter.cli:main will go with the next release" in done.stderr
