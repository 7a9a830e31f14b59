"""Load a directory of sentence-transformers by its own library, whose modules are traced and whose answers are the reference."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from ...errors import SourceError
from ...text import Text
from ..source.setfit_head import SetFitHead
from ..source.source import Source
from ..source.word_models import of_words
from .base import Answers, align
from .torch_reference import TorchReference, first_lines
from .traceable_modules import apply_module, strongest
from .wrapped import Wrapped


def load_sentence(source: Source) -> Any:
    """Return the opened SentenceTransformer or CrossEncoder, in float32 on the CPU. SourceError where it does not load."""
    import sentence_transformers

    try:
        opened = getattr(sentence_transformers, source.judge_class or "")(
            str(source.directory),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": torch.float32},
        )
    except Exception as error:  # whatever transformers, safetensors and torch raise
        raise SourceError(
            f"{source.spec}: sentence-transformers cannot open the model: {first_lines(error)}"
        ) from error
    return opened.float().eval()


class WrappedSentence(Wrapped):
    """All modules of a directory, one after the other, as the library runs them."""

    def __init__(self, opened: Any, source: Source):
        first, *rest = list(opened)
        if source.route is not None:
            first, *rest = list(first.sub_modules[source.route]) + rest
        words = of_words(source.sentence_modules)
        super().__init__(first if source.is_static or words else first.model, source)
        self.words = words
        if source.is_static:
            self.outputs = ("sentence_embedding",)
        self.head = torch.nn.ModuleList(rest)
        self.dimensions = getattr(opened, "truncate_dim", None)
        self.most_active = getattr(opened, "max_active_dims", None)
        self.classifier = _classifier(source)
        self.static = source.is_static
        object.__setattr__(self, "opened", opened)  # not a submodule: weights have the names of the encoder's own
        object.__setattr__(self, "first", first)

    def results(self, features: dict[str, Any]) -> Mapping[str, Any]:
        """Return the features that the last module leaves."""
        given = dict(features)
        if self.words:
            given["sentence_lengths"] = features["attention_mask"].sum(1)
        passed = self._first(given)
        for module in self.head:
            passed = apply_module(module, passed, self.most_active)
        names = {
            "last_hidden_state": "token_embeddings",
            "sentence_embedding": "sentence_embedding",
            "token_embeddings": "token_embeddings",
            "logits": "scores",
        }
        results = {ours: passed[theirs] for ours, theirs in names.items() if theirs in passed}
        if self.dimensions is not None:
            results["sentence_embedding"] = results["sentence_embedding"][..., : self.dimensions]
        if self.most_active is not None:
            results["sentence_embedding"] = strongest(results["sentence_embedding"], self.most_active)
        if self.classifier is not None:
            results["logits"] = self.classifier(results["sentence_embedding"])
        return results

    def _first(self, features: dict[str, Any]) -> dict[str, Any]:
        first: Any = self.first
        if self.static:
            return apply_module(first, features, None)
        passed: dict[str, Any] = type(first).forward(first, {**features, "modality": "text"})
        return passed

    def extra_repr(self) -> str:
        """Say what the printed module would hide."""
        return f"dimensions={self.dimensions}, outputs={self.outputs}"


class _Classifier(torch.nn.Module):
    """The linear layer of a SetFit head, and the scaling of embeddings that comes before it."""

    def __init__(self, head: SetFitHead):
        super().__init__()
        self.normalize = head.normalize
        self.linear = torch.nn.Linear(*reversed(head.weight.shape))
        self.linear.load_state_dict({"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)})

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits `[batch, classes]` of embeddings."""
        return self.linear(torch.nn.functional.normalize(embedding, dim=-1) if self.normalize else embedding)


def _classifier(source: Source) -> _Classifier | None:
    return _Classifier(source.head).eval() if source.head is not None else None


class SentenceReference(TorchReference):
    """The library's own call: `encode` of embedding models, or CrossEncoder.predict without its activation."""

    def __init__(self, module: Any, source: Source):
        super().__init__(module, source)
        if type(module.first).__name__ == "StaticEmbedding":  # which may have no limit itself
            module.first.tokenizer.enable_truncation(source.longest)
        elif source.allowed > source.longest:
            module.opened.max_seq_length = source.longest

    @cached_property
    def _judge(self) -> Any:
        """The library's model. A static one in float64: torch adds rows one by one, and loses digits of long texts in float32.

        It is a copy then, because the captured graph may hold the memory of the model's own weights.
        """
        return deepcopy(self.module.opened).double() if self.source.is_static else self.module.opened

    @property
    def judge(self) -> str:
        """The library, its version and the call that gives the answers."""
        call = "predict" if self.source.judge_class == "CrossEncoder" else "encode"
        return f"sentence-transformers {version('sentence-transformers')}, {self.source.judge_class}.{call}"

    def close(self) -> None:
        """Free the memory of the weights, and of their copy."""
        self.__dict__.pop("_judge", None)
        super().close()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name. Models of word embeddings are run without columns of padding alone, which their library never has."""
        if not self.module.words:
            return super().run(feeds)
        length = feeds["input_ids"].shape[1]
        longest = int(np.flatnonzero(feeds["attention_mask"].sum(0)).max(initial=0)) + 1
        outputs = super().run({name: array[:, :longest] for name, array in feeds.items()})
        padding = ((0, 0), (0, length - longest), (0, 0))
        return outputs | {n: np.pad(a, padding) for n, a in outputs.items() if n == "last_hidden_state"}

    def from_text(self, texts: Sequence[Text]) -> Answers:
        """Return token ids and outputs of texts. SourceError where the library fails on them."""
        try:
            answer = {"CrossEncoder": self._scores, "SparseEncoder": self._sparse}.get(str(self.source.judge_class))
            return (answer or self._encode)(texts)
        except Exception as error:  # whatever the model's own code raises
            raise SourceError(
                f"{self.source.spec}: the source itself does not run on text: {first_lines(error)}"
            ) from error

    def _encode(self, texts: Sequence[Text]) -> Answers:
        if self.source.is_static:
            return Answers(self._ids(texts), {"sentence_embedding": self._call(texts).astype(np.float32)})
        items = self._call(texts, output_value=None, convert_to_numpy=False)
        mask = [item["attention_mask"].bool().numpy() for item in items]
        ids = [item["input_ids"].numpy()[m] for item, m in zip(items, mask, strict=True)]
        tokens = [item["token_embeddings"].float().numpy()[m] for item, m in zip(items, mask, strict=True)]
        vectors = np.stack([item["sentence_embedding"].float().numpy() for item in items])
        if self.module.classifier is not None:
            with torch.no_grad():
                return Answers(ids, {"logits": self.module.classifier(torch.from_numpy(vectors)).numpy()})
        return Answers(ids, {"last_hidden_state": align(tokens), "sentence_embedding": vectors})

    def _call(self, texts: Sequence[Text], **options: Any) -> Any:
        """Return what the library's `encode` gives, by the source's route."""
        route = {"task": self.source.route} if self.source.route is not None else {}
        return self._judge.encode(list(texts), batch_size=len(texts), show_progress_bar=False, **route, **options)

    def _sparse(self, texts: Sequence[Text]) -> Answers:
        rows = self._call(texts, convert_to_sparse_tensor=False)
        return Answers(self._ids(texts), {"sentence_embedding": rows.float().numpy()})

    def _scores(self, texts: Sequence[Text]) -> Answers:
        opened = self.module.opened
        scores = opened.predict(
            list(texts), activation_fn=torch.nn.Identity(), batch_size=len(texts), show_progress_bar=False
        )
        return Answers(self._ids(texts), {"logits": np.asarray(scores).reshape(len(texts), -1)})

    def _ids(self, texts: Sequence[Text]) -> list[np.ndarray]:
        """Return the token ids that the library makes of texts."""
        route = {"task": self.source.route} if self.source.route is not None else {}
        features = self.module.opened.preprocess(list(texts), **route)
        ids = features["input_ids"].numpy()
        if "offsets" in features:
            return np.split(ids, features["offsets"].numpy()[1:])
        masks = features["attention_mask"].bool().numpy()
        return [row[mask] for row, mask in zip(ids, masks, strict=True)]
