"""Parts that the evidence pages share: counts on top, decisions, reasons and failures in words, probabilities."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from engine.pages import words
from engine.pages.highlight import shown
from engine.records import DECISIONS


def tiles(summary: Mapping[str, object], labels: Mapping[str, str]) -> str:
    """Figures under their names, and those of decisions also as a bar.

    Args:
        labels: decisions in words.
    """
    figures = [(key, f"{value:,}" if isinstance(value, int) else str(value)) for key, value in summary.items()]
    boxes = "".join(
        f'<div class="tile"><b>{shown(figure)}</b><span>{shown(labels.get(key, key))}</span></div>' for key, figure in figures
    )
    counts = {key: int(value) for key, value in summary.items() if key in DECISIONS and isinstance(value, int)}
    total = sum(counts.values())
    if not total:
        return f'<div class="tiles">{boxes}</div>'
    parts = "".join(f'<i class="{key}" style="width:{100 * count / total:.2f}%"></i>' for key, count in counts.items())
    alt = ", ".join(f"{labels[key]} {count}" for key, count in counts.items())
    return f'<div class="tiles">{boxes}</div><div class="bar" role="img" aria-label="{shown(alt)}">{parts}</div>'


def badge(decision: str, text: str) -> str:
    return f'<span class="badge {html.escape(decision)}">{shown(text)}</span>'


def reasons(names: Sequence[str] | None) -> str:
    """Why a person must look; empty without a reason."""
    entries = "".join(f"<li>{shown(words.REASONS.get(r, r))} <code>{shown(r)}</code></li>" for r in names or ())
    return f'<ul class="reasons">{entries}</ul>' if entries else ""


def failure(row: Mapping[str, Any]) -> str:
    """Why a row failed."""
    broken = row["failure"] or {}
    kind, detail = str(broken.get("kind")), str(broken.get("detail") or "")
    why = f"{shown(words.FAILURES.get(kind, kind))} <code>{shown(kind)}{': ' + shown(detail) if detail else ''}</code>"
    return f'<ul class="reasons"><li>{why}</li></ul>'


def percent(prob: float) -> str:
    """To a tenth of a percent, but never 0 for what is possible, nor 100 for what is not certain."""
    if 0 < prob < 0.001:
        return "&lt;&nbsp;0.1%"
    return "&gt;&nbsp;99.9%" if 0.999 < prob < 1 else f"{prob:.1%}"
