"""What a graph is made of is read exactly, or refused."""

import json

import numpy as np
import onnx_ir as ir

from headway.exporter.graph.anatomy import content_values, describe, read_anatomy
from headway.exporter.graph.canonical_attention import canonicalize_attention
from headway.exporter.graph.edit import initializer, remove_unused
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import decomposed


def test_an_attention_without_output_projection_is_not_read() -> None:
    model = decomposed("mul", "add", 0)
    values = ir.convenience.create_value_mapping(model.graph)
    canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    model.graph.sort()
    remove_unused(model)
    (block,) = read_anatomy(model).blocks
    assert block.attention is None and block.input is None and block.output is None
    assert [p.weight for p in block.other] == ["q.weight", "k.weight", "v.weight"]
    (sentence,) = block.not_read
    assert "no output projection reads its result" in sentence
    assert describe(read_anatomy(model))["blocks"][0]["not_read"] == [sentence]


def test_a_canonical_model_is_read_whole(bert_model: ir.Model) -> None:
    anatomy = read_anatomy(bert_model)
    (block,) = anatomy.blocks
    assert block.attention is not None and len(block.feed_forwards) == 1 and not block.other
    assert block.input is not None and block.input.name == "bert.embeddings.LayerNorm"
    assert len(block.projections) == 6 and not anatomy.before
    shapes = {name.split(".")[-2]: shape for name, shape in anatomy.embeddings.items()}
    assert shapes == {"word_embeddings": (300, 32), "position_embeddings": (66, 32), "token_type_embeddings": (2, 32)}
    tensors = [v.const_value for v in bert_model.graph.initializers.values() if v.const_value is not None]
    assert anatomy.parameters == sum(t.size for t in tensors) and anatomy.nbytes == sum(t.nbytes for t in tensors)


def test_operations_grow_with_the_sequence(bert_model: ir.Model) -> None:
    anatomy = read_anatomy(bert_model)
    projections = 4 * 32 * 32 + 2 * 32 * 64
    assert anatomy.flops_per_token(10) == 2 * (projections + 2 * 10 * 32)
    assert anatomy.flops_per_token(20) - anatomy.flops_per_token(10) == 2 * 2 * 10 * 32


def test_a_description_is_json(bert_model: ir.Model) -> None:
    described = describe(read_anatomy(bert_model))
    assert json.loads(json.dumps(described)) == described
    (block,) = described["blocks"]
    assert (block["heads"], block["head_dim"], block["intermediate_size"]) == (4, 8, [64])
    assert (block["activation"], block["gated"], block["merged_qkv"], block["ranks"]) == (["Gelu"], False, False, {})


def test_position_embeddings_are_no_content(bert_model: ir.Model) -> None:
    content = {str(v.name) for v in content_values(bert_model.graph)}
    assert {"input_ids", "bert.embeddings.LayerNorm", "logits"} <= content
    assert not {"attention_mask", "attention_bias", "token_type_ids"} & content


def test_a_further_projection_belongs_to_the_block_of_its_name_or_else_to_the_head(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    graph = model.graph
    (block,) = read_anatomy(model).blocks
    features = block.feed_forwards[0].down.output
    for name in ("bert.encoder.layer.0.extra.dense.weight", "lm_head.weight"):
        weight = initializer(graph, name, np.ones((32, 3), np.float32))
        further = ir.node("MatMul", [features, weight], name=name)
        further.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        graph.append(further)
        graph.outputs.append(further.outputs[0])
    anatomy = read_anatomy(model)
    assert [p.weight for p in anatomy.blocks[0].other] == ["bert.encoder.layer.0.extra.dense.weight"]
    assert [p.weight for p in anatomy.head] == ["lm_head.weight"] and not anatomy.before
