"""Every command and every Python block of the documentation runs, or says why it is not run."""

import importlib.util
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.snippets import Session, SnippetError, Workshop, check, read_snippets

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("rooms"))


SHORT = [ROOT / "docs" / "targets" / "executorch.md"]
"""Pages that find a model of one layer: their target takes seconds for each."""

LONG = {
    *SHORT,
    *(
        ROOT / "docs" / "guides" / f"{name}.md"
        for name in ("compress", "deploy-python", "gates", "tokenizer-on-device")
    ),
    *(ROOT / "docs" / "targets" / f"{name}.md" for name in ("coreml", "ort-mobile", "web")),
}
"""Pages whose commands take long, and are tried by other tests; with `-m slow` these pages run as well."""

KERNELS = ROOT / "docs" / "concepts" / "gpu-kernels.md"


@pytest.fixture
def few_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile one GPU kernel of each kind where a page builds all of them; with `-m slow` that page builds all."""
    if request.node.callspec.params["page"] != KERNELS or not importlib.util.find_spec("triton"):
        return
    from headway.kernels.triton import build as builder

    every = builder.variants

    def few(*given: Any) -> Iterator[builder.Variant]:
        return iter({variant.op: variant for variant in every(*given)}.values())

    monkeypatch.setattr(builder, "variants", few)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page in LONG else page for page in PAGES],
    ids=lambda page: str(page.relative_to(ROOT)),
)
@pytest.mark.usefixtures("few_kernels")
def test_snippets_run(page: Path, rooms: Workshop, tmp_path: Path) -> None:
    run_page(page, rooms, tmp_path)


@pytest.mark.slow
def test_the_page_that_builds_kernels_runs_with_all_of_them(rooms: Workshop, tmp_path: Path) -> None:
    run_page(KERNELS, rooms, tmp_path)


def run_page(page: Path, rooms: Workshop, tmp_path: Path) -> None:
    snippets = read_snippets(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))
    for snippet in snippets:
        check(snippet)
    if any(s.reason is None and s.language in ("console", "python", "yaml") for s in snippets):
        session = Session(rooms, tmp_path, short=page in SHORT)
        for snippet in snippets:
            session.run(snippet)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_writes_twice_to_a_place_without_saying_so(page: Path) -> None:
    """Headway refuses a bundle's directory that is there: whoever follows the page would be stopped."""
    places: list[str] = []
    for snippet in read_snippets(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))):
        for command in snippet.commands if snippet.language == "console" else []:
            words = shlex.split(command, comments=True)
            if words[:2] in (["headway", "export"], ["headway", "compress"]) and "--force" not in words:
                places += [words[i + 1] for i, word in enumerate(words) if word in ("--out", "-o")]
    assert len(places) == len(set(places))


def _run(text: str, rooms: Workshop, place: Path) -> None:
    session = Session(rooms, place)
    for snippet in read_snippets(text):
        session.run(snippet)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```console\n$ pip install headway\n```\n", "cannot be run by the tests; mark the block"),
        ("```console\n$ headway export model | tee log\n```\n", "cannot be run by the tests"),
        ("```console\nheadway export model\n```\n", "a console block without a command"),
        ("```bash\nheadway export model\n```\n", "fence it as console"),
        ("```\n$ headway export model\n```\n", "fence it as console"),
        ("<!-- not run: tired -->\n```console\n$ headway demo\n```\n", "'tired' is no reason"),
        ("<!-- not run -->\n```console\n$ headway demo\n```\n", "not understood"),
        ("<!-- not run: long -->\nA sentence.\n```console\n$ headway demo\n```\n", "a marker without a block"),
        ("<!-- exits: 1 -->\n", "a marker without a block"),
        ("```python\nimport headway\n", "never closed"),
    ],
)
def test_conventions_are_kept(text: str, message: str) -> None:
    with pytest.raises(SnippetError, match=message):
        for snippet in read_snippets(text):
            check(snippet)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```console\n$ headway fly bundle\n```\n", "ended with 2, not 0"),
        ("```console\n$ headway inspect path/to/nothing\n```\n", "ended with 3, not 0"),
        ("```console\n$ headway inspect path/to/model --json --wrong\n```\n", "ended with 2, not 0"),
        ("<!-- exits: 1 -->\n```console\n$ headway inspect path/to/model --json\n```\n", "ended with 0, not 1"),
        ("```python\nimport headway\nheadway.Bundle.open('bundle').fly()\n```\n", "AttributeError"),
        ("```yaml\npasses: [{kind: fly}]\n```\n", "fly"),
        ("```console\n$ headway export path/to/model --out ../bundle\n```\n", "outside of its working directory"),
    ],
)
def test_a_snippet_that_fails_is_found(text: str, message: str, rooms: Workshop, tmp_path: Path) -> None:
    with pytest.raises(SnippetError, match=message):
        _run(text, rooms, tmp_path / "place")


def test_a_page_is_one_session(rooms: Workshop, tmp_path: Path) -> None:
    text = (
        "```python\nimport headway\nopened = headway.Bundle.open('bundle')\n```\n"
        "Some text.\n\n"
        "<!-- not run: GPU, needs TensorRT -->\n\n```python\nraise RuntimeError\n```\n"
        "```yaml\nmax_mb: 0.001\n```\n"
        "<!-- exits: 1 -->\n```console\n$ headway export --recipe recipe.yaml \\\n      --out other  # too large\n```\n"
        "- an item\n\n    ```python\n    label, _ = opened.labels(['a model'])[0]\n"
        "    assert label in ('negative', 'positive')\n    ```\n"
    )
    _run(text, rooms, tmp_path / "place")
    assert not (tmp_path / "place" / "other").exists()
