"""Run any verb on damaged and hostile input, in this process: a sentence and a documented exit code, never a traceback.

Everything is drawn from one seed. What a command accepts is stopped before torch runs, so that thousands of inputs take a minute.
"""

import contextlib
import io
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from headway.errors import GateError
from headway.exporter.capture.capture import canonical_of, capture
from headway.exporter.cli import app
from headway.exporter.compress import kept_graph, profile, sensitivity
from headway.exporter.source.settings import check_settings
from headway.exporter.source.source import open_source
from headway.exporter.tokenizer import in_graph
from headway.exporter.validate import gate_bundle
from headway.serving.supervisor import Supervisor

from tests.support.command_line import made_once
from tests.support.gating import blocks

CODES = {0, 1, 2, 3, 4, 5}
ACCEPTED = "accepted as far as it was looked at"
VALUES: Sequence[Any] = (
    None, True, -1, 0, 1, 3, 10**9, 10**30, -0.5, 1e308, float("nan"), float("inf"), "", " ", "a", "é\u0000", "../../etc/passwd",
    "/", "\ud800", "x" * 5000, [], [1], ["a"], [[]], {}, {"a": 1}, {"": None}, [None, {}],
)  # fmt: skip


class Wrong(AssertionError):
    """A command that ended in a traceback, without a sentence, or with something at the output path."""


@dataclass
class Input:
    """A file that is mutated, and the commands that read it; `{}` is the copy of the folder or file at `root`."""

    name: str
    root: Path
    file: str
    commands: Sequence[Sequence[str]]
    weight: int = 1


@dataclass
class Tally:
    """How many runs ended with each exit code, and how many different sentences were said."""

    codes: Counter[int] = field(default_factory=Counter)
    sentences: set[str] = field(default_factory=set)


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """Cut, repeat, flip or replace bytes."""
    if not content:
        return rng.randbytes(rng.randint(1, 40))
    place = rng.randrange(len(content))
    head = min(len(content), rng.choice((8, 64, 512)))
    return rng.choice(
        (
            lambda: content[:place],
            lambda: b"",
            lambda: content[:place] + rng.randbytes(4) + content[place + 4 :],
            lambda: content[: place % head] + rng.randbytes(1) + content[place % head + 1 :],
            lambda: content[:place] + content[place + rng.randint(1, 30) :],
            lambda: content[: place % head] + content,
            lambda: b"\xff\xfe" + content,
            lambda: content + rng.randbytes(9),
            lambda: rng.randbytes(min(len(content), 200)),
            lambda: b"[" * 100_000,
        )
    )()


def mutated_value(rng: random.Random, value: Any) -> Any:
    """Change one thing somewhere in a tree of objects, lists and values."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        way = rng.random()
        if way < 0.15:
            del changed[key]
        elif way < 0.25:
            changed[rng.choice(("unknown", "", key + " ", key.upper()))] = rng.choice(VALUES)
        else:
            changed[key] = mutated_value(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        part = [mutated_value(rng, value[place])] if rng.random() < 0.8 else []
        return value[:place] + part + value[place + 1 :]
    return rng.choice(VALUES)


def mutated(rng: random.Random, path: Path) -> bytes:
    """Return the file damaged as bytes or, where it is a tree of values, changed in its meaning."""
    content = path.read_bytes()
    if path.suffix in (".json", ".yaml") and rng.random() < 0.8:
        tree = yaml.safe_load(content) if path.suffix == ".yaml" else json.loads(content)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            tree = mutated_value(rng, tree)
        if path.suffix == ".yaml":
            with contextlib.suppress(yaml.YAMLError):
                return yaml.safe_dump(tree).encode("utf-8", "surrogatepass")
        return json.dumps(tree).encode()
    if path.suffix == ".safetensors" and rng.random() < 0.7:
        length = int.from_bytes(content[:8], "little")
        header = json.dumps(mutated_value(rng, json.loads(content[8 : 8 + length]))).encode()
        size = rng.choice((len(header), len(header), len(header), 1 << 40, 0))
        return size.to_bytes(8, "little") + header + content[8 + length :]
    return mutated_bytes(rng, content)


@contextlib.contextmanager
def stopped_before_torch() -> Iterator[None]:
    """Stop an export once its source, settings, text and recipe are accepted; graphs are read to the end.

    Tokenizers are checked on a few lines. A server opens its bundles, and does not serve. A gate's process that measures crashes.
    """

    def stop(source: Any, **_: object) -> Any:
        if source.kind == "onnx":
            canonical_of(capture(source))
        elif source.kind == "huggingface":
            check_settings(source)
        raise GateError(ACCEPTED)

    def stop_spec(spec: str, **given: Any) -> Any:
        open_source(spec, **given)
        raise GateError(ACCEPTED)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_graph, "capture", stop)
        patch.setattr(in_graph, "CHECKED_LINES", 300)
        patch.setattr(typer.main, "get_command", made_once)
        patch.setattr(Supervisor, "_serve", lambda *_: 0)
        patch.setattr(sensitivity, "capture_canonical", stop_spec)
        patch.setattr(profile, "capture_canonical", stop_spec)
        patch.setattr(gate_bundle, "run_block", blocks(crash_after=0))
        yield


def run(words: Sequence[str]) -> tuple[int, str, str]:
    """Run the command line; return exit code and what was printed. Raise Wrong where it ends in a traceback."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["headway", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = app._run()
    except (Exception, SystemExit) as error:
        raise Wrong(f"headway {' '.join(words)}: {type(error).__name__}: {error}") from error
    finally:
        sys.argv = argv
    return code, out.getvalue(), err.getvalue()


def check(words: Sequence[str], out: Path | None) -> tuple[int, str]:
    """Run words and check what has to hold for any input; return the exit code and the sentence.

    Output is there exactly where the exit code is 0, and then its own parity has run and was within tolerance.
    """
    code, _, said = run(words)
    sentence = said.strip()
    if code not in CODES or "Traceback" in said:
        raise Wrong(f"headway {' '.join(words)}: exit code {code}: {said}")
    if code and words[0] != "lint" and len(sentence.removeprefix("headway:")) < 10:
        raise Wrong(f"headway {' '.join(words)}: exit code {code} without a sentence: {said!r}")
    if "headway-scratch-" in said:
        raise Wrong(f"headway {' '.join(words)}: names a folder of our own: {said}")
    if out is not None:
        manifest = out / "headway.json"
        if code and (out.exists() or list(out.parent.glob(f".{out.name}.*"))):
            raise Wrong(f"headway {' '.join(words)}: exit code {code}, and something was written")
        if not code and not (manifest.is_file() and json.loads(manifest.read_text())["parity"]["ok"]):
            raise Wrong(f"headway {' '.join(words)}: exit code 0 without a bundle whose parity was checked")
    return code, sentence


def fuzz(
    inputs: Sequence[Input],
    count: int,
    seed: int,
    workplace: Path,
    on_wrong: Callable[[Wrong], None] | None = None,
    *,
    to_the_end: bool = False,
) -> Tally:
    """Run `count` mutated inputs. A Wrong is raised, or given to `on_wrong`. `to_the_end`: what is accepted is exported and compared."""
    rng, tally = random.Random(seed), Tally()
    weights = [i.weight for i in inputs]
    copies = {i.name: _copy(i, workplace / i.name) for i in inputs}
    whole = {i.name: (i.root / i.file if i.root.is_dir() else i.root).read_bytes() for i in inputs}
    with contextlib.nullcontext() if to_the_end else stopped_before_torch():
        for number in range(count):
            (chosen,) = rng.choices(inputs, weights)
            place = copies[chosen.name]
            file = place / chosen.file if place.is_dir() else place
            original = chosen.root / chosen.file if chosen.root.is_dir() else chosen.root
            words = [w.replace("{}", str(place)) for w in rng.choice(chosen.commands)]
            out = workplace / "out" if "OUT" in words else None
            words = [str(out) if w == "OUT" else w for w in words]
            file.write_bytes(mutated(rng, original))
            try:
                code, sentence = check(words, out)
                tally.codes[code] += 1
                tally.sentences.add(sentence)
            except Wrong as error:
                kept = workplace / f"wrong-{seed}-{number}{file.suffix}"
                shutil.copyfile(file, kept)
                named = Wrong(f"input {number} ({chosen.name}, seed {seed}, kept as {kept.name}): {error}")
                named.__cause__ = error.__cause__
                if on_wrong is None:
                    raise named from error.__cause__
                on_wrong(named)
            finally:
                file.write_bytes(whole[chosen.name])
                if out is not None:
                    shutil.rmtree(out, ignore_errors=True)
    return tally


def _copy(given: Input, place: Path) -> Path:
    if given.root.is_dir():
        shutil.copytree(given.root, place)
        return place
    place.mkdir(parents=True)
    return Path(shutil.copy(given.root, place / given.root.name))
