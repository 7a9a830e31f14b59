"""External data of `.onnx` sources: cut short, missing, linked as in the hub's cache, and leading elsewhere."""

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.capture.onnx_file import OnnxReference
from headway.exporter.capture.onnx_weights import find_external_data
from headway.exporter.source.source import open_source

from tests.support.hand_made import load

TABLE = np.arange(50 * 1024, dtype=np.float32).reshape(50, 1024)
IDS = {"input_ids": np.array([[1, 2]])}


def saved(folder: Path) -> Path:
    """Return a file that looks ids up in a table beside it."""
    folder.mkdir(parents=True)
    model = load(
        [helper.make_node("Gather", ["table", "input_ids"], ["y"], name="look")], {"table": TABLE}, ["y"], mask=False
    )
    ir.save(model, folder / "model.onnx", external_data="model.onnx.data", size_threshold_bytes=0)
    return folder / "model.onnx"


def table_of(path: Path) -> np.ndarray:
    model = ir.load(path)
    find_external_data(model, path)
    tensor = model.graph.initializers["table"].const_value
    assert tensor is not None
    return tensor.numpy()


def test_a_download_that_was_cut_short_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "m")
    data = tmp_path / "m" / "model.onnx.data"
    os.truncate(data, TABLE.nbytes - 1)
    with pytest.raises(
        SourceError, match=rf"model\.onnx\.data: cut short: .* {TABLE.nbytes} bytes .* {TABLE.nbytes - 1}: download"
    ):
        table_of(path)
    os.truncate(data, TABLE.nbytes)
    assert table_of(path).shape == TABLE.shape


def test_missing_data_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "m")
    (tmp_path / "m" / "model.onnx.data").unlink()
    with pytest.raises(SourceError, match=r"is not there: .*model\.onnx\.data: copy it"):
        table_of(path)


def test_a_length_that_is_not_the_tensor_s_is_damage(tmp_path: Path) -> None:
    path = saved(tmp_path / "m")
    model = ir.load(path)
    value = model.graph.initializers["table"]
    value.const_value = ir.ExternalTensor(
        "model.onnx.data", 0, 8, ir.DataType.FLOAT, shape=ir.Shape(TABLE.shape), name="table", base_dir=str(path.parent)
    )
    with pytest.raises(SourceError, match=r"damaged: table needs .* 8 from 0: download"):
        find_external_data(model, path)


def test_links_of_a_hub_s_cache_are_followed(tmp_path: Path) -> None:
    path, repository = saved(tmp_path / "m"), tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / "abc" / "onnx"
    (repository / "blobs").mkdir(parents=True), snapshot.mkdir(parents=True)
    for i, file in enumerate(path.parent.iterdir()):
        file.rename(repository / "blobs" / str(i))
        (snapshot / file.name).symlink_to(Path("../../../blobs") / str(i))
    assert np.array_equal(table_of(snapshot / "model.onnx"), TABLE)
    reference = OnnxReference(open_source(str(snapshot / "model.onnx")))
    assert np.array_equal(reference.run(IDS)["y"], TABLE[IDS["input_ids"]])
    assert np.array_equal(reference.inside(IDS, ["y", "nothing"])["y"], TABLE[IDS["input_ids"]])
    assert reference.inside(IDS, ["nothing"]) == {}


def test_a_second_name_for_the_same_bytes_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m")
    os.link(tmp_path / "m" / "model.onnx.data", tmp_path / "twin")
    assert np.array_equal(table_of(path), TABLE)


@pytest.mark.parametrize("way", ["link", "name"])
def test_data_elsewhere_is_refused(way: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "m")
    data, elsewhere = tmp_path / "m" / "model.onnx.data", tmp_path / "secret"
    data.rename(elsewhere)
    model = ir.load(path)
    if way == "link":
        data.symlink_to(elsewhere)
    else:
        model.graph.initializers["table"].const_value = ir.ExternalTensor(
            "../secret",
            0,
            None,
            ir.DataType.FLOAT,
            shape=ir.Shape(TABLE.shape),
            name="table",
            base_dir=str(path.parent),
        )
    with pytest.raises(SourceError, match=r"leads out of its folder, to .*secret"):
        find_external_data(model, path)


def test_a_file_that_wants_another_input_says_so(tmp_path: Path) -> None:
    model = load([helper.make_node("Cast", ["input_ids"], ["y"], to=1)], {}, ["y"], mask=False)
    model.graph.inputs[0].name = "pixel_values"
    ir.save(model, tmp_path / "m.onnx")
    with pytest.raises(SourceError, match="its input 'pixel_values' is not made from text"):
        OnnxReference(open_source(str(tmp_path / "m.onnx"))).run(IDS)
