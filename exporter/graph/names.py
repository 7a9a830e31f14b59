"""Read modules from the names of trained tensors, without a graph library."""

from collections.abc import Iterable


def module_of_weight(names: Iterable[str]) -> str | None:
    """Return the Hugging Face module of the first weight named: `a.b` of `a.b.weight` or `a.b.weight_scale`; None without one."""
    return next((name.partition(".weight")[0] for name in names if ".weight" in name), None)
