"""The model card."""

from collections.abc import Mapping
from typing import Any

from engine.models.clear.config import Config
from engine.models.findings.figures import measured_lines


def model_card(figures: Mapping[str, Any], config: Config, command: str) -> str:
    """What the model is, what it learned from, and how well it does, as Markdown."""
    counts = figures["studies"]
    lines = [
        "# Findings in chest radiographs, as sums over concepts",
        "",
        f"    {command}",
        "",
        f"Image encoder {config.image} ({'trained' if 'image' in config.trained else 'frozen'}, {config.preprocessing}), "
        "text encoder "
        f"{config.text}, {figures['bank']['concepts']:,} concepts, head {config.head}.",
        f"The bank's embedder is {config.bank['embedder']}; it tells findings from their absence with an area of "
        f"{figures['bank']['negation_auc']:.2f}.",
        "",
        *(f"* {split}: " + ", ".join(f"{count:,} {name}" for name, count in of.items()) for split, of in counts.items()),
        "",
        "Thresholds come from the valid split, figures from the test split, with intervals drawn by patient:",
        "",
        *(f"    {line}" for line in measured_lines(figures)),
    ]
    if figures["skipped"]:
        lines += ["", f"Not measured, for lack of cases or of others: {', '.join(figures['skipped'])}."]
    if figures["rare"]:
        lines += ["", "No promise is made about:", *(f"* {name}: {why}" for name, why in figures["rare"].items())]
    if figures["by_prompts"]:
        lines += ["", "Answered by prompts alone:", *(f"* {name}: {why}" for name, why in figures["by_prompts"].items())]
    return "\n".join(lines) + "\n"
