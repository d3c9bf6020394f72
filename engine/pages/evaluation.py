"""One self-contained page about how good a run is: for a person who must decide whether to rely on it, in five minutes.

It holds figures, codes, the ids of records and the names of slices, and no text of a report. What it says goes by the table that
was measured; each has a module of its own beside this one.
"""

from collections.abc import Collection, Mapping, Sequence

from engine.evaluation.evaluation import Evaluation
from engine.pages import evaluation_codes, evaluation_entities, evaluation_findings
from engine.pages.charts import CHART_STYLE
from engine.pages.evaluation_codes import Names
from engine.pages.evidence import NAMES
from engine.pages.highlight import shown
from engine.pages.style import style
from engine.records import CODES, ENTITIES, FINDINGS
from engine.storage import storage_for

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
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
    names: Names = NAMES,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        deciding: the tasks that must be sure for a record to be coded without review.
        level: of the intervals, such as 0.95. note: one line under the title, such as run, model and gold table.
        auto: the codes that can be coded without a person at all, by task; None where the model is not at hand.
        names: from a code to its name, a task.
    """
    of_table = _TABLES[evaluation.table]
    page = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{shown(title)}</title><style>{style()}{CHART_STYLE}{_STYLE}</style></head><body><main>",
            f"<h1>{shown(title)}</h1>",
            f'<p class="soft">{shown(note)}</p>' if note else "",
            *of_table.lead(evaluation, deciding, level),
            "".join(f'<p class="warning">{shown(each)}</p>' for each in evaluation.notes),
            *of_table.body(evaluation, deciding, level, auto, names),
            "</main></body></html>\n",
        ]
    )
    with storage_for(path).writer(path) as file:
        file.write(page.encode("utf-8"))
