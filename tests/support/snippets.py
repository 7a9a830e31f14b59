"""Read the snippets of the documentation, and run them on small random models.

The conventions stand in `docs/develop/testing.md`: which fences are run, how one is marked as not run, and what a snippet finds in its
working directory.
"""

import ast
import contextlib
import json
import random
import re
import shlex
import shutil
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support import models

REASONS = ("GPU", "phone", "macOS", "network", "cluster", "long")
"""Why a snippet may be left out of the tests."""

RUN = ("console", "python", "yaml")
_SHELLS = ("bash", "sh", "shell", "shell-session", "zsh")
_OPERATORS = {"|", "||", ">", ">>", "<", "&", "&&", ";"}
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)[^`]*$")
_NOT_RUN = re.compile(r"^\s*<!-- not run: (?P<reason>\w+)(?:,.*)? -->\s*$")
_EXITS = re.compile(r"^\s*<!-- exits: (?P<code>\d+) -->\s*$")
_MARKER = re.compile(r"^\s*<!-- (not run|exits)\b")

BUNDLES = {
    "bundle": "model",
    "encoder-bundle": "encoder",
    "tagger-bundle": "tagger",
    "reader-bundle": "reader",
    "chooser-bundle": "chooser",
}
"""Bundles that are there before a page makes them, with the model each is of."""

RECIPE = "version: 1\nsource: path/to/model\n"


class SnippetError(AssertionError):
    """A snippet breaks a convention, or does not do what its page says."""


@dataclass(frozen=True)
class Snippet:
    """One fenced block. `line` is where its text begins; `reason` says why it is not run; `exits` is the code of its last command."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None = None
    exits: int = 0

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}"

    @property
    def commands(self) -> list[str]:
        """Return the commands of a console block, each on one line."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        return [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]


def read_snippets(text: str, page: str = "page") -> list[Snippet]:
    """Return all fenced blocks of a page. SnippetError names a marker that is misspelled, unknown or without a block."""
    snippets: list[Snippet] = []
    lines = text.splitlines()
    reason: str | None = None
    exits, marked = 0, 0
    index = 0
    while index < len(lines):
        line = lines[index]
        fence = _FENCE.match(line)
        if fence:
            end = next((i for i in range(index + 1, len(lines)) if lines[i].strip() == fence["ticks"]), None)
            if end is None:
                raise SnippetError(f"{page}, line {index + 1}: the block is never closed")
            body = textwrap.dedent("\n".join(lines[index + 1 : end])) + "\n"
            snippets.append(Snippet(page, index + 2, fence["language"], body, reason, exits))
            index, reason, exits, marked = end + 1, None, 0, 0
            continue
        if _MARKER.match(line):
            not_run, code = _NOT_RUN.match(line), _EXITS.match(line)
            if not_run:
                reason = not_run["reason"]
                if reason not in REASONS:
                    raise SnippetError(
                        f"{page}, line {index + 1}: {reason!r} is no reason; known are {', '.join(REASONS)}"
                    )
            elif code:
                exits = int(code["code"])
            else:
                raise SnippetError(f"{page}, line {index + 1}: a marker that is not understood: {line.strip()}")
            marked = index + 1
        elif marked and line.strip():
            raise SnippetError(f"{page}, line {marked}: a marker without a block behind it")
        index += 1
    if marked:
        raise SnippetError(f"{page}, line {marked}: a marker without a block behind it")
    return snippets


def check(snippet: Snippet) -> None:
    """Raise SnippetError where a block that is not marked holds something that cannot be run."""
    if snippet.language in ("", *_SHELLS) and re.search(r"^\s*\$?\s*headway ", snippet.text, re.M):
        raise SnippetError(f"{snippet}: a headway command in a block that is not run; fence it as console")
    if snippet.reason is not None or snippet.language != "console":
        return
    if not snippet.commands:
        raise SnippetError(f"{snippet}: a console block without a command; each begins with '$ '")
    for command in snippet.commands:
        words = shlex.split(command, comments=True)
        if not words or words[0] != "headway" or _OPERATORS & set(words):
            raise SnippetError(
                f"{snippet}: `{command}` cannot be run by the tests; mark the block, as <!-- not run: network -->"
            )


class Workshop:
    """Small random models and their bundles, each made once when a page needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cache  # noqa: B019 - lives as long as the tests
    def model(self, name: str) -> Path:
        """Return the directory of a model by the name that pages give it."""
        path = self.folder / name
        labels = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
        if name == "model":
            models.make_model(path, "bert", "text-classification", hidden_size=64, **labels)
        elif name == "short":
            models.make_model(path, "bert", "text-classification", num_hidden_layers=1, **labels)
        elif name == "encoder":
            models.make_sentence_model(path)
        elif name == "tagger":
            models.make_model(path, "bert", "token-classification", **models.soonest("bert"))
        elif name == "reader":
            models.make_model(path, "bert", "question-answering", **models.soonest("bert"))
        elif name == "chooser":
            models.make_model(path, "bert", "multiple-choice", **models.soonest("bert"))
        else:
            raise KeyError(name)
        return path

    @cache  # noqa: B019
    def onnx_file(self) -> Path:
        """Return the classifier as an .onnx file, its tokenizer and config beside it."""
        import torch
        import transformers

        source = self.model("model")
        folder = self.folder / "onnx"
        folder.mkdir()
        for path in source.glob("*.json"):
            shutil.copy(path, folder)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(source).eval()
        ids = torch.randint(5, 99, (2, 9))
        axes = {0: "batch", 1: "sequence"}
        names = ["input_ids", "attention_mask"]
        model.config.return_dict = False
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (ids, torch.ones_like(ids)),
                str(folder / "model.onnx"),
                input_names=names,
                output_names=["logits"],
                dynamic_axes=dict.fromkeys(names, axes) | {"logits": {0: "batch"}},
                opset_version=17,
                dynamo=False,
            )
        return folder / "model.onnx"

    @cache  # noqa: B019
    def bundle(self, name: str) -> Path:
        """Return a verified bundle by the name that pages give it."""
        from headway.exporter.export import export
        from headway.exporter.recipe.recipe import Recipe

        return export(Recipe(source=str(self.model(BUNDLES[name]))), self.folder / name).path

    def furnish(self, place: Path, short: bool = False) -> None:
        """Put into `place` what every page finds in its working directory; bundles come when they are asked for.

        With `short` its model has one layer, for a target that takes seconds for each.
        """
        inputs = place / "path" / "to"
        inputs.mkdir(parents=True)
        for name in BUNDLES.values():
            shutil.copytree(self.model("short" if short and name == "model" else name), inputs / name)
        for path in self.onnx_file().parent.iterdir():
            shutil.copy(path, inputs)
        rng = random.Random(0)
        lines = dict.fromkeys(" ".join(rng.choices(models.WORDS, k=rng.randint(2, 20))) for _ in range(300))
        labels = ("negative", "positive")
        rows = [json.dumps({"text": line, "label": labels[i % 2]}) for i, line in enumerate(lines)]
        (place / "tickets.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (place / "tickets.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        backwards = [json.dumps({"text": line[::-1], "label": labels[i % 2]}) for i, line in enumerate(lines)]
        (place / "reviews.jsonl").write_text("\n".join(backwards[:120]) + "\n", encoding="utf-8")
        (place / "recipe.yaml").write_text(RECIPE, encoding="utf-8")


class Session:
    """Runs the snippets of one page in order, in one working directory and one namespace."""

    def __init__(self, workshop: Workshop, place: Path, short: bool = False) -> None:
        self.workshop = workshop
        self.place = place
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        workshop.furnish(place, short)

    def run(self, snippet: Snippet) -> None:
        """Run one snippet; SnippetError says what went wrong."""
        check(snippet)
        if snippet.reason is not None:
            return
        runners: dict[str, Callable[[Snippet], None]] = {
            "console": self._console,
            "python": self._python,
            "yaml": self._yaml,
        }
        if snippet.language in runners:
            with contextlib.chdir(self.place):
                runners[snippet.language](snippet)

    def _console(self, snippet: Snippet) -> None:
        from typer.testing import CliRunner

        from headway.errors import HeadwayError
        from headway.exporter.cli.app import app

        *before, last = snippet.commands
        for command, wanted in [*((c, 0) for c in before), (last, snippet.exits)]:
            _, *arguments = shlex.split(command, comments=True)
            outputs = {arguments[i + 1] for i, word in enumerate(arguments[:-1]) if word in ("--out", "-o")}
            for output in outputs:
                self._remove(output)
            for argument in set(arguments) - outputs:
                self._provide(argument.split("/")[0])
            result = CliRunner().invoke(app, arguments)
            code = result.exit_code
            error = result.exception
            if isinstance(error, HeadwayError):
                code = error.exit_code
            elif error is not None and not isinstance(error, SystemExit):
                raise SnippetError(f"{snippet}: `{command}` failed") from error
            if code != wanted:
                raise SnippetError(
                    f"{snippet}: `{command}` ended with {code}, not {wanted}: {error or ''}\n{result.output}"
                )

    def _python(self, snippet: Snippet) -> None:
        try:
            tree = ast.parse(snippet.text, str(snippet))
        except SyntaxError as error:
            raise SnippetError(f"{snippet}: {error}") from error
        outputs = set(_written(tree))
        for output in outputs:
            self._remove(output)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in outputs:
                self._provide(node.value.split("/")[0])
        try:
            exec(compile(tree, str(snippet), "exec"), self.namespace)
        except Exception as error:
            raise SnippetError(f"{snippet}: {type(error).__name__}: {error}") from error

    def _yaml(self, snippet: Snippet) -> None:
        from headway.exporter.recipe.recipe import make_recipe

        content = yaml.safe_load(snippet.text)
        if not isinstance(content, dict):
            raise SnippetError(f"{snippet}: no recipe; fence other YAML as yml")
        content.setdefault("source", "path/to/model")
        try:
            make_recipe(str(snippet), **content)
        except Exception as error:
            raise SnippetError(f"{snippet}: {error}") from error
        Path("recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def _remove(self, output: str) -> None:
        path = (self.place / output).resolve()
        if not path.is_relative_to(self.place.resolve()) or path == self.place.resolve():
            raise SnippetError(f"{output}: a snippet writes outside of its working directory")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _provide(self, name: str) -> None:
        if name in BUNDLES and not (self.place / name).exists():
            shutil.copytree(self.workshop.bundle(name), self.place / name)


def _written(tree: ast.AST) -> Iterator[str]:
    """Yield the directories that Python code writes: the second argument of export and compress, or `out`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("export", "compress"):
            values = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "out")]
            yield from (v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str))
