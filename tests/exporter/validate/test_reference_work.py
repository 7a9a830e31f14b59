"""The reference workload is fixed, finite, and without onnxruntime."""

import subprocess
import sys

import numpy as np

from headway.exporter.validate.reference_work import NAME, ReferenceWork


def test_the_work_is_the_same_every_time() -> None:
    first, second = ReferenceWork(), ReferenceWork()
    out = first.run({})["last_hidden_state"]
    assert out.shape == (32, 384) and out.dtype == np.float32 and np.isfinite(out).all()
    assert np.array_equal(out, first.run()["last_hidden_state"])
    assert np.array_equal(out, second.run()["last_hidden_state"])
    assert NAME.endswith("1")


def test_it_does_not_need_the_runtime() -> None:
    script = "import sys, headway.exporter.validate.reference_work as r; r.ReferenceWork().run(); print('onnxruntime' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )
