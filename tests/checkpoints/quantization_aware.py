"""torch.ao's quantization-aware training in small: `prepare_qat`, three steps, and the state dict that is saved then."""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization as quantization

from tests.support import checkpoints

IDS = torch.tensor([[1, 5, 9, 12, 2], [1, 7, 2, 0, 0]])

PER_CHANNEL = quantization.get_default_qat_qconfig("fbgemm")
PER_TENSOR = quantization.get_default_qat_qconfig("qnnpack")
NARROW = quantization.QConfig(
    activation=quantization.default_fused_act_fake_quant,
    weight=quantization.fused_per_channel_wt_fake_quant_range_neg_127_to_127,
)
UNSIGNED = quantization.QConfig(
    activation=quantization.default_fake_quant,
    weight=quantization.FakeQuantize.with_args(
        observer=quantization.MovingAverageMinMaxObserver,
        quant_min=0,
        quant_max=255,
        dtype=torch.quint8,
        qscheme=torch.per_tensor_affine,
    ),
)
OBSERVED = quantization.QConfig(
    activation=quantization.default_fake_quant, weight=quantization.default_per_channel_weight_fake_quant
)


def prepare(
    directory: Path, qconfig: Any = PER_CHANNEL, task: str = "feature-extraction", *, embeddings: bool = False
) -> Any:
    """Write a float BERT, and return the module that `prepare_qat` makes of it after three steps of training."""
    model = checkpoints.base(directory, task=task, num_hidden_layers=3).train()
    model.qconfig = qconfig
    kinds = quantization.get_default_qat_module_mappings()
    if embeddings:
        kinds |= quantization.get_embedding_qat_module_mappings()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.qconfig = quantization.default_embedding_qat_qconfig if embeddings else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.prepare_qat(model, kinds, inplace=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            model(input_ids=IDS, attention_mask=(IDS != 0).long())[0].square().mean().backward()
            optimizer.step()
    return model.eval()


def in_floats(model: Any) -> Any:
    """Return the module with scales as they are, and with the rounding of activations switched off."""
    model.apply(quantization.disable_observer)
    for name, module in model.named_modules():
        if isinstance(module, quantization.FakeQuantizeBase) and not name.endswith("weight_fake_quant"):
            module.disable_fake_quant()
    return model


def make_aware(directory: Path, qconfig: Any = PER_CHANNEL, **options: Any) -> Any:
    """Write what `prepare` gives as safetensors; return the module that rounds weights alone."""
    model = prepare(directory, qconfig, **options)
    checkpoints.save(directory, model.state_dict())
    return in_floats(model)


def rounders(model: Any) -> dict[str, Any]:
    """Return the modules that have weights and round them, by path."""
    return {n: m for n, m in model.named_modules() if hasattr(m, "weight_fake_quant")}
