"""Search a text file by meaning, in a browser: embed its lines, index them, ask.

pip install 'headway[serve]' hnswlib
python examples/search_demo.py build/bundle corpus.txt --port 8080
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

import headway

MOST_RESULTS = 20
MOST_CHARACTERS = 1000

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Search by meaning</title>
<style>body { font: 16px sans-serif; margin: 2rem auto; max-width: 45rem; } input { font: inherit; width: 100%; padding: .5rem; }
li { margin: .6rem 0; } small { color: #666; }</style></head>
<body><h1>Search COUNT lines by meaning</h1>
<input id="query" autofocus placeholder="Ask something" aria-label="query"><ol id="results"></ol>
<script>
const query = document.getElementById("query"), results = document.getElementById("results");
let latest = 0;
query.addEventListener("input", async () => {
  const mine = ++latest;
  const answer = await fetch("search?q=" + encodeURIComponent(query.value));
  const found = await answer.json();
  if (mine !== latest) return;
  results.replaceChildren(...(found.results || []).map(({ text, score }) => {
    const item = document.createElement("li"), note = document.createElement("small");
    note.textContent = " " + score.toFixed(3);
    item.append(text, note);
    return item;
  }));
});
</script></body></html>
"""


class Index:
    """Vectors of length 1 and their nearest by cosine: hnswlib's graph where it is installed, all of them compared where not."""

    def __init__(self, vectors: np.ndarray):
        self.vectors = vectors
        self.graph: Any = None
        try:
            import hnswlib
        except ModuleNotFoundError:
            return
        self.graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self.graph.init_index(max_elements=len(vectors), ef_construction=200, M=16)
        self.graph.add_items(vectors)
        self.graph.set_ef(4 * MOST_RESULTS)

    def nearest(self, vector: np.ndarray, count: int) -> list[tuple[int, float]]:
        """Return number and cosine of the nearest vectors, the nearest first."""
        count = min(count, len(self.vectors))
        if self.graph is not None:
            numbers, distances = self.graph.knn_query(vector, k=count)
            return [(int(i), 1 - float(d)) for i, d in zip(numbers[0], distances[0], strict=True)]
        scores = self.vectors @ vector
        return [(int(i), float(scores[i])) for i in np.argsort(-scores, kind="stable")[:count]]


def application(bundle: headway.Bundle, lines: Sequence[str]) -> Starlette:
    """Return the page and its search."""
    index = Index(bundle.encode(lines, normalize=True))

    def page(request: Request) -> HTMLResponse:
        return HTMLResponse(PAGE.replace("COUNT", str(len(lines))))

    def search(request: Request) -> JSONResponse:
        query = request.query_params.get("q", "").strip()[:MOST_CHARACTERS]
        if not query:
            return JSONResponse({"results": []})
        found = index.nearest(bundle.encode([query], normalize=True)[0], MOST_RESULTS)
        return JSONResponse({"results": [{"text": lines[i], "score": score} for i, score in found]})

    return Starlette(routes=[Route("/", page), Route("/search", search)])


def read_lines(corpus: Path) -> list[str]:
    """Return the lines that are not empty; of a .jsonl file their `text`."""
    lines = [line.strip() for line in corpus.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [json.loads(line)["text"] for line in lines] if corpus.suffix == ".jsonl" else lines


def main() -> None:
    """Serve the search on this machine."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    app = application(headway.open(arguments.bundle), read_lines(arguments.corpus))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()
