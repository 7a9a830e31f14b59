"""What the fuzzer damages: a file of each kind that a user may give, and the commands that read it."""

import contextlib
import json
import shutil
from pathlib import Path

import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file

from headway.exporter.bench.measure import machine
from headway.exporter.package.archive import pack
from headway.exporter.validate.lock import LOCK_FILE, Lock

from tests.checkpoints.adapters import save_adapter
from tests.checkpoints.ctranslate2_files import bert_variables, write_model
from tests.checkpoints.gguf_files import bert_metadata, bert_tensors, pieces_of, write_gguf
from tests.exporter.search.test_front_file import THREE
from tests.support.fuzz import Input


def inputs_of(bundle: Path, source: Path, sentence: Path, onnx: Path, folder: Path) -> list[Input]:
    """Return the inputs of all verbs: files of a bundle, of sources of each kind, recipes, and text in each format."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    passes = [{"kind": "quantize", "weights": "int8"}]
    content = {
        "source": str(source),
        "target": "ort",
        "data": str(folder / "text.csv"),
        "tolerance": 1e-4,
        "max_drop": 5.0,
    }
    recipe.write_text(yaml.safe_dump({"version": 1, **content, "passes": passes}))
    rows = [("the price of bread", 0), ("rain with time", 1), ("a small model", 0)] * 4
    (folder / "text.txt").write_text("\n".join(t for t, _ in rows))
    (folder / "text.csv").write_text("text,label\n" + "\n".join(f"{t} {i},{n}" for i, (t, n) in enumerate(rows)))
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": t, "label": n}) for t, n in rows))
    verify = ["verify", "{}", "--against", str(folder / "nothing")]
    export = ["export", "{}", "--out", "OUT"]
    inspect = ["inspect", "{}"]
    opened = [
        inspect,
        ["inspect", "{}", "--json"],
        verify,
        ["lint", "{}", "--target", "x86-avx2"],
        ["bench", "{}", "--rounds", "3", "--against", str(folder / "nothing"), "--json"],
        ["tokenizer", "{}", "--for", "graph", "--out", str(folder / "tokenizer")],
        ["package", "{}", "--for", "android", "--out", str(folder / "package")],
        ["serve", "{}", "--port", "0"],
        ["export", "{}", "--out", "OUT"],
    ]
    text = ["export", str(source), "--data", "{}", "--out", "OUT"]
    compress = ["compress", str(source), "--data", "{}", "--quantize", "int8", "--out", "OUT"]
    inputs = [
        Input("manifest", bundle, "headway.json", opened, 8),
        Input("bundle-recipe", bundle, "recipe.yaml", [verify], 2),
        Input("bundle-tokenizer", bundle, "tokenizer.json", [verify, opened[4]], 1),
        Input("bundle-model", bundle, "model.onnx", [verify, opened[3]], 1),
        Input("config", source, "config.json", [export], 6),
        Input("weights", source, "model.safetensors", [export], 6),
        Input("tokenizer-config", source, "tokenizer_config.json", [export], 2),
        Input("modules", sentence, "modules.json", [export], 3),
        Input("pooling", sentence, "1_Pooling/config.json", [export], 2),
        Input(
            "onnx", onnx, "model.onnx", [["export", "{}/model.onnx", "--out", "OUT"], ["inspect", "{}/model.onnx"]], 1
        ),
        Input("onnx-lint", onnx, "model.onnx", [["lint", "{}/model.onnx", "--target", "arm-i8mm"]], 1),
        Input("recipe", recipe, "", [["export", "--recipe", "{}", "--out", "OUT"]], 6),
    ]
    for name, kind in (("text", "txt"), ("table", "csv"), ("lines", "jsonl")):
        inputs.append(Input(name, folder / f"text.{kind}", "", [text, compress], 3))
    with contextlib.suppress(ModuleNotFoundError):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": [t for t, _ in rows], "label": [n for _, n in rows]}), folder / "text.parquet")
        inputs.append(Input("parquet", folder / "text.parquet", "", [text, compress], 3))
    return inputs


def more_inputs(bundle: Path, source: Path, sentence: Path, folder: Path) -> list[Input]:
    """Return the inputs of the verbs and forms that came later: archives, locks, fronts, shards, adapters, other runtimes' files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = folder / "texts.txt"
    texts.write_text("the price of bread\nrain with time\na small model\n")
    for name in ("model.tar", "model.tar.gz"):
        pack(bundle, folder / name)
    lock = Lock((0.0,) * 5, "a", "b", "c", "d", 1, 1.0, 1.0, (1.0,) * 5, 1.0, machine(), 0.0)
    lock.write(folder / LOCK_FILE)
    (folder / "front").mkdir()
    THREE.write(folder / "front")
    export = ["export", "{}", "--out", "OUT"]
    places = {
        name: str(folder / f"written-{name}") for name in ("pack", "run", "bom", "report", "sensitivity", "search")
    }
    data = ["--data", str(texts)]
    opened = [
        ["pack", "{}", "--out", places["pack"], "--force"],
        ["run", "{}", *data, "--out", f"{places['run']}.parquet", "--force"],
        ["bom", "{}", "--out", places["bom"], "--force"],
        ["report", "{}", "--stored", "--out", places["report"]],
        ["gate", "{}", "--quick", "--gate", "p99_ms=20", *data],
        *(
            ["package", "{}", "--for", kind, "--out", str(folder / f"package-{kind}"), "--force"]
            for kind in ("triton", "container")
        ),
    ]
    looked = ["sensitivity", "{}", *data, "--out", places["sensitivity"]]
    answered = [
        ["run", str(bundle), "--data", "{}", "--out", f"{places['run']}.parquet", "--force"],
        ["sensitivity", str(source), "--data", "{}", "--out", places["sensitivity"]],
        ["search", str(source), "--data", "{}", "--trials", "1", "--out", places["search"], "--force"],
    ]
    gguf, other, sharded, adapted, prompted = (
        folder / name for name in ("gguf", "ctranslate2", "sharded", "adapted", "prompted")
    )
    shutil.copytree(sentence, prompted)
    settings = {"prompts": {"query": "a question: "}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (prompted / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (prompted / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    _write_runtimes_files(source, gguf, other)
    _write_shards(source, sharded)
    shutil.copytree(source, adapted)
    save_adapter(
        adapted,
        {
            "encoder.layer.0.output.dense.lora_A.weight": torch.ones(4, 64),
            "encoder.layer.0.output.dense.lora_B.weight": torch.ones(32, 4),
        },
        adapted,
    )
    return [
        Input("bundle-of-later-verbs", bundle, "headway.json", opened, 6),
        Input("archive", folder / "model.tar", "", [["unpack", "{}", "--out", "OUT"]], 3),
        Input("compressed-archive", folder / "model.tar.gz", "", [["unpack", "{}", "--out", "OUT"]], 1),
        Input("lock", folder / LOCK_FILE, "", [["gate", str(bundle), "--quick", "--baseline", "{}", *data]], 2),
        Input("front", folder / "front", "front.json", [["pick", "{}"], ["pick", "{}", "--max-ms", "5", "--json"]], 3),
        Input("looked-at", source, "config.json", [looked, ["profile", "{}"]], 2),
        Input("texts", texts, "", answered, 2),
        Input("prompts", prompted, "config_sentence_transformers.json", [export], 2),
        Input("limits", prompted, "sentence_bert_config.json", [export], 2),
        Input("gguf", gguf, "model.gguf", [export], 3),
        Input("ctranslate2", other, "model.bin", [export], 3),
        Input("ctranslate2-config", other, "config.json", [export], 1),
        Input("index", sharded, "model.safetensors.index.json", [export], 2),
        Input("adapter", adapted, "adapter_config.json", [export], 2),
        Input("adapter-weights", adapted, "adapter_model.safetensors", [export], 2),
    ]  # fmt: skip


def _write_runtimes_files(source: Path, gguf: Path, other: Path) -> None:
    """Write a source as llama.cpp's converter writes it, and as CTranslate2's does."""
    model = transformers.AutoModel.from_pretrained(source).eval()
    pieces = pieces_of(transformers.AutoTokenizer.from_pretrained(source))
    for folder in (gguf, other):
        folder.mkdir()
    write_gguf(gguf / "model.gguf", bert_metadata(model, pieces), bert_tensors(model))
    write_model(other / "model.bin", bert_variables(model))
    (other / "config.json").write_text(json.dumps({"layer_norm_epsilon": 1e-12, "unk_token": "[UNK]"}))
    (other / "vocabulary.json").write_text(json.dumps(pieces))


def _write_shards(source: Path, folder: Path) -> None:
    """Write a source with its tensors in two files and an index."""
    shutil.copytree(source, folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    places = {name: files[number % 2] for number, name in enumerate(sorted(state))}
    for file in files:
        save_file({n: t for n, t in state.items() if places[n] == file}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
