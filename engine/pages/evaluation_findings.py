"""The findings part of an evaluation page: every figure, label by label."""

from engine.evaluation.evaluation import Evaluation
from engine.pages import figures
from engine.pages.highlight import shown
from engine.pages.tables import Column, table
from engine.records import FINDINGS

_DECISIONS = {"auto": "decided", "review": "to review", "failed": "failed: not answered"}
_OVERALL = {
    "macro_auroc": "area under the ROC curve (AUC), every label with equal weight",
    "micro_auroc": "AUC over all labels together",
    "macro_ap": "average precision, every label with equal weight",
    "macro_f1": "F1 at the run's thresholds, every label with equal weight",
    "macro_mcc": "Matthews correlation, every label with equal weight",
    "ece": "mean gap between stated and true certainty",
}
_TERMS = {
    "AUC": "The share of pairs of a positive and a negative study in which the positive one has the higher probability. 0.5 is "
    "chance; it does not depend on the thresholds.",
    "Average precision": "The share of true findings among those called, averaged over all thresholds. Chance is the share of "
    "studies that have the finding.",
    "Matthews": "How well decided and true findings go together: 1 is perfect, 0 is chance.",
}


def lead(evaluation: Evaluation, *_: object) -> list[str]:
    """The counts."""
    tiles = [("studies compared", f"{evaluation.counts.get('matched', 0):,}")]
    return [figures.tiles([*tiles, *figures.decision_tiles(evaluation, _DECISIONS)])]


def body(evaluation: Evaluation, deciding: object, level: float, auto: object) -> list[str]:
    """All labels together, then each of them."""
    lines = []
    for f1 in evaluation.rows(FINDINGS, "f1", "label="):
        auroc, ap, mcc = (evaluation.get(FINDINGS, name, f1.slice) for name in ("auroc", "ap", "mcc"))
        area, *others = (figures.figure(metric, False) for metric in (auroc, ap, f1, mcc))
        ends = figures.interval(auroc, False) if auroc is not None else ""
        # A label without a threshold has no F1.
        count = max(metric.n for metric in (f1, auroc) if metric is not None)
        lines.append([shown(f1.slice.partition("=")[2]), f"{count:,}", area, ends, *others])
    names = ("studies", "AUC", f"{level:.0%} interval", "average precision", "F1", "Matthews")
    labels = [Column("label"), *(Column(name, True) for name in names)]
    slices = figures.by_slice(
        evaluation.rows(FINDINGS, "micro_f1"),
        "F1 by",
        "F1 over all labels together, with intervals.",
        note=lambda metric: f"{metric.value:.2f} of {metric.n:,}",
    )
    overall = figures.summary(evaluation, FINDINGS, _OVERALL, figures.heads(level), share=False)
    return [
        figures.section("All labels together", overall, slices),
        figures.section("Label by label", table(labels, lines)),
        figures.reading({**_TERMS, **figures.common_terms(level)}),
    ]
