"""Which blocks can go: each time the one without which the answers stay nearest."""

from headway.exporter.compress.drop import drop_order
from headway.exporter.graph.anatomy import read_anatomy

from tests.support.compressing import batches


def test_the_nearest_goes_first(model) -> None:
    """Distances by the blocks that are left; greedy, so that the second is the best beside the first."""
    names = {b.index: str(b.output.name) for b in read_anatomy(model).blocks if b.output is not None}
    calls = []

    def distance(cut, few) -> float:
        left = {str(b.output.name) for b in read_anatomy(cut).blocks if b.output is not None}
        gone = sorted(i for i, name in names.items() if name not in left)
        calls.append((tuple(gone), len(few)))
        return {(0,): 3.0, (1,): 1.0}.get(tuple(gone), 5.0)

    made = batches(40)
    order = list(drop_order(model, distance, made))
    assert len(names) == len(order) + 1 and order[0] == (1 if len(names) > 2 else order[0])
    assert {few for _, few in calls} <= set(range(1, 6)) and max(few for _, few in calls) <= len(made)


def test_one_block_is_left(model) -> None:
    assert len(list(drop_order(model, lambda *_: 0.0, []))) == len(read_anatomy(model).blocks) - 1
