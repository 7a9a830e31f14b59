"""What a search found, as a file: it comes back as it was, damage is named, and the best that meets limits is picked."""

import json
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

from headway.errors import GateError, SourceError, UsageError
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.search.front_file import (
    FRONT,
    SCHEMA_VERSION,
    FrontBundle,
    FrontFile,
    FrontSource,
    Limits,
    folder_of,
    merit_of_bundle,
    pick,
    read_front,
)

from tests.support.searching import record

SOURCE = FrontSource("model", 10.0, 100.0, 90.0)


def bundle(number: int, lost: float, ms: float, mb: float) -> FrontBundle:
    measured = record(number, lost, ms, mb, quality=90 - lost).measured
    assert measured is not None
    name = f"{number:03d}"
    return FrontBundle(name, number, "int8", {}, lost, measured, merit_of_bundle(SOURCE, measured), ["headway", name])


def front(*bundles: FrontBundle) -> FrontFile:
    work, texts = {"shapes": [[1, 16]], "threads": 1}, {"learn": 90, "choose": 30, "judge": 30}
    counts = {"bundle": len(bundles)}
    return FrontFile(
        SCHEMA_VERSION, SOURCE, "ort", "accuracy", work, texts, {"cpu": "x"}, "", 0, 60.0, counts, list(bundles)
    )


THREE = front(bundle(1, 0.5, 8.0, 50.0), bundle(2, 2.0, 4.0, 25.0), bundle(3, 6.0, 2.0, 20.0))


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    THREE.write(tmp_path)
    assert read_front(tmp_path) == THREE


def test_a_long_command_comes_back_and_is_quoted_for_a_shell(tmp_path: Path) -> None:
    data = [word for n in range(10) for word in ("--data", f"/{'long folder/' * 20}{n}.txt")]
    long = replace(THREE.bundles[0], command=["headway", "export", "model", *data])
    found = replace(front(long), seed=make_recipe("test", source="x", calibration={"seed": 2**53}).calibration.seed)
    found.write(tmp_path)
    assert read_front(tmp_path) == found
    assert shlex.split(long.command_line) == long.command and len(long.command_line) > 2 * 1000
    with pytest.raises(UsageError, match=r"calibration\.seed"):
        make_recipe("test", source="x", calibration={"seed": 2**53 + 1})


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(), "002"),
        (Limits(max_ms=3), "003"),
        (Limits(min_quality=89), "001"),
        (Limits(max_ms=5, min_quality=86), "002"),
        (Limits(max_mb=30, max_drop=3), "002"),
    ],
)
def test_the_one_of_most_merit_that_meets_the_limits(limits: Limits, name: str, tmp_path: Path) -> None:
    assert pick(THREE, limits, tmp_path).name == name


def test_where_none_meets_them_the_nearest_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        GateError, match=r"no bundle meets --max-ms 3 and --min-quality 88\. The nearest: 00"
    ) as refused:
        pick(THREE, Limits(max_ms=3, min_quality=88), tmp_path)
    nearest = str(refused.value).partition("The nearest: ")[2].split("; ")
    assert [one[:3] for one in nearest] == ["003", "001", "002"] or len(nearest) == 3
    assert nearest[0].startswith("003 with 2.00 ms, 20.0 MB, 84.00 points of accuracy")
    with pytest.raises(GateError, match="the front is empty"):
        pick(front(), Limits(), tmp_path)


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no front.json: give the --out of headway search"):
        read_front(tmp_path)
    THREE.write(tmp_path)
    content = json.loads((tmp_path / FRONT).read_text())
    for change, says in (
        ({"schema_version": 2}, "version 2"),
        ({"bundles": [{}]}, r"damaged \(bundles\[0\].\w+: missing"),
        ({"seconds": "long"}, "a finite number is expected"),
    ):
        (tmp_path / FRONT).write_text(json.dumps(content | change))
        with pytest.raises(SourceError, match=says):
            read_front(tmp_path)
    for odd in (replace(THREE.bundles[0], name="../x"), replace(THREE.bundles[0], name="")):
        front(odd).write(tmp_path)
        with pytest.raises(SourceError, match="is no name of a bundle"):
            read_front(tmp_path)
    nothing = replace(THREE.bundles[0], measured=replace(THREE.bundles[0].measured, ms=0.0))
    front(nothing).write(tmp_path)
    with pytest.raises(SourceError, match="no latency or no size"):
        read_front(tmp_path)


def test_memory_is_limited_only_where_it_was_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"memory was not measured, .*--max-memory 100 .*: search with --memory"):
        pick(THREE, Limits(max_memory=100), tmp_path)
    bundles = [replace(b, measured=replace(b.measured, rss_mb=100.0 * b.trial)) for b in THREE.bundles]
    assert pick(front(*bundles), Limits(max_memory=100), tmp_path).name == "001"
    with pytest.raises(GateError, match="no bundle meets --max-memory 50"):
        pick(front(*bundles), Limits(max_memory=50), tmp_path)


def test_a_bundle_whose_memory_was_not_measured_is_the_last_of_the_nearest(tmp_path: Path) -> None:
    limits = Limits(max_ms=4, max_memory=200)
    first, second, _ = THREE.bundles
    measured = replace(second, measured=replace(second.measured, ms=8.0, rss_mb=500.0))
    assert limits.missed(first.measured) == {"max_ms": 1.0, "max_memory": float("inf")}
    assert limits.missed(measured.measured) == {"max_ms": 1.0, "max_memory": 1.5}
    with pytest.raises(GateError, match=r"The nearest: 002 with .*; 001 with "):
        pick(front(first, measured), limits, tmp_path)


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_limit_is_a_finite_number(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} {value}: a finite number is expected"):
        Limits(**{name: value})


def test_a_bundle_that_is_gone_is_named_with_what_brings_it_back(tmp_path: Path) -> None:
    gone = replace(THREE.bundles[0], command=["headway", "export", "a model"])
    says = (
        "the bundle is not there any more: its recipe is gone too, so search again with --force, which begins anew, or"
    )
    with pytest.raises(SourceError, match=says):
        folder_of(tmp_path, gone)
    folder = tmp_path / "bundles" / gone.name
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("source: a model\n")
    with pytest.raises(SourceError, match=r"any more: make it again with `headway export 'a model'`$"):
        folder_of(tmp_path, gone)
