"""What the page of an evaluation says of findings: every figure, label by label."""

from collections.abc import Sequence

from engine.evaluation.evaluation import Evaluation
from engine.pages import figures
from engine.pages.highlight import shown
from engine.pages.tables import Column, table
from engine.records import FINDINGS

_WHOLE = {
    "macro_auroc": "area under the ROC curve (AUC), each label counting alike",
    "micro_auroc": "AUC over all labels as one",
    "macro_ap": "average precision, each label counting alike",
    "macro_f1": "F1 at the run's thresholds, each label counting alike",
    "macro_mcc": "Matthews correlation, each label counting alike",
    "ece": "mean gap between stated and true certainty",
}


def lead(evaluation: Evaluation, deciding: Sequence[str], level: float) -> list[str]:
    """The counts."""
    tiles = [("studies compared", f"{evaluation.counts.get('matched', 0):,}")]
    return [figures.tiles([*tiles, *figures.decision_tiles(evaluation, {"failed": "failed: not answered"})])]


def body(evaluation: Evaluation, deciding: Sequence[str], level: float, auto: object) -> list[str]:
    """All labels together, and each of them."""
    whole = figures.summary(evaluation, FINDINGS, _WHOLE, figures.whole_heads(level), share=False)
    lines = []
    for f1 in evaluation.rows(FINDINGS, "f1", "label="):
        auroc, ap, mcc = (evaluation.get(FINDINGS, name, f1.slice) for name in ("auroc", "ap", "mcc"))
        cells = [figures.figure(m, False) for m in (auroc, ap, f1, mcc)]
        lines.append([shown(f1.slice.partition("=")[2]), f"{f1.n:,}", *cells])
    labels = [Column("label"), *(Column(name, True) for name in ("studies", "AUC", "average precision", "F1", "Matthews"))]
    return [
        figures.section("All labels together", whole, _slices(evaluation)),
        figures.section("Label by label", table(labels, lines)),
        figures.reading(figures.usual_meanings(level)),
    ]


def _slices(evaluation: Evaluation) -> str:
    return figures.by_slice(
        evaluation.rows(FINDINGS, "micro_f1"),
        "F1 by",
        "F1 by",
        "F1 over all labels as one, with intervals.",
        lambda name, value: value,
        lambda m: f"{m.value:.2f} of {m.n:,}",
    )
