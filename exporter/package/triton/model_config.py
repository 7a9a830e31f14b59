"""Write the configuration of one model of Triton: `config.pbtxt`, from a template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .... import __version__
from ....errors import UsageError
from ....manifest import TensorInfo
from ..templates import environment

_TYPES = {"int64": "TYPE_INT64", "int32": "TYPE_INT32", "float32": "TYPE_FP32"}
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Tensor:
    """An input or output as a configuration has it."""

    name: str
    type: str
    dims: str
    ragged: bool = False
    labels: bool = False

    @classmethod
    def of(cls, info: TensorInfo) -> "Tensor":
        """Return a tensor without its batch axis."""
        if info.dtype not in _TYPES:
            raise UsageError(f"{info.name} is {info.dtype}, which the packages for Triton do not have")
        dims = ", ".join(str(d) if isinstance(d, int) else "-1" for d in info.shape[1:])
        return cls(info.name, _TYPES[info.dtype], f"[ {dims} ]")


TEXT = Tensor("text", "TYPE_STRING", "[ -1 ]")


def render(template: str, **values: Any) -> str:
    """Return a template of this folder with its values."""
    return environment(_TEMPLATES).get_template(template).render(version=__version__, **values)


@dataclass
class ModelConfig:
    """The values of `model.pbtxt.j2`, most of them absent."""

    name: str
    says: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    max_batch_size: int
    backend: str = "python"
    platform: str = ""
    ends: str = ""
    library: str = ""
    instances: int = 0
    kind: str = "KIND_CPU"
    batching: bool = False
    delay: int = 0
    timeout: int = round(1e7)
    queue: int = 0
    cache: bool = False
    warmup: int = 0
    parameters: Mapping[str, object] = field(default_factory=dict)
    steps: Sequence[Mapping[str, Any]] = ()

    def write(self, folder: Path, bundle: str) -> None:
        """Write `config.pbtxt` into a folder, and make the folder of the first version."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "1").mkdir(exist_ok=True)
        text = render("model.pbtxt.j2", bundle=bundle, **vars(self))
        (folder / "config.pbtxt").write_text(text, encoding="utf-8")
