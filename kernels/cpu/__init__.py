"""Load and run the CPU kernels: operators of the domain `headway` in a library for ONNX Runtime.

With plain onnxruntime one line makes a graph with these operators loadable:

    session_options.register_custom_ops_library(str(headway.kernels.cpu.library_path()))

Needs numpy and onnxruntime only; onnx is needed by `run` alone.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .build import LIBRARY

DOMAIN = "headway"

MISSING = "Headway's CPU kernels were not built: install a C++ compiler (g++ or clang++), then run python -m headway.kernels.cpu.build"


def library_path() -> Path | None:
    """Return the path of the library; None where it was not built, as on a machine without a C++ compiler."""
    path = Path(__file__).resolve().parent / LIBRARY
    return path if path.is_file() else None


def run(
    op_type: str,
    inputs: Sequence[np.ndarray | None],
    *,
    outputs: Sequence[np.dtype | type] | None = None,
    constants: Collection[int] = (),
    threads: int = 1,
    **attributes: Any,
) -> list[np.ndarray]:
    """Run one operator on arrays in a session of its own; None stands for an optional input that is absent.

    `outputs` are the dtypes of the outputs; by default there is one, of the first input's dtype. `constants` are the indices of
    inputs that are initializers. Raises what the runtime raises.
    """
    session = open_session(op_type, inputs, outputs=outputs, constants=constants, threads=threads, **attributes)
    return session(inputs)


class Session:
    """One operator in a session: call it with the inputs."""

    def __init__(self, model: bytes, threads: int):
        import onnxruntime

        path = library_path()
        if path is None:
            raise RuntimeError(MISSING)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.register_custom_ops_library(str(path))
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.fed = {value.name for value in self.session.get_inputs()}

    def __call__(self, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        feeds: Mapping[str, np.ndarray] = {
            f"x{i}": x for i, x in enumerate(inputs) if x is not None and f"x{i}" in self.fed
        }
        return self.session.run(None, feeds)


def open_session(
    op_type: str,
    inputs: Sequence[np.ndarray | None],
    *,
    outputs: Sequence[np.dtype | type] | None = None,
    constants: Collection[int] = (),
    threads: int = 1,
    **attributes: Any,
) -> Session:
    """Open a session of one operator for inputs of these dtypes and ranks and of any size; `constants` keep their values."""
    from onnx import helper, numpy_helper

    def info(name: str, dtype: np.dtype | type, rank: int | None) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, kind, None if rank is None else [None] * rank)

    assert inputs[0] is not None
    dtypes = list(outputs or [inputs[0].dtype])
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    results = [f"y{i}" for i in range(len(dtypes))]
    node = helper.make_node(op_type, names, results, domain=DOMAIN, name=op_type, **attributes)
    graph = helper.make_graph(
        [node],
        op_type,
        [
            info(n, x.dtype, x.ndim)
            for i, (n, x) in enumerate(zip(names, inputs, strict=True))
            if x is not None and i not in constants
        ],
        [info(n, d, None) for n, d in zip(results, dtypes, strict=True)],
        [numpy_helper.from_array(x, names[i]) for i, x in enumerate(inputs) if x is not None and i in constants],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    return Session(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(), threads)
