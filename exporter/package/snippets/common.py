"""Source code that runs an artifact on a phone or in a page, written out for its own inputs, outputs, dtypes and shapes.

Each is one small class for one text at a time: `run` takes token ids and gives every output by name, row by row as one list with
its shape. Python's standard library is all that is needed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ....errors import UsageError
from ....manifest import Manifest, TensorInfo

FOLDER = "headway"
"""Name of the asset folder on a phone, and of the Kotlin package."""


@dataclass(frozen=True)
class Snippet:
    """`file` is the source's name, `dependencies` what an app has to add, one line each."""

    file: str
    text: str
    dependencies: tuple[str, ...]


@dataclass(frozen=True)
class SnippetModel:
    """A manifest as the snippets need it."""

    artifact: str
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    longest: int
    labels: Sequence[str]
    config: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> "SnippetModel":
        for tensor in manifest.outputs:
            if tensor.dtype != "float32":
                raise UsageError(f"output {tensor.name!r} is {tensor.dtype}; snippets are written for float32 outputs")
        return cls(
            manifest.artifact,
            manifest.inputs,
            manifest.outputs,
            manifest.tokenizer.max_length,
            [manifest.labels[k] for k in sorted(manifest.labels, key=int)],
            {k: str(v) for k, v in manifest.session_options.get("config", {}).items()},
            manifest.headway_version,
        )

    @property
    def file(self) -> str:
        return self.artifact.rpartition("/")[2]

    @property
    def ids(self) -> str:
        """The first input, by whose length the others are filled."""
        return camel_case(self.inputs[0].name)

    @property
    def choices(self) -> bool:
        return any("choices" in t.shape for t in self.inputs)

    def about(self) -> list[str]:
        """Inputs and outputs in words."""
        return [
            f"{kind} {t.name}: {t.dtype} [{', '.join(map(str, t.shape))}]"
            for kind, tensors in (("input", self.inputs), ("output", self.outputs))
            for t in tensors
        ]

    def head(self, comment: str = "//") -> str:
        lines = [f"Written by Headway {self.version} for {self.file}.", *self.about()]
        return "\n".join(f"{comment} {line}" for line in lines)


def camel_case(name: str) -> str:
    first, *rest = [p for p in "".join(c if c.isalnum() else "_" for c in name).split("_") if p]
    return first.lower() + "".join(p[:1].upper() + p[1:] for p in rest)


def quoted_list(values: Sequence[str]) -> str:
    """String literals, which Kotlin, Swift and JavaScript write alike but for `$`, which Kotlin reads."""
    return ", ".join('"' + v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"' for v in values)


def padding_value(tensor: TensorInfo) -> int:
    """What an input holds where nobody says otherwise: masks are ones."""
    return 1 if tensor.name == "attention_mask" else 0


def native_type(dtype: str, names: Mapping[str, str]) -> str:
    if dtype not in names:
        raise UsageError(f"an input of dtype {dtype} has no form in this snippet; known: {', '.join(names)}")
    return names[dtype]
