"""`headway export` and `headway compress`: words become one recipe, and what is printed tells what was made."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headway.exporter import api
from headway.exporter.recipe.recipe import Recipe

from tests.support.command_line import Headway


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Keep what `api.export` is asked for, and make nothing."""
    kept: dict[str, Any] = {}

    def export(source: None, out: Path, **options: Any) -> Any:
        kept.update(options, out=out)
        manifest = SimpleNamespace(compression=None, lowering={"attention": 2})
        parity = SimpleNamespace(to_json=lambda: {"ok": True})
        return SimpleNamespace(path=out, manifest=manifest, parity=parity, source_bytes=8, artifact_bytes=4)

    monkeypatch.setattr(api, "export", export)
    return kept


def test_every_option_of_export_is_in_the_recipe(headway: Headway, asked: dict[str, Any], tmp_path: Path) -> None:
    words = (
        "export model -t tensorrt-rtx --dtype fp16 --gpu sm_89,sm_120 --plan -d text.csv --column body --task fill-mask"
    )
    done = headway(*words.split(), "-o", tmp_path / "out", "-f", "--allow-pickle", "--kernels", "stock", "--json")
    assert done.returncode == 0, done.stderr
    assert asked["recipe"] == Recipe(
        source="model",
        target="tensorrt-rtx",
        dtype="fp16",
        engine={"gpus": ["sm_89", "sm_120"], "plan": True},  # type: ignore[arg-type]
        data=Path("text.csv"),
        column="body",
        task="fill-mask",
        kernels="stock",
    )
    assert (asked["out"], asked["force"], asked["allow_pickle"]) == (tmp_path / "out", True, True)
    assert json.loads(done.stdout) == {
        "path": str(tmp_path / "out"),
        "artifact_bytes": 4,
        "source_bytes": 8,
        "parity": {"ok": True},
        "lowering": {"attention": 2},
    }


def test_options_replace_what_the_recipe_says(headway: Headway, asked: dict[str, Any], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("source: model\ntarget: web\nmax_mb: 9\n")
    assert headway("export", "-r", recipe, "-o", "out", "-q").returncode == 0
    assert asked["recipe"] == Recipe(source="model", target="web", max_mb=9)
    assert headway("export", "other", "-r", recipe, "-o", "out", "-q", "-t", "ort").returncode == 0
    assert asked["recipe"] == Recipe(source="other", target="ort", max_mb=9)


def test_every_option_of_compress_is_in_the_recipe(headway: Headway, asked: dict[str, Any], tmp_path: Path) -> None:
    words = (
        "compress model -d text.csv -s 2 --quantize int4 --max-drop 1.5 --recover 10-minutes --trim-vocabulary --search"
    )
    scripts = "--keep-script latin --keep-script greek"
    more = "--samples 99 --shape 8x16 --shape 1x32 --threads 2 --task fill-mask --column body --kernels custom -t ort"
    done = headway(*words.split(), *more.split(), *scripts.split(), "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert asked["recipe"] == api.compression_recipe(
        "model",
        data="text.csv",
        budget={"speedup": 2.0},
        quantize="int4",
        recover_minutes=10.0,
        trim_vocabulary=True,
        keep_scripts=["latin", "greek"],
        search=True,
        repair=True,
        calibration={"samples": 99},
        work={"shapes": [(8, 16), (1, 32)], "threads": 2},
        task="fill-mask",
        column="body",
        kernels="custom",
        target="ort",
        max_drop=1.5,
    )
    assert (
        headway("compress", "model", "-d", "t.txt", "-o", "out", "-q", "--latency", "8ms", "--no-repair").returncode
        == 0
    )
    (fit,) = asked["recipe"].passes
    assert (fit.latency_ms, fit.rounds) == (8.0, 1)


@pytest.mark.parametrize("words", ["export model", "compress model --quantize int8"])
def test_data_may_be_given_several_times(words: str, headway: Headway, asked: dict[str, Any]) -> None:
    assert headway(*words.split(), "-d", "a.txt", "--data", "b.txt", "-o", "out", "-q").returncode == 0
    assert asked["recipe"].files == (Path("a.txt"), Path("b.txt"))


def test_a_table_and_the_path_are_printed(headway: Headway, bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "[out]"
    done = headway("export", bert, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "parity, last_hidden_state" in done.stdout
    assert done.stdout.splitlines()[-1] == str(out)
    assert headway("export", bert, "-o", out).returncode == 2
    quiet = headway("export", bert, "-o", out, "-f", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
