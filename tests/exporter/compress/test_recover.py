"""Distillation: it lowers the loss, and is resumed where it was interrupted."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from headway.errors import SourceError
from headway.exporter.compress import recover as recovery
from headway.exporter.compress.recover import recover
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.neurons import RemoveNeurons

from tests.support.compressing import batches, error
from tests.support.variants import canonical


def test_recovery_lowers_the_loss_and_goes_on_where_it_was(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Minutes of the processor: on a busy machine those of the clock would hold fewer steps.
    monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=time.process_time))
    source = canonical(bert)
    model = source.clone()
    RemoveNeurons({(b.index, 0): range(16) for b in read_anatomy(model).blocks})(model)
    start = model.clone()
    state = tmp_path / "state.safetensors"
    made = batches(60)
    anatomy, graph = read_anatomy(source), TorchGraph(source)
    before = error(graph, model, made)

    class Stop(KeyboardInterrupt):
        pass

    def stop(done: float, _: float) -> None:
        if done > 0.25:
            raise Stop

    with pytest.raises(KeyboardInterrupt):
        recover(graph, anatomy, model, made, 0.1, state=state, on_step=stop)
    assert state.is_file()
    begun: list[float] = []
    done = recover(graph, anatomy, model, made, 0.06, state=state, on_step=lambda share, _: begun.append(share))
    assert begun[0] > 0.4 and not state.exists()  # of less time than before
    assert done.losses[0][0] < 1.5 <= done.seconds  # losses from before the interruption are kept
    assert error(graph, model, made) < 0.5 * before
    other = start.clone()
    RemoveNeurons({(0, 0): range(8)})(other)
    with pytest.raises(KeyboardInterrupt):
        recover(graph, anatomy, start, made, 0.1, state=state, on_step=stop)
    with pytest.raises(SourceError, match="another compression"):
        recover(graph, anatomy, other, made, 0.1, state=state)


def test_a_training_of_some_rounds_is_the_same_again(bert: Path) -> None:
    """Where time does not end it, nothing depends on the clock."""
    source = canonical(bert)
    made, anatomy, graph = batches(20), read_anatomy(source), TorchGraph(source)
    results = []
    for _ in range(2):
        model = source.clone()
        RemoveNeurons({(b.index, 0): range(16) for b in read_anatomy(model).blocks})(model)
        done = recover(graph, anatomy, model, made, 1e6, epochs=2)
        assert len(done.losses) == 2 * len(made) and done.texts == 40
        results.append({n: constant(v) for n, v in model.graph.initializers.items() if constant(v) is not None})
    assert all(np.array_equal(results[0][n], results[1][n]) for n in results[0])
