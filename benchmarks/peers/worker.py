"""One contestant in a process of its own: reads case names, answers milliseconds. Runs in any of the environments.

    python worker.py KIND ARTIFACT THREADS FEEDS.npz

FEEDS holds `CASE/input_ids` and so on, int64 `[batch, sequence]`. Each line on standard input is a case to run once; the
answer is a line with the milliseconds it took. `check CASE FILE` saves the mean of the real tokens' states, `[batch, hidden]`.
"""

import os
import sys
import time

import numpy as np


def onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return lambda feeds: session.run(None, {n: feeds[n] for n in names})[0]


def openvino(path, threads, **precision):
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **precision}
    model = openvino.Core().compile_model(path, "CPU", settings)
    request = model.create_infer_request()
    names = [i.get_any_name() for i in model.inputs]
    return lambda feeds: request.infer({n: feeds[n] for n in names})[0]


def openvino_float32(path, threads):
    return openvino(path, threads, INFERENCE_PRECISION_HINT="f32")


def ctranslate2(path, threads, compute_type="float32"):
    import ctranslate2

    encoder = ctranslate2.Encoder(path, device="cpu", intra_threads=threads, compute_type=compute_type)

    def run(feeds):
        rows = [
            ids[mask.astype(bool)].tolist()
            for ids, mask in zip(feeds["input_ids"], feeds["attention_mask"], strict=True)
        ]
        return np.array(encoder.forward_batch(rows).last_hidden_state)

    return run


def ctranslate2_int8(path, threads):
    return ctranslate2(path, threads, "int8")


def headway(path, threads):
    import headway as ours

    if (
        "HEADWAY_COPIES" in os.environ
    ):  # benchmarks.avx2 hides instructions from libraries, not from the system's own list
        from headway import processor

        processor.about = lambda: ("", frozenset())
    runner = ours.Bundle.open(path, threads=threads).runner
    return lambda feeds: runner.run(feeds)["last_hidden_state"]


def main():
    kind, path, threads, feeds_path = sys.argv[1:5]
    run = globals()[kind](path, int(threads))
    stored = np.load(feeds_path)
    cases = {}
    for key in stored.files:
        case, name = key.rsplit("/", 1)
        cases.setdefault(case, {})[name] = stored[key]
    for feeds in cases.values():
        run(feeds)
    print("ready", flush=True)
    for line in sys.stdin:
        words = line.rstrip("\n").split("\t")
        if words[0] == "check":
            feeds = cases[words[1]]
            mask = feeds["attention_mask"][:, :, None]
            np.save(words[2], (run(feeds)[:, : mask.shape[1]] * mask).sum(1) / mask.sum(1))
            print("saved", flush=True)
            continue
        feeds = cases[words[0]]
        start = time.perf_counter_ns()
        run(feeds)
        print((time.perf_counter_ns() - start) / 1e6, flush=True)


if __name__ == "__main__":
    main()
