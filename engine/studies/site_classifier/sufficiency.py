"""Selects the rationales that a filter keeps: those that best replace their reports.

A rationale r of report x with gold label y has sufficiency p(y|x) - p(y|r) (DeYoung et al. 2020, ERASER, section 4; lower is
better), for a model trained without the report. Rules: `drop_wrong` keeps the rationales whose label is the likeliest one for the
rationale alone; `at_most` those with a sufficiency of at most `data.amount`; `top` the share `data.amount` of each label with the
lowest sufficiency.
"""

import copy
import warnings
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.records import seed_of
from engine.studies.regimes import TASK, Regime, listed, origin
from engine.studies.site_classifier.trained import Classifier

_SEED = 1


def selected_rationales(model: Classifier, regime: Regime, seed: int) -> set[str]:
    """The ids of the rationales that a rule keeps or, with `regime.random`, of the same number for each label, drawn by the seed.

    A rationale of several labels counts for the first of them.
    """
    ids, labels, sufficiency, says = scores(model, regime.folds)
    keep = _select(regime, ids, labels, sufficiency, says)
    if regime.random:
        counts = {label: int(keep[labels == label].sum()) for label in set(labels)}
        order = np.argsort([seed_of(name, "random rationale", seed) for name in ids], kind="stable")
        keep = _first(order, labels, counts)
    return {name for name, yes in zip(ids, keep, strict=True) if yes}


def scores(model: Classifier, folds: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Ids, first labels, sufficiency, and likeliest label of each rationale of the reports, all by models like this one that were
    trained on the reports of the other folds."""
    texts = model.texts
    cache = model.corpus.__dict__.setdefault("sufficiency", {})
    key = (type(model), folds, *(model.settings[name] for name in sorted(model.settings) if not name.startswith("data.")))
    if key in cache:
        return cache[key]
    base, samples = texts.base, texts.rationales
    ids, first = samples["record_id"].to_pylist(), [_label(label) for label in base[TASK].to_pylist()]
    labels = np.array([_label(label) for label in samples[TASK].to_pylist()], dtype=object)
    row_of = {name: row for row, name in enumerate(base["record_id"].to_pylist())}
    report_of = np.array([row_of[origin(name)[0]] for name in ids])
    fold_of_report = fold(first, base["group"].to_pylist(), folds)
    fold_of = fold_of_report[report_of]
    report, alone = (np.zeros((len(ids), len(texts.labels))) for _ in range(2))
    for number in range(folds):
        rows = np.flatnonzero(fold_of == number)
        if rows.size:
            model.task.say(f"{model.task.arm.key}: rationales of fold {number + 1} of {folds}")
            other = copy.copy(model).learned(base.filter(pa.array(fold_of_report != number)), _SEED)
            report[rows] = other.answers(base.take(pa.array(report_of[rows]))).probs
            alone[rows] = other.answers(samples.take(pa.array(rows))).probs
    gold = np.array([texts.labels.index(label) for label in labels])
    each = np.arange(len(ids))
    says = np.array([texts.labels[best] for best in alone.argmax(1)], dtype=object)
    cache[key] = ids, labels, report[each, gold] - alone[each, gold], says
    return cache[key]


def fold(labels: list[str], groups: list[str], count: int) -> np.ndarray:
    """The fold [reports] of each report, by label as even as groups allow; the reports of a group share a fold.

    Raises:
        ConfigError: there are too few reports or groups for so many folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = np.full(len(labels), -1, dtype=np.int32)
    with warnings.catch_warnings():
        # scikit-learn warns of labels with fewer reports than folds, which cannot be in every fold.
        warnings.simplefilter("ignore", UserWarning)
        try:
            splits = StratifiedGroupKFold(count, shuffle=True, random_state=_SEED).split(labels, labels, groups)
            for number, (_, rows) in enumerate(splits):
                folds[rows] = number
        except ValueError:
            raise ConfigError(f"data.folds: no label has the {count} reports that as many folds need; take fewer folds") from None
    if len(set(folds.tolist())) < count:
        raise ConfigError(f"data.folds: one of {count} folds would be empty; take fewer folds")
    return folds


def _select(regime: Regime, ids: list[str], labels: np.ndarray, sufficiency: np.ndarray, says: np.ndarray) -> np.ndarray:
    if regime.rule == "drop_wrong":
        return says == labels
    if regime.rule == "at_most":
        return sufficiency <= regime.amount
    if regime.rule != "top" or not 0 < regime.amount <= 1:
        raise ConfigError("data.rule: use drop_wrong, at_most, or top with a share above 0 and up to 1 in data.amount")
    counts = {label: int(np.ceil(regime.amount * (labels == label).sum())) for label in set(labels)}
    return _first(np.lexsort((ids, sufficiency)), labels, counts)


def _first(order: np.ndarray, labels: np.ndarray, counts: dict[str, int]) -> np.ndarray:
    """Flags of the first `counts` rationales of each label in an order."""
    keep = np.zeros(len(labels), dtype=bool)
    for label, count in counts.items():
        keep[order[labels[order] == label][:count]] = True
    return keep


def _label(label: str | Iterable[str]) -> str:
    return next(iter(listed(label)), "")
