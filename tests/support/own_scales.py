"""Models that bring their own scales: quantized files, and models trained with rounding."""

from pathlib import Path

import numpy as np
import torch


def quantized_file(directory: Path, operators: list[str]) -> Path:
    """Return a file as ONNX Runtime's own tool writes it: QDQ pairs around every operator named."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    from tests.support.onnx_files import torchscript_file

    plain = torchscript_file(directory, "bert", 17, "sdpa")

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            feeds = [{"input_ids": rng.integers(5, 99, (2, 9)), "attention_mask": np.ones((2, 9), np.int64)}]
            self.left = iter(feeds * 3)

        def get_next(self) -> dict:
            return next(self.left, None)  # type: ignore[return-value]

    out = directory / "rounded.onnx"
    quantize_static(
        str(plain),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=operators,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    plain.unlink()
    return out


def rounded_by_torch(directory: Path, seen_text: bool = True):
    """Return a classifier whose encoder layers carry torch.ao's FakeQuantize, as quantization-aware training leaves it."""
    import transformers
    from torch.ao import quantization as q

    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()

    class Rounded(torch.nn.Module):
        def __init__(self, linear: torch.nn.Linear) -> None:
            super().__init__()
            self.linear = linear
            self.values = q.FakeQuantize(q.MovingAverageMinMaxObserver, 0, 255, dtype=torch.quint8)
            self.weights = q.FakeQuantize(
                q.PerChannelMinMaxObserver, -127, 127, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, ch_axis=0
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(self.values(x), self.weights(self.linear.weight), self.linear.bias)

    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and "encoder" in name:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, Rounded(module))
    if seen_text:
        torch.manual_seed(0)
        with torch.no_grad():
            for _ in range(3):
                model(input_ids=torch.randint(5, 99, (2, 9)))
    model.apply(q.disable_observer)
    return model, str(directory)
