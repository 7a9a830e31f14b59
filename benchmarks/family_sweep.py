"""Export a small random model of every family: which are exact, which are refused, and why.

Run `python -m benchmarks.family_sweep [FAMILY …]`.
"""

import json
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support.other_families import OTHER_FAMILIES, make_other

out = Path("/tmp/sweep.json")
res = json.loads(out.read_text()) if out.exists() else {}
for f in sys.argv[1:] or OTHER_FAMILIES:
    t = time.time()
    with tempfile.TemporaryDirectory() as d, warnings.catch_warnings(record=True) as w:
        warnings.simplefilter("always")
        try:
            make_other(Path(d) / "s", f)
            done = export(Recipe(source=str(Path(d) / "s")), Path(d) / "o")
            r = (
                f"OK {max(o.max_abs for o in done.parity.outputs):.1e} blocks "
                + str([(b["heads"], b["intermediate_size"]) for b in done.manifest.anatomy["blocks"]])
                + str([o["name"] if isinstance(o, dict) else o.name for o in done.manifest.inputs])
                + str(done.manifest.lowering)
            )
        except Exception as e:
            r = f"{type(e).__name__}: {str(e)[:600]}"
            if type(e).__name__ not in ("SourceError", "GateError"):
                r += traceback.format_exc()[-1500:]
        notes = [str(x.message)[:300] for x in w if type(x.message).__name__ == "HeadwayWarning"]
    res[f] = r
    print(f, f"{time.time() - t:.1f}s", r, notes, flush=True)
    out.write_text(json.dumps(res, indent=1))
