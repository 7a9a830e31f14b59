"""Progress: one bar for all stages and one for the stage; a line a stage without a terminal; nothing where it is hidden."""

import io

import pytest
from rich.console import Console

from headway.exporter.cli import progress as module
from headway.exporter.cli.progress import Stages, progress, stages_of
from headway.exporter.export import STEPS
from headway.exporter.recipe.recipe import make_recipe


def test_parts_of_one_series_fill_one_bar_whatever_their_names() -> None:
    stages = Stages(3)
    seen = []
    for name, of, at in [
        ("capture", None, None),
        ("shrink", None, None),
        ("importances", 2, None),
        ("importances", 2, None),
        ("measure latency, 4 heads", 3, None),
        ("measure latency, 8 neurons", 3, None),
        ("measure latency, rank 2", 3, None),
        ("recover, loss 0.5", 100, 40.0),
        ("repair, layer.0", 0, None),
        ("quantize", None, None),
        ("one more than was said", None, None),
    ]:
        begins = stages.report(name, of, at)
        seen.append((stages.place, stages.series, stages.done, stages.of, begins))
    assert seen == [
        ("stage 1 of 3", None, 0.0, None, True),
        ("stage 2 of 3", None, 0.0, None, True),
        ("stage 2 of 3", "importances", 0, 2, True),
        ("stage 2 of 3", "importances", 1, 2, False),
        ("stage 2 of 3", "measure latency", 0, 3, True),
        ("stage 2 of 3", "measure latency", 1, 3, False),
        ("stage 2 of 3", "measure latency", 2, 3, False),
        ("stage 2 of 3", "recover", 40.0, 100, True),
        ("stage 2 of 3", "repair", 0, None, True),
        ("stage 3 of 3", None, 0.0, None, True),
        ("stage 4 of 4", None, 0.0, None, True),
    ]


def test_nothing_is_shown_where_it_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, hidden=True) as step:
        step("one")
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_a_stage_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2, hidden=False) as step:
        step("one")
        step("part, first", of=10)
        step("part, second", of=10, at=4)
        step("two")
    assert capsys.readouterr() == ("", "headway: stage 1 of 2: one\nheadway: stage 2 of 2: two\n")


def test_on_a_terminal_the_stage_and_its_part_are_named_and_no_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    bars = module._bars()
    bars.live.console = Console(file=screen, force_terminal=True, width=120)
    stages = Stages(3)
    step = module._shown(bars, stages)
    step("capture")
    step("observe, batch 1", of=4)
    step("quantize")
    step("sensitivity, layer.0", of=8, at=2)
    whole, part = bars.tasks
    assert (whole.description, whole.completed, whole.total) == ("stage 2 of 3: quantize", 1, 3)
    assert (part.description, part.completed, part.total, part.visible) == ("  sensitivity, layer.0", 2, 8, True)
    step("finish")
    assert not part.visible and whole.completed == 2


def test_the_stages_of_an_export_are_its_steps() -> None:
    """The number stands by itself, since the steps are imported with torch."""
    plain = make_recipe("test", source="x")
    cut = make_recipe("test", source="x", data="y", passes=[{"kind": "fit", "flops": 0.5}, {"kind": "repair"}])
    assert stages_of(plain) == len(STEPS) and stages_of(cut) == len(STEPS) + 1 + 2
