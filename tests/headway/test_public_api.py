"""The public names of `headway`: what is there, what each import brings, and what is said where an extra is missing."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import headway
from headway.bundle import Bundle
from headway.exporter.export import Exported

RUNTIME = {"numpy", "onnxruntime", "tokenizers"}
HEAVY = {"torch", "transformers", "optimum", "onnx", "onnx_ir", "onnxscript", "pydantic", "yaml", "rich", "typer"}
DEPLOY = ("open", "Bundle", "Manifest", "errors", "__version__")
EXPORT = ("Recipe", "bench", "compress", "export", "gate", "inspect", "report", "verify")


def imported(code: str) -> set[str]:
    """Run `code` in a fresh process and return which runtime, heavy and exporter modules it imported."""
    watched = RUNTIME | HEAVY | {"safetensors", "matplotlib", "headway.exporter", "headway.calibration"}
    script = f"import sys\n{code}\nprint(*sorted({watched} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def without(module: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh process in which `module` is not installed."""
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
{code}"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)


def test_headway_alone_imports_nothing() -> None:
    assert imported("import headway; headway.open; headway.errors.SourceError; headway.__version__") == set()


@pytest.mark.parametrize("theirs", [None, "0"])
def test_the_telemetry_of_the_runtime_is_off_unless_the_user_says_otherwise(theirs: str | None) -> None:
    name = "ORT_DISABLE_TELEMETRY"
    environment = {k: v for k, v in os.environ.items() if k != name} | ({name: theirs} if theirs else {})
    code = f"import headway, os, sys; assert 'onnxruntime' not in sys.modules; print(os.environ[{name!r}])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, theirs or "1"), done.stderr


def test_deploy_time_names_import_the_runtime_alone() -> None:
    names = "; ".join(f"headway.{name}" for name in DEPLOY)
    assert imported(f"import headway; {names}") <= RUNTIME
    assert imported("from headway import Manifest") == set()


def test_an_opened_bundle_has_imported_the_runtime_alone(bert_bundle: Exported) -> None:
    code = f"import headway; headway.open({str(bert_bundle.path)!r}, threads=1)(['a text'])"
    assert imported(code) == RUNTIME


def test_open_is_the_bundles_own(bert_bundle: Exported) -> None:
    bundle = headway.open(bert_bundle.path, threads=1, providers=["CPUExecutionProvider"])
    assert type(bundle) is Bundle is headway.Bundle
    assert isinstance(bundle.manifest, headway.Manifest)
    assert bundle.runner.session.get_session_options().intra_op_num_threads == 1  # type: ignore[attr-defined]
    with pytest.raises(headway.errors.TargetError, match="NoneSuch"):
        headway.open(bert_bundle.path, providers=["NoneSuch"])


def test_the_names_are_listed() -> None:
    assert sorted(headway.__all__) == sorted([*DEPLOY, *EXPORT]) == sorted(dir(headway))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        headway.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert (Path(str(headway.__file__)).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", EXPORT)
def test_names_of_the_exporter_are_its_own(name: str) -> None:
    assert getattr(headway, name) is getattr(import_module("headway.exporter.api"), name)


def test_names_of_the_exporter_import_nothing_heavy() -> None:
    names = "; ".join(f"headway.{name}" for name in EXPORT if name != "Recipe")
    assert imported(f"import headway; {names}") == {"headway.exporter"}


@pytest.mark.parametrize(
    "use", ["Recipe", "export('x', 'y')", "compress('x', 'y', data='z', speedup=2)", "inspect('x')", "verify('x')"]
)
def test_without_the_export_extra_the_extra_is_named(use: str) -> None:
    missing = "pydantic" if use == "Recipe" else "onnx_ir"
    done = without(missing, f"import headway; headway.{use}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"headway.errors.TargetError: this needs {missing}")
    assert last.endswith("pip install 'headway[export]'")


def test_without_the_export_extra_the_rest_is_there() -> None:
    names = "; ".join(f"headway.{name}" for name in DEPLOY)
    done = without("onnx_ir", f"import headway; {names}; print(len(dir(headway)))")
    assert (done.returncode, done.stdout.strip()) == (0, str(len(headway.__all__))), done.stderr
