"""Options become passes in the order in which they are run; what contradicts itself is refused."""

import pytest

from headway.errors import UsageError
from headway.exporter.recipe.compression_passes import DEFAULT_EPOCHS, DEFAULT_MINUTES, compression_passes


def _kinds(**options: object) -> list[str]:
    given = {"budget": {}, "quantize": None, "recover_minutes": None, "trim_vocabulary": False, "keep_scripts": ()}
    return [p["kind"] for p in compression_passes(**given | {"search": False, "repair": True} | options)]  # type: ignore[arg-type]


def test_a_budget_is_met_then_repaired_then_distilled_then_quantized() -> None:
    everything = _kinds(budget={"speedup": 2.0}, quantize="int8", trim_vocabulary=True)
    assert everything == ["trim_vocabulary", "fit", "repair", "recover", "quantize"]
    assert _kinds(budget={"speedup": 2.0}, recover_minutes=0.0) == ["fit", "repair"]
    assert _kinds(budget={"speedup": 2.0}, repair=False) == ["fit"]
    assert _kinds(recover_minutes=2.0, quantize="float16") == ["recover", "float16"]


def test_the_default_distillation_is_short() -> None:
    *_, last = compression_passes({"flops": 0.5}, None, None, False, (), search=False, repair=True)
    assert last == {"kind": "recover", "minutes": DEFAULT_MINUTES, "epochs": DEFAULT_EPOCHS}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "say what to do"),
        ({"keep_scripts": ["latin"], "quantize": "int8"}, "give `trim_vocabulary`"),
        ({"search": True, "budget": {"speedup": 2.0}}, "give `quantize`"),
        ({"search": True, "quantize": "float16"}, "int8 or int4"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        _kinds(**options)
