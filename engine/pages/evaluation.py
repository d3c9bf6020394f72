"""A self-contained page about the quality of a run, from which a person can decide in five minutes whether to rely on it.

It holds figures, codes, ids of records and names of slices, and no text of a report. Each kind of table has its own module for
the contents.
"""

from collections.abc import Collection, Mapping, Sequence

from engine.evaluation.evaluation import Evaluation
from engine.pages import evaluation_codes, evaluation_entities, evaluation_findings
from engine.pages.charts import CHART_STYLE
from engine.pages.highlight import shown
from engine.pages.style import page
from engine.records import CODES, ENTITIES, FINDINGS
from engine.storage import storage_for

_STYLE = """
.pair { display:flex; flex-wrap:wrap; gap:1rem 2rem } .pair > div { flex:1 1 22rem; min-width:0 }
.parts { columns:22rem 2; column-gap:2rem } .parts > div { break-inside:avoid } .parts h3 { margin-top:1rem }
h3 { font-size:1rem; margin:1.4rem 0 .2rem } details { margin:.8rem 0 }
summary { cursor:pointer; font-weight:550 } .headline { font-size:1.15rem; margin:.6rem 0 }
dt { font-weight:600; margin-top:.5rem } dd { margin:0 0 0 1rem } strong.bad { color:var(--failed) }
"""
_TABLES = {CODES: evaluation_codes, ENTITIES: evaluation_entities, FINDINGS: evaluation_findings}


def write_evaluation_page(
    path: str,
    title: str,
    evaluation: Evaluation,
    *,
    deciding: Sequence[str],
    level: float,
    note: str = "",
    auto: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        deciding: the tasks that must be sure for a record to be coded without review.
        level: of the intervals, such as 0.95. note: one line under the title, such as run, model and gold table.
        auto: the codes that can be coded without a person at all, by task; None if the model is not at hand.
    """
    contents = _TABLES[evaluation.table]
    parts = [
        *contents.lead(evaluation, deciding, level),
        "".join(f'<p class="warning">{shown(note)}</p>' for note in evaluation.notes),
        *contents.body(evaluation, deciding, level, auto),
    ]
    with storage_for(path).writer(path) as file:
        file.write(page(title, note, parts, CHART_STYLE + _STYLE))
