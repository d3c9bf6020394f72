"""Named concepts and what each adds to an answer: signed bars, and the sum that a reader can check."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.pages.highlight import shown
from engine.pages.tables import Column, table

CONTRIBUTIONS_STYLE = """
.signed { position:relative; height:.8rem; min-width:10rem; margin:.25rem 0; background:linear-gradient(var(--soft),var(--soft))
  50%/1px 100% no-repeat } .signed i { position:absolute; top:0; height:100%; print-color-adjust:exact;
  -webkit-print-color-adjust:exact } .signed .for { left:50%; background:rgb(var(--for)) }
.signed .against { right:50%; background:repeating-linear-gradient(45deg,
  rgb(var(--against)) 0 4px,rgb(var(--against)/.55) 4px 7px) }
.sum { font-variant-numeric:tabular-nums; overflow-wrap:anywhere } .sum b { white-space:nowrap }
.concepts th.wide { text-align:center } .concepts td:first-child { overflow-wrap:anywhere; min-width:12rem }
strong.bad { color:var(--failed) }
@media screen and (max-width:40rem) { .concepts td.wide::before { display:none !important } }
"""
EACH = 6
# Concepts and their sum are stored as float32.
_ROUNDING = 1e-4


def signed_bar(value: float, largest: float) -> str:
    """A bar to the right of the middle for what is above 0, to the left for what is below."""
    width = 50 * min(1.0, abs(value) / largest) if largest > 0 else 0.0
    return f'<div class="signed"><i class="{"for" if value >= 0 else "against"}" style="width:{width:.2f}%"></i></div>'


def concepts_table(concepts: Sequence[Mapping[str, Any]], each: int = EACH) -> str:
    """The `each` strongest concepts for the finding, then those against it; the others as one line with their sum.

    Args:
        concepts: of one finding, as in the table `findings`; those without a score are not shown.
    """
    scored = [concept for concept in concepts if concept["score"] is not None]
    ranked = sorted(scored, key=lambda concept: -abs(concept["score"]))
    sides = [[c for c in ranked if (c["score"] >= 0) == is_for] for is_for in (True, False)]
    top = [concept for side in sides for concept in side[:each]]
    others = [concept for side in sides for concept in side[each:]]
    largest = max((abs(concept["score"]) for concept in top), default=0.0)
    rows = [
        [
            shown(concept["text"] or f"concept {concept['concept']}"),
            signed_bar(concept["score"], largest),
            f"{'for' if concept['score'] >= 0 else 'against'} {concept['score']:+.3f}",
            "" if concept["weight"] is None else f"{concept['weight']:.1%}",
            "" if concept["cosine"] is None else f"{concept['cosine']:+.3f}",
        ]
        for concept in top
    ]
    if others:
        count = f"{len(others)} weaker {'concept' if len(others) == 1 else 'concepts'} that the row lists"
        rows.append([f'<span class="soft">{count}</span>', "", f"{sum(c['score'] for c in others):+.3f}", "", ""])
    names = ("adds to the logit", "share of all", "similarity")
    columns = [Column("concept"), Column("against | for", wide=True), *(Column(name, True) for name in names)]
    return f'<div class="concepts">{table(columns, rows)}</div>' if rows else ""


def checked_sum(label: Mapping[str, Any], concepts: Sequence[Mapping[str, Any]], total: int | None) -> str:
    """The sentence "logit = intercept + listed + rest", and whether it holds; empty if the row has no such sum.

    Args:
        label: of the table `findings`. concepts: all listed ones of that finding. total: the number of concepts in the bank.
    """
    logit, intercept, rest = (label[name] for name in ("logit", "intercept", "rest"))
    if None in (logit, intercept, rest):
        return ""
    listed = sum(concept["score"] or 0.0 for concept in concepts)
    off = intercept + listed + rest - logit
    left = "" if total is None else f" of {max(0, total - len(concepts)):,} concepts not listed"
    noun = "listed concept" if len(concepts) == 1 else "listed concepts"
    holds = abs(off) <= _ROUNDING * (1 + abs(intercept) + abs(rest) + sum(abs(c["score"] or 0.0) for c in concepts))
    verdict = "The sum holds." if holds else f'<strong class="bad">The sum does not hold: it is off by {off:+.3f}.</strong>'
    return (
        f'<p class="sum">logit <b>{logit:+.3f}</b> = intercept <b>{intercept:+.3f}</b> + {len(concepts)} {noun} '
        f"<b>{listed:+.3f}</b> + rest{left} <b>{rest:+.3f}</b>. {verdict}</p>"
    )
