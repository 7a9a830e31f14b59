"""The steps that change structure: counts take what matters most."""

from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe


def test_counts_take_the_most_important_and_grow_to_the_multiple(classifier: Path, text: Path, tmp_path: Path) -> None:
    passes = [
        {"kind": "remove_neurons", "keep": {0: 100}},
        {"kind": "remove_heads", "keep": {1: 2}},
        {"kind": "remove_blocks", "least_important": 1},
        {"kind": "remove_parts", "feed_forwards": [1]},
    ]
    recipe = make_recipe("test", source=str(classifier), data=text, passes=passes, max_drop=100)
    done = export(recipe, tmp_path / "bundle")
    assert done.manifest.compression is not None
    changes = [s["changes"] for s in done.manifest.compression["stages"][1:]]
    assert changes[0] == {"block 0": "neurons 256 → 112"}
    assert changes[1] == {"block 1": "heads 4 → 2"}
    assert list(changes[2].values()) == ["removed"]
    assert len(done.manifest.anatomy["blocks"]) == 2
    assert done.manifest.anatomy["blocks"][1]["intermediate_size"] == []
    bad = make_recipe("test", source=str(classifier), data=text, passes=[{"kind": "remove_heads", "keep": {0: 5}}])
    with pytest.raises(UsageError, match="5 heads cannot be kept, it has 4"):
        export(bad, tmp_path / "bad")
