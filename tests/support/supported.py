"""What is exported: the families and tasks that tests run over, and that the support matrix of the documentation lists."""

from tests.support import models

DISENTANGLED = {"deberta-v2"}
"""Families whose attention stays in ordinary operators."""

FAMILIES = tuple(models.FAMILIES)
TASKS = tuple(models.TASK_CLASSES)
PAIRS = [(f, t) for f in FAMILIES for t in TASKS if models.model_class(f, t) is not None]
"""Families with each task that transformers has a class for."""
