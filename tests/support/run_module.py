"""Run a torch module, or what was exported from it."""

import torch

from headway.exporter.graph.torch_module import TorchModule

from tests.support.variants import Feeds


def run(module: TorchModule, given: Feeds, program: torch.nn.Module | None = None) -> Feeds:
    with torch.no_grad():
        outputs = (program or module)(*(torch.from_numpy(given[n]) for n in module.input_names))
    return {n: t.numpy() for n, t in zip(module.output_names, outputs, strict=True)}
