"""Compare a model's answers with its source's, by what is read from them: the main figure, others beside it, and what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...tasks import THRESHOLD, Scoring, softmax
from .answers import Rows, joined, matched
from .figures import Statistic, combined, concordance, constant, correlation, f1, mean, pair_correlation, value_of
from .neighbors import late_similarities, neighbors, products, rank_correlation, similarities
from .rankings import K, first_stays, mean_of_queries, ndcg_of_order


@dataclass(frozen=True)
class Companion:
    """A figure beside the main one. `unit` is "%" or empty; a figure without a unit is on the scale of the model's own scores."""

    name: str
    value: float
    unit: str = "%"


@dataclass(frozen=True)
class Comparison:
    """How answers agree. `statistic` is the main figure, 1 for the source itself, and `measure` its name.

    `meaning` says in a sentence what the figures mean for whoever uses the model; empty where there is nothing to add.
    """

    measure: str
    statistic: Statistic
    companions: tuple[Companion, ...] = ()
    meaning: str = ""


def compare_output(
    name: str,
    wanted: Sequence[Rows],
    given: Sequence[Rows],
    texts: int,
    scoring: Scoring | None,
    kept_tokens: Sequence[int] | None,
    task: str | None = None,
    queries: np.ndarray | None = None,
) -> Comparison:
    """Compare one output for `texts` texts, given by batches. Embeddings are compared by the function that their `task` scores by.

    `kept_tokens` are the old ids of a trimmed vocabulary, for logits that have a column for each token. `queries [texts]` are the
    numbers of the queries that texts are scored for, where a reranker orders several of one.
    """
    if kept_tokens is not None and wanted[0].values.shape[1] != given[0].values.shape[1]:
        wanted = [Rows(w.kind, w.values[:, list(kept_tokens)], w.owners) for w in wanted]
    pairs = [matched(w, g) for w, g in zip(wanted, given, strict=True)]
    if any(w.values.shape != g.values.shape for w, g in pairs) or not any(len(w.values) for w, _ in pairs):
        return Comparison("nothing to compare", constant(0.0))
    kind, columns = wanted[0].kind, wanted[0].values.shape[1]
    if kind == "span":
        return _positions(name, pairs)
    if name == "sentence_embedding" and texts > 2:  # of one or two texts there is nothing to correlate
        alike = products if task == "sparse-embedding" else similarities
        return _embeddings(alike(joined(wanted)), alike(joined(given)))
    if name == "token_embeddings" and task == "multi-vector" and texts > 2:
        owners = np.concatenate([rows.owners for rows in wanted])
        return _embeddings(*(late_similarities(joined(side), owners, texts) for side in (wanted, given)))
    if name == "logits" and kind == "text" and scoring is not None and scoring.kind != "single-label":
        return _scores(joined(wanted), joined(given), scoring, queries)
    if name.endswith("logits") and columns > 1:
        return _classes(pairs, texts)
    if name.endswith("logits"):
        owners = np.concatenate([w.owners for w, _ in pairs])
        a, b = (joined([pair[i] for pair in pairs])[:, 0] for i in range(2))
        return Comparison("correlation of values", correlation(a, b, owners, texts))
    return _vectors(pairs, texts)


def together(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the comparison of several outputs that are read together: the mean of their figures."""
    if len(comparisons) == 1:
        return comparisons[0]
    measures = list(dict.fromkeys(c.measure for c in comparisons))
    companions = tuple(companion for c in comparisons for companion in c.companions)
    meaning = " ".join(dict.fromkeys(c.meaning for c in comparisons if c.meaning))
    return Comparison(", ".join(measures), combined([c.statistic for c in comparisons]), companions, meaning)


def whole_answers(wanted: Sequence[Sequence[Rows]], given: Sequence[Sequence[Rows]]) -> Companion:
    """Return the share of texts whose answer has the same start and the same end; positions are given by output and batch."""
    same = [joined(w)[:, 0] == joined(g)[:, 0] for w, g in zip(wanted, given, strict=True)]
    return Companion("equal start and end", 100.0 * float(np.mean(np.logical_and.reduce(same))))


def _embeddings(a: np.ndarray, b: np.ndarray) -> Comparison:
    """Compare similarities `[texts, texts]` of the source and of a model."""
    near = neighbors(a, b)
    changed, found = 1.0 - float(near.nearest.mean()), float(near.recall.mean())
    others = (
        Companion("rank correlation of similarities", 100.0 * rank_correlation(a, b)),
        Companion("texts whose nearest neighbor stays", 100.0 * (1.0 - changed)),
        Companion(f"the {near.count} nearest found again", 100.0 * found),
    )
    meaning = (
        f"In a search among these {len(a)} texts, {100 * changed:.1f} % of them get another nearest neighbor, and of the "
        f"{near.count} that the source finds nearest {near.count * found:.1f} are found."
    )
    return Comparison("correlation of similarities", pair_correlation(a, b), others, meaning)


def _scores(wanted: np.ndarray, given: np.ndarray, scoring: Scoring, queries: np.ndarray | None = None) -> Comparison:
    """Compare logits `[texts, labels]` of which several may hold, or that are values."""
    right, chosen = scoring.scores(wanted), scoring.scores(given)
    difference = float(np.abs(right - chosen).mean())
    others, meaning = [Companion("mean difference of scores", difference, "")], ""
    if scoring.kind == "multi-label":
        decided = [x >= THRESHOLD for x in (right, chosen)]
        equal = 100.0 * float(np.mean(decided[0] == decided[1]))
        others = [
            Companion("equal decisions", equal),
            Companion("mean difference of probabilities", 100.0 * difference),
        ]
        meaning = f"{100.0 - equal:.2f} % of all decisions on a label are others than the source's."
        if decided[0].any():
            return Comparison("F1 of the source's labels", f1(decided[1], decided[0]), tuple(others), meaning)
    elif scoring.activation == "tanh":
        wanted, given = right, chosen
    alike = combined([concordance(w, g) for w, g in zip(wanted.T, given.T, strict=True)])
    if scoring.kind == "value" and right.shape[1] == 1 and len(right) > 1:
        order = f"nDCG@{K} of the source's order"
        if queries is not None and (ranked := mean_of_queries(ndcg_of_order, right[:, 0], chosen[:, 0], queries)):
            others.append(Companion("concordance of scores", 100.0 * value_of(alike, len(right))))
            return Comparison(order, ranked, tuple(others), _first_texts(right[:, 0], chosen[:, 0], queries))
        others.append(Companion(order, 100.0 * ndcg_of_order(right[:, 0], chosen[:, 0])))
    return Comparison("concordance of scores", alike, tuple(others), meaning)


def _first_texts(wanted: np.ndarray, given: np.ndarray, queries: np.ndarray) -> str:
    """Say how many queries get another first text; the arguments are `[texts]`."""
    stays = mean_of_queries(first_stays, wanted, given, queries)
    changed = 1.0 - value_of(stays, len(queries)) if stays is not None else 0.0
    return f"For {100 * changed:.1f} % of the queries another text comes first than by the source."


def _classes(pairs: Sequence[tuple[Rows, Rows]], texts: int) -> Comparison:
    """Compare classes of texts or tokens by logits of one class each.

    Where the source gives all of them the same one, any model that always does would agree: the logit of that class counts instead.
    """
    same, sizes, moved = (np.zeros(texts) for _ in range(3))
    for wanted, given in pairs:
        classes = wanted.values.argmax(axis=1)
        same += wanted.per_text(classes == given.values.argmax(axis=1), texts)
        sizes += wanted.per_text(np.ones(len(classes)), texts)
        at = np.arange(len(classes)), classes
        moved += wanted.per_text(np.abs(softmax(wanted.values)[at] - softmax(given.values)[at]), texts)
    statistic, unit = mean(same, sizes), pairs[0][0].kind
    equal = 100.0 * value_of(statistic, texts)
    probability = Companion(
        "mean difference in the probability of the source's class", 100.0 * value_of(mean(moved, sizes), texts)
    )
    others = (Companion(f"{unit}s of the source's class", equal), probability)
    meaning = f"{100.0 - equal:.2f} % of the {unit}s get another class than from the source."
    only = one_class([wanted for wanted, _ in pairs])
    if only is not None:
        meaning = f"The source gives all {unit}s the same class, so that a count of classes tells nothing. {meaning}"
        return Comparison("agreement of the one class's logit", _logit_of(only, pairs, texts), others, meaning)
    return Comparison(f"{unit}s of the source's class", statistic, others, meaning)


def one_class(batches: Sequence[Rows]) -> int | None:
    """Return the class that a source gives to all of several texts or tokens, by logits; None where there are others, or but one."""
    classes = joined(batches).argmax(axis=1)
    return int(classes[0]) if len(classes) > 1 and bool((classes == classes[0]).all()) else None


def _logit_of(column: int, pairs: Sequence[tuple[Rows, Rows]], texts: int) -> Statistic:
    """Compare one column of logits, less the mean of each row: what all have in common changes no class."""
    a, b = (
        np.concatenate([rows.values[:, column] - rows.values.mean(axis=1) for rows in side])
        for side in zip(*pairs, strict=True)
    )
    if pairs[0][0].kind == "text":
        return concordance(a, b)
    return correlation(a, b, np.concatenate([w.owners for w, _ in pairs]), texts)


def _positions(name: str, pairs: Sequence[tuple[Rows, Rows]]) -> Comparison:
    same = np.concatenate([w.values[:, 0] == g.values[:, 0] for w, g in pairs]).astype(np.float64)
    return Comparison(f"equal {name.removesuffix('_logits')}", mean(same))


def _vectors(pairs: Sequence[tuple[Rows, Rows]], texts: int) -> Comparison:
    totals, sizes = np.zeros(texts), np.zeros(texts)
    for wanted, given in pairs:
        a, b = wanted.values.astype(np.float64), given.values.astype(np.float64)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines = (a == b).all(axis=1).astype(np.float64)  # of vectors of zeros
        np.divide((a * b).sum(axis=1), lengths, out=cosines, where=lengths > 0)
        totals += wanted.per_text(cosines, texts)
        sizes += wanted.per_text(np.ones(len(a)), texts)
    unit = pairs[0][0].kind
    there = sizes > 0
    lowest = Companion("mean cosine of the text that differs most", 100.0 * float((totals[there] / sizes[there]).min()))
    return Comparison(f"mean cosine of {unit}s", mean(totals, sizes), (lowest,))
