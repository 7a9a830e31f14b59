"""Q8BERT's quantized layers, written after the layout of nlp-architect: thresholds of activations, weights as floats or integers."""

from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from tests.support import integer_checkpoints as integers
from tests.support.models import make_model

SETTINGS = {"mode": "ema", "weight_bits": 8, "activation_bits": 8, "start_step": 0, "ema_decay": 0.9999}
IDS = torch.tensor([[1, 5, 9, 12, 2], [1, 7, 2, 0, 0]])
EMBEDDING = "embeddings.word_embeddings"


def rounded(x: torch.Tensor, factor: torch.Tensor | float) -> torch.Tensor:
    """Round as that method does: `factor` is 127 divided by the largest magnitude."""
    return (x * factor).round().clamp(-127, 127) / factor


def make_q8bert(
    directory: Path, *, in_8bit: bool, mode: str = "ema", num_hidden_layers: int = 1
) -> Callable[[], torch.Tensor]:
    """Write a model whose linear layers in blocks, and whose word embeddings, are quantized; return its own forward."""
    make_model(directory, num_hidden_layers=num_hidden_layers)
    model = transformers.BertModel.from_pretrained(directory).eval()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith("encoder")}
    seen: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0].abs().max()}))
    feeds = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
    with torch.no_grad():
        model(**feeds)
    state = dict(model.state_dict())
    for name, layer in {**layers, EMBEDDING: model.get_submodule(EMBEDDING)}.items():
        weight = layer.weight.detach()
        factor = 127 / weight.abs().max()
        with torch.no_grad():
            layer.weight.copy_(rounded(weight, factor))
        if in_8bit:
            state |= {
                f"{name}.quantized_weight": (weight * factor).round().to(torch.int8),
                f"{name}._weight_scale": factor,
            }
            del state[f"{name}.weight"]
        else:
            state |= {f"{name}._step": torch.ones(1), f"{name}.weight": weight}
        if name == EMBEDDING:
            continue
        threshold = seen[name].clone() if mode == "ema" else torch.zeros(())
        state |= {f"{name}.input_thresh": threshold[None], f"{name}.output_thresh": torch.ones(1)}
        if mode == "ema":
            both = factor * 127 / threshold
            if in_8bit:
                state |= {
                    f"{name}._quantized_bias": (layer.bias.detach() * both).round().int(),
                    f"{name}.bias_scale": both,
                }
                del state[f"{name}.bias"]
            with torch.no_grad():
                layer.bias.copy_((layer.bias * both).round() / both)
            layer.register_forward_pre_hook(lambda _, x, t=threshold: (rounded(x[0], 127 / t),))
    integers.save(directory, state)
    integers.configure(directory, SETTINGS | {"mode": mode})

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model(**feeds).last_hidden_state

    return forward
