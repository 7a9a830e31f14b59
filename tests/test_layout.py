"""The house keeps its order: sizes, names, and a test file for each module with behavior."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("headway", "exporter", "calibration")

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60

ROLES = {
    "__init__": "says what a package is for",
    "__main__": "runs a package",
    "base": "defines what the modules of its folder have in common",
    "build": "builds engines in headway/engine, and kernels in kernels/",
    "target": "is the target of its folder",
}
"""Base names that may stand in several folders, since they play the same role there."""


HANDED_ON = {"calibration/text.py", "exporter/bundle.py", "exporter/errors.py"}
"""Old places of documented names: each warns and names the new one, for one release."""


def modules() -> Iterator[Path]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "__pycache__" not in path.parts and path.relative_to(ROOT).as_posix() not in HANDED_ON:
                yield path


def test_no_module_is_long() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in modules() if (n := len(p.read_text("utf-8").splitlines())) > MOST_LINES
    }
    assert not long


def test_no_function_is_long() -> None:
    long = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    assert not long


def test_no_two_modules_share_a_name() -> None:
    places = defaultdict(list)
    for path in modules():
        if "moved(__name__" in path.read_text("utf-8"):  # an old import path, which hands names on
            continue
        places[path.stem].append(str(path.relative_to(ROOT)))
    assert not {name: found for name, found in places.items() if len(found) > 1 and name not in ROLES}


def has_behavior(path: Path) -> bool:
    """Tell whether a module defines a function or a class with methods; dataclasses and constants have none."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            return True
        if isinstance(node, ast.ClassDef) and any(isinstance(n, ast.FunctionDef) for n in node.body):
            return True
    return False


def test_each_module_has_its_test_file() -> None:
    missing = []
    for path in modules():
        place = path.relative_to(ROOT)
        if path.stem.startswith("__") or not has_behavior(path):
            continue
        if not (ROOT / "tests" / place.parent / f"test_{path.stem}.py").is_file():
            missing.append(str(place))
    assert not missing


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import headway", ("onnxruntime", "tokenizers", "numpy")),
        (
            "import headway; headway.open",
            ("headway.exporter", "headway.calibration", "torch", "pydantic", "transformers", "onnx", "rich", "typer"),
        ),
    ],
)
def test_what_production_imports(code: str, absent: tuple[str, ...]) -> None:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not set(absent) & set(loaded)
