"""The model card: what a model is, what it was made from, and its figures beside the baseline's."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from engine.models.site_classifier.config import ClassifierConfig
from engine.models.site_classifier.options import Options

_HEADS = {
    "pooling": "attention pooling with {config.pool_heads} queries",
    "cls": "the mean of the windows' first states",
    "target": "attention of one learned query",
    "dpla": "deformable phrase-level attention (3 samples, reach {config.phrase_reach:g})",
}


def model_card(figures: Mapping[str, Any], config: ClassifierConfig, command: str) -> str:
    """The card as Markdown, from the figures that `engine.models.site_classifier.finish` measured."""
    lines = [
        "# Site classifier: primary cancer site and histology of pathology reports",
        "",
        f"Encoder {config.encoder} (sha256 {config.encoder_digest[:12]}...) with an adapter of rank {config.rank},",
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
    ]
    for name, task in figures["tasks"].items():
        labels = config.task(name).labels
        lines += ["", f"## {name} ({len(labels)} codes)", "", *_task(task), *_auto(task["auto_codes"], len(labels))]
    lines += ["", "## Evidence", "", *_evidence(figures["evidence"])]
    return "\n".join(lines) + "\n"


def with_head(card: str, head: str, figures: Mapping[str, Any]) -> str:
    """The card of a checkpoint, with a chapter about its further heads that names one more."""
    title = "## Further heads"
    told = ", ".join(
        f"{name} {task['model']['accuracy']:.3f} / {task['model']['macro_f1']:.3f}" for name, task in figures["tasks"].items()
    )
    lines = [card.rstrip()]
    if f"\n{title}\n" not in card:
        lines += ["", title, "", "Trained on token states of the encoder above, which stayed as it is.", ""]
    return (
        "\n".join([*lines, f"* `model.head={head}`: accuracy / macro-F1 on test: {told}; more in heads/{head}/README.md"]) + "\n"
    )


def _task(task: Mapping[str, Any]) -> list[str]:
    model, rival, fitted = task["model"], task["baseline"], task["calibration"]
    rows = ["| test reports | n | | accuracy | macro-F1 | keepable at 98 % |", "|---|---|---|---|---|---|"]
    names = {"all": (model, rival)}
    flagged = {"icd_code_in_text": "flagged", "no_icd_code_in_text": "unflagged"}
    for part, values in model["parts"].items():
        names[part] = (values, (rival or {}).get(flagged.get(part, "")))
    for part, (ours, theirs) in names.items():
        rows.append(f"| {part} | {ours['n']} | this model | {_triple(ours)} |")
        if theirs:
            rows.append(f"| {part} | {theirs['n']} | TF-IDF + logistic regression | {_triple(theirs)} |")
    rows += [
        "",
        f"Accuracy {model['accuracy']:.3f}, by patient {model['accuracy_low']:.3f} to {model['accuracy_high']:.3f} (95 %).",
        *_threshold(model["threshold"], fitted),
        f"Expected calibration error: {fitted['ece_before']:.3f} before and {fitted['ece_after']:.3f} after temperature scaling"
        f" (valid), {model['ece']:.3f} on test.",
        "`keepable` is the share that could be kept at 98 % accuracy if the cut were known; it is not a promise.",
    ]
    return rows


def _threshold(kept: Mapping[str, Any], fitted: Mapping[str, Any]) -> list[str]:
    if fitted["bound"] is None:
        return [f"No threshold on the {fitted['n']} valid reports holds 98 % by the lower 95 % bound: this task is never `auto`."]
    return [
        f"Threshold {fitted['threshold']:.4f}, fitted on {fitted['n']} valid reports for 98 % right by the lower 95 % bound:",
        f"there it keeps {fitted['share']:.1%}, {fitted['accuracy']:.1%} right (bound {fitted['bound']:.1%}).",
        f"**On test it keeps {kept['share']:.1%}, {kept['accuracy']:.1%} of them right.**",
    ]


def _auto(codes: Sequence[str], count: int) -> list[str]:
    """Which codes can be `auto`, a paragraph of its own."""
    if not codes:
        return ["", f"**None of the {count} codes can be `auto`.**"]
    least = Options.min_support
    told = (
        f"**{len(codes)} of the {count} codes can be `auto`**, those with a threshold and at least {least} real training reports "
        f"(`decision.min_support`): {', '.join(codes)}. The others always go to review."
    )
    return ["", *textwrap.wrap(told, 120)]


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
    return (
        [*rows, "", f"Of the attention {mass[0]:.1%} lies on special tokens (test), in no unit of the evidence."]
        if mass
        else rows
    )


def _triple(values: Mapping[str, Any]) -> str:
    return f"{values['accuracy']:.3f} | {values['macro_f1']:.3f} | {values['keepable_share']:.1%}"
