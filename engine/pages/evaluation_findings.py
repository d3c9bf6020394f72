"""The findings part of an evaluation page: every figure, label by label."""

from engine.evaluation.evaluation import Evaluation
from engine.pages import figures
from engine.pages.highlight import shown
from engine.pages.tables import Column, table
from engine.records import FINDINGS

_OVERALL = {
    "macro_auroc": "area under the ROC curve (AUC), every label with equal weight",
    "micro_auroc": "AUC over all labels together",
    "macro_ap": "average precision, every label with equal weight",
    "macro_f1": "F1 at the run's thresholds, every label with equal weight",
    "macro_mcc": "Matthews correlation, every label with equal weight",
    "ece": "mean gap between stated and true certainty",
}


def lead(evaluation: Evaluation, *_: object) -> list[str]:
    """The counts."""
    tiles = [("studies compared", f"{evaluation.counts.get('matched', 0):,}")]
    return [figures.tiles([*tiles, *figures.decision_tiles(evaluation, {"failed": "failed: not answered"})])]


def body(evaluation: Evaluation, deciding: object, level: float, auto: object) -> list[str]:
    """All labels together, then each of them."""
    lines = []
    for f1 in evaluation.rows(FINDINGS, "f1", "label="):
        auroc, ap, mcc = (evaluation.get(FINDINGS, name, f1.slice) for name in ("auroc", "ap", "mcc"))
        cells = [figures.figure(metric, False) for metric in (auroc, ap, f1, mcc)]
        lines.append([shown(f1.slice.partition("=")[2]), f"{f1.n:,}", *cells])
    labels = [Column("label"), *(Column(name, True) for name in ("studies", "AUC", "average precision", "F1", "Matthews"))]
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
        figures.reading(figures.common_terms(level)),
    ]
