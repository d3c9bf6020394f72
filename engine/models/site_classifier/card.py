"""The model card: the model, its training examples, and its figures beside the baseline's."""

from collections.abc import Mapping
from typing import Any

from engine.models.code_figures import chapters
from engine.models.site_classifier.config import ClassifierConfig

_HEADS = {
    "pooling": "attention pooling with {config.pool_heads} queries",
    "cls": "the mean of the windows' first states",
    "target": "attention of one learned query",
    "dpla": "deformable phrase-level attention (3 samples, reach {config.phrase_reach:g})",
}


def model_card(figures: Mapping[str, Any], config: ClassifierConfig, command: str) -> str:
    """The card as Markdown, from the figures of `engine.models.site_classifier.finish`."""
    trained = f"with an adapter of rank {config.rank}" if config.rank else "tuned as a whole"
    lines = [
        "# Site classifier: primary cancer site and histology of pathology reports",
        "",
        f"Encoder {config.encoder} (sha256 {config.encoder_digest[:12]}...) {trained},",
        f"windows of {config.window} tokens, {_HEADS[config.head].format(config=config)} over the whole report, one linear",
        "layer a task.",
        "",
        "Made by",
        "",
        f"    {command}",
        "",
        "## Examples",
        "",
        *(f"* {name}: {count}" for name, count in sorted(figures["examples"].items())),
        "",
        "Synthetic reports stand in train only. Calibrated on the real valid split, measured on the real test split. Figures on",
        "research collections such as TCGA are an upper bound for registry use: one resected primary a patient, academic",
        "centres, no benign or negative reports, hardly any biopsies, no corrections.",
        *chapters(figures, config.labels),
        "",
        "## Evidence",
        "",
        *_evidence(figures["evidence"]),
    ]
    return "\n".join(lines) + "\n"


def add_head(card: str, head: str, figures: Mapping[str, Any], command: str) -> str:
    """The card of a checkpoint, with a chapter about one more head on its encoder."""
    scores = ", ".join(
        f"{name} {task['model']['accuracy']:.3f} / {task['model']['macro_f1']:.3f}" for name, task in figures["tasks"].items()
    )
    lines = [card.rstrip(), "", "## Further heads", ""]
    lines += ["Trained on token states of the encoder above, which stayed as it is, by", "", f"    {command}", ""]
    lines.append(f"* `model.head={head}`: accuracy / macro-F1 on test: {scores}; more in heads/{head}/README.md")
    return "\n".join(lines) + "\n"


def _evidence(evidence: Mapping[str, Any]) -> list[str]:
    rows = [
        f"Chosen on valid: **{evidence['chosen']}**. Fall of the answer's probability when the five shown spans are masked",
        "(comprehensiveness), and when all but them are masked (sufficiency), beside as many random tokens; cost relative to",
        "prediction alone, which two tasks share. First task.",
        "",
        "| split | method | comprehensiveness | random | gain | sufficiency | random | cost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for split in ("valid", "test"):
        for row in evidence[split]:
            rows.append(
                f"| {split} | {row['method']} | {row['comprehensiveness']:.3f} | {row['random_comprehensiveness']:.3f} "
                f"| {row['gain']:.3f} | {row['sufficiency']:.3f} | {row['random_sufficiency']:.3f} | {row['cost']:.2f} |"
            )
    mass = [row["specials_mass"] for row in evidence["test"] if "specials_mass" in row]
    if mass:
        rows += ["", f"Of the attention {mass[0]:.1%} lies on special tokens (test), in no unit of the evidence."]
    return rows
