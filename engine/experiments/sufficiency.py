"""How well rationales stand for their reports: sufficiency, scored out of fold, and rules that filter rationales by it.

A rationale r of report x with gold label y has sufficiency p(y|x) - p(y|r) (DeYoung et al. 2020, ERASER, section 4; lower is
better) and the normalised form of Carton et al. 2020, in [0, 1], higher is better. The control of a rule keeps as many rationales
of each class, drawn at random.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.explain.faithfulness import normalised
from engine.records import seed_of

SCORES = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("report_prob", pa.float64()),
        pa.field("rationale_prob", pa.float64()),
        pa.field("empty_prob", pa.float64()),
        pa.field("says", pa.string()),
        pa.field("sufficiency", pa.float64()),
        pa.field("norm_sufficiency", pa.float64()),
    ]
)

# A fold, the numbers of its rationales, and the probabilities [rationales, classes] that a model trained without their reports
# gives these reports, the rationales alone, and an empty text (that one may be [1, classes]).
FoldProbs = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Rule:
    """Which rationales to keep.

    `all` of them; `drop_wrong`: those whose label is the likeliest one for the rationale alone; `at_most`: those with a
    sufficiency of at most `value`; `top`: the share `value` of each class with the lowest sufficiency; `random`: as many of
    each class as the rule `of` keeps, drawn at random.
    """

    name: str
    value: float = 0.0
    of: "Rule | None" = None


def rule(text: str) -> Rule:
    """The rule that a text like `top(0.25)` or `random(drop_wrong)` names.

    Raises:
        ConfigError: it names none.
    """
    name, opened, rest = text.strip().partition("(")
    inner = rest.removesuffix(")")
    if bool(opened) != rest.endswith(")"):
        raise _no_rule(text)
    if name in ("all", "drop_wrong") and not rest:
        return Rule(name)
    if name == "random" and inner:
        return Rule(name, of=rule(inner))
    try:
        parsed = Rule(name, float(inner))
    except ValueError:
        raise _no_rule(text) from None
    if name not in ("at_most", "top") or not math.isfinite(parsed.value) or (name == "top" and not 0 < parsed.value <= 1):
        raise _no_rule(text)
    return parsed


def _no_rule(text: str) -> ConfigError:
    return ConfigError(f"filter: '{text}' is no rule; use all, drop_wrong, at_most(0.1), top(0.25) or random(<rule>)")


def folds(labels: Sequence[str], groups: Sequence[str | None], count: int, seed: int) -> np.ndarray:
    """The fold [n] of each report, by class as even as groups allow; the reports of a group share a fold.

    Raises:
        ConfigError: a report has no group, there are fewer groups than folds, no class has a report for each fold, or a fold
            would be empty.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    ungrouped = sum(group is None for group in groups)
    if ungrouped:
        raise ConfigError(f"data.group: {ungrouped:,} reports of train have none; fill the column, or name another")
    if len(set(groups)) < count:
        raise ConfigError(f"folds: {count} folds need as many patients, and there are {len(set(groups))}")
    if max(Counter(labels).values()) < count:
        raise ConfigError(f"folds: no class has the {count} reports that as many folds need")
    fold = np.full(len(labels), -1, dtype=np.int32)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # scikit-learn warns of classes with fewer reports than folds, which cannot be in every fold.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
            fold[rows] = number
    empty = sorted(set(range(count)) - set(fold.tolist()))
    if empty:
        raise ConfigError(f"folds: fold {empty[0]} is empty; take fewer folds")
    return fold


def score(rationales: Sequence[Mapping[str, str]], classes: Sequence[str], probs: Iterable[FoldProbs]) -> pa.Table:
    """The scores of rationales as `SCORES`.

    Args:
        rationales: `record_id`, `origin` and `label` (the gold class) of each. probs: one item for each fold that has any.
    """
    report, alone, empty = (np.zeros((len(rationales), len(classes))) for _ in range(3))
    fold = np.zeros(len(rationales), dtype=np.int64)
    for number, rows, *arrays in probs:
        fold[rows] = number
        report[rows], alone[rows], empty[rows] = arrays
    table = []
    for index, rationale in enumerate(rationales):
        gold = classes.index(rationale["label"])
        report_prob, rationale_prob, empty_prob = (float(values[index, gold]) for values in (report, alone, empty))
        sufficiency = report_prob - rationale_prob
        _, norm = normalised(np.array([0.0]), np.array([sufficiency]), report_prob, empty_prob)
        table.append(
            {
                **{name: rationale[name] for name in ("record_id", "origin", "label")},
                "fold": int(fold[index]),
                "report_prob": report_prob,
                "rationale_prob": rationale_prob,
                "empty_prob": empty_prob,
                "says": classes[int(alone[index].argmax())],
                "sufficiency": sufficiency,
                "norm_sufficiency": norm,
            }
        )
    return pa.Table.from_pylist(table, schema=SCORES)


def accepted(scores: pa.Table, by: Rule, seed: int = 0) -> np.ndarray:
    """Whether a rule keeps each rationale of `SCORES`, [rationales]. `seed` is that of the rule `random`."""
    labels = np.array(scores["label"].to_pylist(), dtype=object)
    sufficiency = scores["sufficiency"].to_numpy()
    if by.name == "all":
        return np.ones(len(scores), dtype=bool)
    if by.name == "drop_wrong":
        return np.array(scores["says"].to_pylist(), dtype=object) == labels
    if by.name == "at_most":
        return sufficiency <= by.value
    if by.name == "top":
        order = np.lexsort((scores["record_id"].to_pylist(), sufficiency))
        counts = {label: int(np.ceil(by.value * (labels == label).sum())) for label in set(labels)}
    else:
        draws = [seed_of(name, "random rationale", seed) for name in scores["record_id"].to_pylist()]
        order = np.argsort(draws, kind="stable")
        same = accepted(scores, by.of, seed)
        counts = {label: int(same[labels == label].sum()) for label in set(labels)}
    keep = np.zeros(len(scores), dtype=bool)
    for label, number in counts.items():
        keep[order[labels[order] == label][:number]] = True
    return keep
