"""Read integers that are looked up, reshaped or transposed before they become float: the float values are moved instead.

Tools quantize an embedding as `DequantizeLinear(Gather(integers, ids))`, and leave shape operators between integers.
"""

import onnx_ir as ir

from ...graph.edit import constant, insert, producer
from .base import FLOAT, Form, Reading, drop, finish, given, operators

_MOVES = ("Gather", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Slice", "Expand", "Identity")


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Put each DequantizeLinear with one scale for all in front of the operators that only move the integers."""
    waiting = list(found)
    once: dict[tuple[ir.Value | None, ...], ir.Value] = {}
    while waiting:
        back = waiting.pop()
        move = producer(back.inputs[0], *_MOVES)
        if move is None:
            continue
        scale = constant(given(back, 1))
        if scale is None or scale.size != 1:
            raise reading.refuse(
                back, f"its integers come from {move.op_type} with a scale of their own for each channel"
            )
        inputs = (move.inputs[0], *back.inputs[1:])
        if inputs not in once:
            name = f"{back.outputs[0].name}.before_{move.op_type}"
            once[inputs] = insert(move, "DequantizeLinear", inputs, name=name, dtype=FLOAT)
            node = once[inputs].producer()
            assert node is not None
            waiting.append(node)
        attributes = {name: attribute.value for name, attribute in move.attributes.items()}
        name = f"{back.outputs[0].name}.{move.op_type}"
        moved = insert(move, move.op_type, [once[inputs], *move.inputs[1:]], name=name, dtype=FLOAT, **attributes)
        finish(back, moved)
        drop(reading, back)


FORM = Form(2, operators("DequantizeLinear", domain=""), read)
