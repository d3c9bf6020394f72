"""Which rationales are worth training on: scored out of fold by a model trained on reports alone, then filtered by a rule.

A rationale r of report x with gold label y has sufficiency p(y|x) - p(y|r) (DeYoung et al. 2020, ERASER, section 4; lower is
better) and the normalised form of Carton et al. 2020, in [0, 1], higher better. Every rule has a control that keeps as many
rationales of each class, drawn at random.
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

BANK = pa.schema(
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
VERDICT = [pa.field("rule", pa.string()), pa.field("accepted", pa.bool_()), pa.field("reject_reason", pa.string())]


# A fold, the numbers of its rationales, and what a model that has not seen its reports says of these reports, of the rationales
# alone and of an empty text: probabilities [rationales, classes] each, of the empty text also [1, classes].
Asked = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Rule:
    """How to choose: `all`; `drop_wrong` keeps what alone is answered rightly; `at_most` keeps sufficiency up to `value`; `top`
    keeps the share `value` of each class with the lowest; `random` draws as many of each class as the rule `of` keeps."""

    name: str
    value: float = 0.0
    of: "Rule | None" = None

    def __str__(self) -> str:
        if self.name == "random":
            return f"random({self.of})"
        return f"{self.name}({self.value:g})" if self.name in ("at_most", "top") else self.name


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
        found = Rule(name, float(inner))
    except ValueError:
        raise _no_rule(text) from None
    if name not in ("at_most", "top") or not math.isfinite(found.value) or (name == "top" and not 0 < found.value <= 1):
        raise _no_rule(text)
    return found


def _no_rule(text: str) -> ConfigError:
    return ConfigError(f"filter: '{text}' is no rule; take all, drop_wrong, at_most(0.1), top(0.25) or random(<rule>)")


def folds(labels: Sequence[str], groups: Sequence[str | None], count: int, seed: int) -> np.ndarray:
    """The fold [n] of each report, by class as even as groups allow; a group's reports share a fold.

    Raises:
        ConfigError: a report has no group, there are fewer groups than folds, no class has a report for each, or a fold would
            be empty.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    lost = sum(group is None for group in groups)
    if lost:
        raise ConfigError(f"data.group: {lost:,} reports of train have none; fill the column, or name another")
    if len(set(groups)) < count:
        raise ConfigError(f"folds: {count} folds need as many patients, and there are {len(set(groups))}")
    if max(Counter(labels).values()) < count:
        raise ConfigError(f"folds: no class has the {count} reports that as many folds need")
    found = np.full(len(labels), -1, dtype=np.int32)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer reports than folds cannot stand in each of them, and scikit-learn warns of it.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, held) in enumerate(splitter.split(labels, labels, groups)):
            found[held] = number
    empty = sorted(set(range(count)) - set(found.tolist()))
    if empty:
        raise ConfigError(f"folds: fold {empty[0]} is empty; take fewer folds")
    return found


def scored(rationales: Sequence[Mapping[str, str]], classes: Sequence[str], asked: Iterable[Asked]) -> pa.Table:
    """The rationales with the scores of those who were asked, one for each fold that has any, as `BANK`.

    Args:
        rationales: `record_id`, `origin` and `label` (the gold class) of each.
    """
    report, alone, empty = (np.zeros((len(rationales), len(classes))) for _ in range(3))
    fold = np.zeros(len(rationales), dtype=np.int64)
    for number, here, *answers in asked:
        fold[here] = number
        report[here], alone[here], empty[here] = answers
    return bank(rationales, fold.tolist(), classes, report, alone, empty)


def bank(
    rationales: Sequence[Mapping[str, str]],
    fold: Sequence[int],
    classes: Sequence[str],
    report: np.ndarray,
    alone: np.ndarray,
    empty: np.ndarray,
) -> pa.Table:
    """Scores as `BANK`.

    Args:
        rationales: `record_id`, `origin` and `label` (the gold class) of each. fold: whose model scored it.
        report, alone, empty: probabilities [n, classes] of the report, of the rationale alone and of an empty text, by a model
            that has not seen the report.
    """
    rows = []
    for index, one in enumerate(rationales):
        gold = classes.index(one["label"])
        whole, by_itself, nothing = (float(values[index, gold]) for values in (report, alone, empty))
        fall = whole - by_itself
        _, norm = normalised(np.array([0.0]), np.array([fall]), whole, nothing)
        rows.append(
            {
                **{name: one[name] for name in ("record_id", "origin", "label")},
                "fold": int(fold[index]),
                "report_prob": whole,
                "rationale_prob": by_itself,
                "empty_prob": nothing,
                "says": classes[int(alone[index].argmax())],
                "sufficiency": fall,
                "norm_sufficiency": norm,
            }
        )
    return pa.Table.from_pylist(rows, schema=BANK)


def judged(table: pa.Table, by: Rule, seed: int = 0) -> pa.Table:
    """The bank with a rule's verdict on every rationale: `rule`, `accepted`, `reject_reason`."""
    accepted = _accepted(table, by, seed)
    reasons = [None if kept else str(by) for kept in accepted]
    for field, values in zip(VERDICT, ([str(by)] * len(table), accepted.tolist(), reasons), strict=True):
        table = table.append_column(field, pa.array(values, field.type))
    return table


def _accepted(table: pa.Table, by: Rule, seed: int) -> np.ndarray:
    labels = np.array(table["label"].to_pylist(), dtype=object)
    sufficiency = table["sufficiency"].to_numpy()
    if by.name == "all":
        return np.ones(len(table), dtype=bool)
    if by.name == "drop_wrong":
        return np.array(table["says"].to_pylist(), dtype=object) == labels
    if by.name == "at_most":
        return sufficiency <= by.value
    kept = np.zeros(len(table), dtype=bool)
    if by.name == "top":
        order = np.lexsort((table["record_id"].to_pylist(), sufficiency))
        wanted = {label: int(np.ceil(by.value * (labels == label).sum())) for label in set(labels)}
    else:
        draws = [seed_of(name, "random rationale", seed) for name in table["record_id"].to_pylist()]
        order = np.argsort(draws, kind="stable")
        same = _accepted(table, by.of, seed)
        wanted = {label: int(same[labels == label].sum()) for label in set(labels)}
    for label, number in wanted.items():
        kept[order[labels[order] == label][:number]] = True
    return kept
