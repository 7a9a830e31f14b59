"""Bad sources: each with its message and its exit code, through the command line's own entry."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from headway.errors import HeadwayError, SourceError, UsageError
from headway.exporter.capture.capture import capture, load_reference
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe, read_recipe
from headway.exporter.source.source import open_source

from tests.support import models


def refused(spec: str | Path, out: Path, **options: object) -> HeadwayError:
    """Exports and expects a refusal that leaves nothing behind."""
    pickle = bool(options.pop("allow_pickle", False))
    with pytest.raises(HeadwayError) as caught:
        export(Recipe(source=str(spec), **options), out, allow_pickle=pickle)  # type: ignore[arg-type]
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}.*"))
    return caught.value


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "model"))


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_missing_file(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere", tmp_path / "out")
    assert (error.exit_code, "nowhere" in str(error)) == (3, True)


def test_truncated_safetensors(copy: Path, tmp_path: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "truncated" in str(error)
    weights.write_bytes(struct.pack("<Q", 10**9) + b"{}")
    assert "header" in str(refused(copy, tmp_path / "out"))


def test_a_missing_shard_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert "model-00001-of-00002" in str(refused(copy, tmp_path / "out"))


def test_corrupt_onnx(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09corrupt" * 50)
    error = refused(tmp_path / "model.onnx", tmp_path / "out")
    assert error.exit_code == 3
    assert "model.onnx" in str(error)


def test_a_bundle_is_no_source(bert_bundle: Exported, tmp_path: Path) -> None:
    error = refused(bert_bundle.path, tmp_path / "out")
    assert error.exit_code == 3
    assert "recipe.yaml" in str(error)


def test_wrong_task(copy: Path, tmp_path: Path) -> None:
    error = refused(copy, tmp_path / "out", task="text-classification")
    assert error.exit_code == 3
    assert "classifier" in str(error)
    with pytest.raises(UsageError, match="translation"):
        open_source(str(copy), task="translation")
    with pytest.raises(SourceError, match=r"modules\.json"):
        capture(open_source(str(copy), task="sentence-embedding"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_hidden_layers": 2}, "disagrees"),
        ({"num_hidden_layers": 6}, "lacks"),
        ({"hidden_size": 64}, "disagrees"),
        ({"vocab_size": 12}, "disagrees"),
    ],
)
def test_a_config_that_disagrees_with_the_weights(copy: Path, tmp_path: Path, changes: dict, reason: str) -> None:
    edit_config(copy, **changes)
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert reason in str(error) or "does not load" in str(error)


def test_broken_config(copy: Path, tmp_path: Path) -> None:
    (copy / "config.json").write_text('{"model_type": ')
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "config.json" in str(error)


def test_a_tokenizer_of_a_larger_model(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", vocab_size=60)
    error = refused(source, tmp_path / "out")
    assert error.exit_code == 3
    assert "vocab_size = 60" in str(error)


def test_a_limit_that_leaves_nothing_of_a_text(copy: Path, tmp_path: Path) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 2}))
    assert "model_max_length" in str(refused(copy, tmp_path / "out"))


def test_a_source_that_does_not_run_itself(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise IndexError("index out of range in self")

    source = open_source(str(copy))
    reference, _ = load_reference(source)
    monkeypatch.setattr(reference.module.model, "forward", fails)  # type: ignore[attr-defined]
    ids = np.ones((1, 3), np.int64)
    with pytest.raises(SourceError, match="out of range"):
        reference.run({"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0})


def test_missing_tokenizer(copy: Path, tmp_path: Path) -> None:
    (copy / "tokenizer.json").unlink()
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "tokenizer" in str(error)


def test_pickles_only_when_allowed(bert: Path, copy: Path, tmp_path: Path) -> None:
    import transformers

    model = transformers.AutoModel.from_pretrained(bert)
    (copy / "model.safetensors").unlink()
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "--allow-pickle" in str(error)
    assert export(Recipe(source=str(copy)), tmp_path / "out", allow_pickle=True).parity.ok


def onnx_file(path: Path, *nodes: onnx.NodeProto) -> Path:
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    table = helper.make_tensor("table", TensorProto.FLOAT, [50, 4], [0.1] * 200)
    graph = helper.make_graph(list(nodes), "g", ids, [out], [table])
    onnx.save(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("strange.domain", 1)], ir_version=9
        ),
        path,
    )
    return path


def test_unsupported_operator(tmp_path: Path) -> None:
    path = onnx_file(
        tmp_path / "m.onnx",
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Frobnicate", ["x"], ["y"], name="odd", domain="strange.domain"),
    )
    models.make_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    error = refused(path, tmp_path / "out")
    assert error.exit_code == 3
    assert "Frobnicate" in str(error)


def test_a_decoder_is_refused(copy: Path, tmp_path: Path) -> None:
    edit_config(copy, architectures=["GPT2LMHeadModel"])
    assert "decoder" in str(refused(copy, tmp_path / "out"))


def test_factories(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(
        "import transformers\n"
        f"def good():\n    return transformers.AutoModel.from_pretrained({str(bert)!r}), {str(bert)!r}\n"
        "def bad():\n    raise RuntimeError('no weights today')\n"
        "def odd():\n    return 7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert export(Recipe(source="my_models:good"), tmp_path / "out").parity.ok
    assert "no weights today" in str(refused("my_models:bad", tmp_path / "out2"))
    assert "int" in str(refused("my_models:odd", tmp_path / "out2"))


def test_a_factory_of_a_plain_module(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without config and `return_dict`, in float16; one that gives no dict is refused."""
    (tmp_path / "plain_models.py").write_text(
        "import torch\n"
        "class Plain(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.table, self.head = torch.nn.Embedding(300, 8), torch.nn.Linear(8, 3)\n"
        "    def forward(self, input_ids, attention_mask):\n"
        "        mask = attention_mask[:, :, None].to(self.table.weight.dtype)\n"
        "        return {'logits': self.head((self.table(input_ids) * mask).sum(1) / mask.sum(1))}\n"
        "class Bare(Plain):\n"
        "    def forward(self, input_ids, attention_mask):\n"
        "        return super().forward(input_ids, attention_mask)['logits']\n"
        f"def plain():\n    torch.manual_seed(0)\n    return Plain().half(), {str(bert)!r}\n"
        f"def bare():\n    return Bare(), {str(bert)!r}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    done = export(Recipe(source="plain_models:plain", task="text-classification"), tmp_path / "out")
    assert done.parity.ok and done.manifest.outputs[0].dtype == "float32"
    refusal = refused("plain_models:bare", tmp_path / "out2", task="text-classification")
    assert "Tensor" in str(refusal) and "logits" in str(refusal)


@pytest.mark.parametrize(
    "text", ["- a\n", "source: x\nspeed: 2\n", "source: x\nversion: 9\n", "a: [", "source: x\nmax_mb: -1\n"]
)
def test_bad_recipes_name_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"recipe\.yaml"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_gate_on_size(bert: Path, tmp_path: Path) -> None:
    error = refused(bert, tmp_path / "out", max_mb=0.01)
    assert error.exit_code == 1
    assert "MB" in str(error)


def test_a_wrong_artifact_is_never_left(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lowering that changes what is computed: refused with the first module that differs, nothing written."""
    from headway.exporter.targets.ort import target as ort

    right = ort._AttentionLowering.lower

    def wrong(self: object, node: object) -> bool:
        if "encoder.layer.2." in node.inputs[0].name:  # type: ignore[attr-defined]
            node.attributes["scale"] = type(node.attributes["scale"])("scale", node.attributes["scale"].type, 0.01)  # type: ignore[attr-defined]
        return right(self, node)  # type: ignore[arg-type]

    monkeypatch.setattr(ort._AttentionLowering, "lower", wrong)
    error = refused(bert, tmp_path / "out")
    assert error.exit_code == 1
    assert "encoder.layer.2" in str(error) and "lowering" in str(error)


def command(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "headway.exporter.cli.app", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def test_a_full_disk(bert: Path, tmp_path: Path) -> None:
    """On a file system of 200 kB in a mount namespace of its own, where the machine allows one."""
    headway = f"{sys.executable} -m headway.exporter.cli.app export {bert} --out {tmp_path}/out -q"
    script = f"mount -t tmpfs -o size=200k tmpfs {tmp_path} && {headway}; code=$?; ls -A {tmp_path}; exit $code"
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script], capture_output=True, text=True, timeout=300
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no private mount here: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert "disk is full" in done.stderr
    assert done.stdout.strip() == ""


def test_exit_codes_of_the_command(bert: Path, bert_bundle: Exported, tmp_path: Path) -> None:
    assert command("export", bert, "--out", bert_bundle.path, "-q").returncode == 2
    assert command("export", bert).returncode == 2
    assert command("export", tmp_path / "x", "--out", tmp_path / "out").returncode == 3
    assert command("frobnicate").returncode == 2
    assert command("bench", tmp_path).returncode == 3
    done = command("export", bert, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parity"]["ok"]
    assert done.stderr == ""
    assert command("verify", tmp_path / "out", "-q").returncode == 0
    shown = command("inspect", tmp_path / "out")
    assert shown.returncode == 0
    assert "head_dim" in shown.stdout
    data = tmp_path / "out" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-8] + b"\0" * 8)
    assert command("verify", tmp_path / "out", "-q").returncode == 3
