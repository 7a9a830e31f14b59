"""A worker that says some results and then dies, as a runtime that crashes does."""

import json
import os
import signal
import sys

sys.stdin.read()
cold = {"start_ms": 1.0, "import_ms": 2.0, "load_ms": 3.0, "first_run_ms": 4.0, "total_ms": 10.0}
print(json.dumps({"cold": cold}))
print(json.dumps({"round": [[[1.0, 1.0], [2.0, 2.0]]], "spin": [0.0, 0.0, 0.02]}))
print('{"round": [[[1.0', end="", flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
