"""Forms are undone one after the other until none is left."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from headway.errors import SourceError
from headway.exporter.source.checkpoints import read as reading
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.place import Place


def _wrapper(name: str, order: int, *, forever: bool = False) -> SimpleNamespace:
    """Return a form that takes the prefix `name.` from all tensors."""

    def read(checkpoint: Checkpoint) -> Checkpoint | None:
        if forever:
            return checkpoint.changed("again")
        if not all(n.startswith(f"{name}.") for n in checkpoint.state):
            return None
        return checkpoint.changed(name, state={n.removeprefix(f"{name}."): t for n, t in checkpoint.state.items()})

    return SimpleNamespace(NAME=name, ORDER=order, MARKS=(f".{name}",), read=read)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    save_file({"a.b.a.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    return (tmp_path / "model.safetensors",)


def test_forms_are_undone_from_the_outside(
    tmp_path: Path, files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "all_forms", lambda: (_wrapper("b", 0), _wrapper("a", 1)))
    checkpoint = reading.read_checkpoint(Place(tmp_path, files), {})
    assert checkpoint is not None
    assert checkpoint.sentences == ("a", "b", "a")
    assert list(checkpoint.state) == ["weight"]
    assert reading.close_to(["x.b"]) == ["b"]


def test_a_plain_checkpoint_is_left_to_its_own_library(
    tmp_path: Path, files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "all_forms", lambda: (_wrapper("c", 0),))
    assert reading.read_checkpoint(Place(tmp_path, files), {}) is None


def test_forms_without_an_end_are_refused(
    tmp_path: Path, files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "all_forms", lambda: (_wrapper("c", 0, forever=True),))
    with pytest.raises(SourceError, match="more than 16 forms"):
        reading.read_checkpoint(Place(tmp_path, files), {})


def test_every_form_says_what_it_is() -> None:
    forms = reading.all_forms()
    assert [f.ORDER for f in forms] == sorted(f.ORDER for f in forms)
    assert len({f.NAME for f in forms}) == len(forms) >= 2
    assert all(f.NAME and isinstance(f.MARKS, tuple) and (f.read.__doc__ or "").strip() for f in forms)
