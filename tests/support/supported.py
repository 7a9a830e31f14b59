"""What is exported: the families and tasks that tests run over, and that the support matrix of the documentation lists."""

from tests.support import models

DISENTANGLED = {"deberta-v2"}
"""Families whose attention stays in ordinary operators."""

FAMILIES = tuple(models.FAMILIES)
TASKS = tuple(models.TASK_CLASSES)
QUICK_TASK = {
    "bert": "multiple-choice",  # as the documentation has one, which is traced once for both
    "roberta": "question-answering",
    "xlm-roberta": "token-classification",
    "camembert": "text-classification",
    "distilbert": "multiple-choice",
    "albert": "fill-mask",
    "electra": "text-classification",
    "mobilebert": "question-answering",
    "mpnet": "question-answering",
    "deberta-v2": "token-classification",
    "modernbert": "fill-mask",
}
"""The task that a family is tried on first, beside its features. Other pairs are slow."""

PAIRS = [(f, t) for f in FAMILIES for t in TASKS if models.model_class(f, t) is not None]
"""Families with each task that transformers has a class for."""
