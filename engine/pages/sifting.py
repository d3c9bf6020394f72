"""The script of the evidence page, and the choice of cards by decision and reason that it serves."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engine.pages.examples import IN_TURN, Example
from engine.pages.highlight import shown
from engine.pages.pictures import Study

# Boxes scroll by themselves; the page does not move. Without script all cards are visible, and the choice is hidden.
SCRIPT = """
function look(root) {
  for (const box of root.querySelectorAll("[data-strongest]")) {
    const mark = document.getElementById(box.dataset.strongest);
    box.scrollTop += mark.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 3;
  }
}
look(document);
const form = document.querySelector("form.sift");
if (form) {
  form.hidden = false;
  form.oninput = () => {
    const [decision, reason] = [form.elements.decision.value, form.elements.reason.value];
    for (const each of document.querySelectorAll("[data-decision]")) {
      const hidden = each.hidden, {decision: is, reasons} = each.dataset;
      each.hidden = (decision && is !== decision) || (reason && !reasons.split(" ").includes(reason));
      if (hidden && !each.hidden) look(each);
    }
  };
}
"""

SIFT_STYLE = """
.sift { display:flex; flex-wrap:wrap; gap:.5rem 1.2rem; margin:1rem 0 } .sift[hidden] { display:none }
.sift select { font:inherit; max-width:100%; color:inherit; background:var(--card); border:1px solid var(--line);
  border-radius:.35rem; padding:.2rem .4rem }
@media print { .sift { display:none } }
"""

# No other script runs, whatever a report contains.
_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_DIGEST}'"


def sifted_by(row: Mapping[str, Any]) -> str:
    """HTML attributes of a part of the page that belongs to one row."""
    return f'data-decision="{shown(row["decision"])}" data-reasons="{shown(" ".join(row["reasons"] or ()))}"'


def sift(examples: Sequence[Example | Study], labels: Mapping[str, str], noun: str = "reports") -> str:
    """Two lists to choose from, with the number of cards for each entry; empty if all cards are alike.

    Args:
        labels: decisions in words. noun: what the cards are.
    """
    if len({sifted_by(example.row) for example in examples}) < 2:
        return ""
    decisions = Counter(example.row["decision"] for example in examples)
    reasons = Counter(reason for example in examples for reason in example.row["reasons"] or ())
    by_decision = [(name, labels[name], decisions[name]) for name in IN_TURN if name in decisions]
    by_reason = [(name, name.replace("_", " "), count) for name, count in reasons.most_common()]
    return (
        '<form class="sift" hidden autocomplete="off">'
        f"{_list('decision', 'Show', f'all {len(examples)} {noun}', by_decision)}"
        f"{_list('reason', 'because of', 'any reason', by_reason)}</form>"
    )


def _list(name: str, label: str, every: str, entries: Sequence[tuple[str, str, int]]) -> str:
    options = "".join(f'<option value="{shown(value)}">{shown(text)} ({count})</option>' for value, text, count in entries)
    return f'<label>{label} <select name="{name}"><option value="">{every}</option>{options}</select></label>'
