"""Describe an artifact to the templates of snippets: inputs, outputs, dtypes and shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ....errors import UsageError
from ....manifest import Manifest, TensorInfo, logit_columns
from ....tasks import Scoring

FOLDER = "headway"
"""Name of the asset folder on a phone, and of the Kotlin package."""


@dataclass(frozen=True)
class Snippet:
    """One source file: `file` is its name, `dependencies` what an app has to add, one line each."""

    file: str
    text: str
    dependencies: tuple[str, ...]


@dataclass(frozen=True)
class SnippetModel:
    """What snippets need of a manifest. `longest` is in tokens."""

    artifact: str
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    longest: int
    labels: Sequence[str]
    config: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    scoring: Scoring | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> "SnippetModel":
        """Return what a manifest says. Raise UsageError for an output that is not float32."""
        for tensor in manifest.outputs:
            if tensor.dtype != "float32":
                raise UsageError(f"output {tensor.name!r} is {tensor.dtype}; snippets are written for float32 outputs")
        labels = [manifest.labels[k] for k in sorted(manifest.labels, key=int)]
        columns = logit_columns(manifest.outputs)
        scoring = None
        if manifest.task == "text-classification" and columns is not None:
            scoring = Scoring.of(manifest.scoring, columns)
            labels = [manifest.labels.get(str(i), f"LABEL_{i}") for i in range(columns)]
        return cls(
            manifest.artifact,
            manifest.inputs,
            manifest.outputs,
            manifest.tokenizer.max_length,
            labels,
            {k: str(v) for k, v in manifest.session_options.get("config", {}).items()},
            manifest.headway_version,
            scoring,
        )

    @property
    def activation(self) -> str:
        """What makes scores of logits; empty for tasks without scores."""
        return self.scoring.activation if self.scoring is not None else ""

    @property
    def meaning(self) -> str:
        """What the scores are, in words."""
        return self.scoring.meaning() if self.scoring is not None else ""

    @property
    def file(self) -> str:
        return self.artifact.rpartition("/")[2]

    @property
    def ids(self) -> str:
        """The first input, whose length all others have by default."""
        return camel_case(self.inputs[0].name)

    @property
    def choices(self) -> bool:
        return any("choices" in t.shape for t in self.inputs)

    @property
    def stem(self) -> str:
        """The name of the file without its suffix."""
        return self.file.rpartition(".")[0]

    @property
    def suffix(self) -> str:
        return self.file.rpartition(".")[2]

    @property
    def output_names(self) -> list[str]:
        return [o.name for o in self.outputs]

    def about(self) -> list[str]:
        """Return inputs and outputs in words."""
        return [
            f"{kind} {t.name}: {t.dtype} [{', '.join(map(str, t.shape))}]"
            for kind, tensors in (("input", self.inputs), ("output", self.outputs))
            for t in tensors
        ]

    def head(self) -> str:
        """Return the comment that the source begins with."""
        lines = [f"Written by Headway {self.version} for {self.file}.", *self.about()]
        return "\n".join(f"// {line}" for line in lines)


@dataclass(frozen=True)
class SnippetInput:
    """One input: `variable` names it in the source, `kind` is its type there, `padding` what it holds where it is left out."""

    name: str
    variable: str
    dtype: str
    kind: str
    padding: int

    @classmethod
    def of(cls, tensor: TensorInfo, kinds: Mapping[str, str]) -> "SnippetInput":
        """Return an input as `kinds`, types by dtype, has it. Raise UsageError where it has none."""
        if tensor.dtype not in kinds:
            known = ", ".join(kinds)
            raise UsageError(f"an input of dtype {tensor.dtype} has no form in this snippet; known: {known}")
        padding = 1 if tensor.name == "attention_mask" else 0
        return cls(tensor.name, camel_case(tensor.name), tensor.dtype, kinds[tensor.dtype], padding)


def camel_case(name: str) -> str:
    """Return a tensor's name as a variable of Kotlin, Swift and JavaScript."""
    first, *rest = [p for p in "".join(c if c.isalnum() else "_" for c in name).split("_") if p]
    return first.lower() + "".join(p[:1].upper() + p[1:] for p in rest)
