"""Models that are no checkpoint, of the size of the other rows: what `benchmarks.checkpoint_forms` gives as `module:callable`."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers

from tests.checkpoints.efficient_attention import Encoder, kernels, shortened
from tests.support.models import FAMILIES, make_tokenizer

HIDDEN, INNER, LAYERS, HEADS = 256, 1024, 4, 4


@cache
def _folder() -> TemporaryDirectory[str]:
    """Return a folder that is there as long as the process."""
    return TemporaryDirectory()


def _tokenizer() -> Path:
    folder = Path(_folder().name)
    if not (folder / "tokenizer.json").is_file():
        make_tokenizer(folder)
    return folder


def _encoder(attention: Any) -> tuple[torch.nn.Module, Path]:
    encoder = Encoder(attention, LAYERS, heads=HEADS, size=HIDDEN // HEADS, inner=INNER)
    return encoder.eval(), _tokenizer()


def linformer() -> tuple[torch.nn.Module, Path]:
    """Return an encoder whose keys and values are projected to 16."""
    return _encoder(shortened)


def performer() -> tuple[torch.nn.Module, Path]:
    """Return an encoder whose attention is a product of 16 random features."""
    return _encoder(kernels)


class TwoHeads(torch.nn.Module):
    """One BERT, a head that classifies texts, and one that classifies tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        _, settings = FAMILIES["bert"]
        sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
        self.bert = transformers.BertModel(
            transformers.BertConfig(**{**settings, **sizes, "num_attention_heads": HEADS})
        )
        self.classifier, self.tagger = torch.nn.Linear(HIDDEN, 2), torch.nn.Linear(HIDDEN, 5)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the logits of both heads."""
        answers = self.bert(input_ids=input_ids, attention_mask=attention_mask)
        return {
            "logits": self.classifier(answers.pooler_output),
            "token_logits": self.tagger(answers.last_hidden_state),
        }


def two_heads() -> tuple[torch.nn.Module, Path]:
    """Return an encoder with two heads."""
    return TwoHeads().eval(), _tokenizer()
