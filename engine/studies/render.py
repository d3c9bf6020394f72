"""Tables of a study's rows, as its file describes them, and their place in the pages of docs/results.

    tables:
      modes:                                       # <!-- table prompt_mrc/prompt_ablation modes --> in a page
        arms: [tagger, name]                       # patterns of arms, in this order; without it all
        corpora: [NCBI-disease]                    # without it all
        columns:
          F1: f1                                   # the metric over all records, with its interval
          recall: {metric: recall, interval: false}
          less name: {metric: f1, slice: "less name, over seeds"}    # {arm} in a slice is the arm's own name
          less its base: {metric: f1, slice: "less *, over texts"}
          epoch: {metric: seconds_per_epoch, digits: 0}
          missed, %: {metric: error_missed, times: 100, digits: 1}
      types: {rows: "type=", metric: f1}           # a line for each slice that begins so, a column for each arm
      words: {rows: "label=", metric: concepts, note: true}        # the notes of rows in place of their figures

A page has the tables between markers, which `python -m engine.studies.render` fills anew.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError
from engine.studies import plot, results
from engine.studies.run import DATA, record
from engine.studies.study import Study, names, read_study

_MARKED = re.compile(r"(<!-- table (\S+) (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_NONE = "–"
# What a table of slices may say of its figures.
_FORM = ("metric", "interval", "digits", "times", "note")
Rows = Mapping[tuple[str, str, str, str], Mapping[str, Any]]


def page(text: str) -> str:
    """A page with every table between its markers made anew from the rows in docs/results/data.

    Raises:
        ConfigError: a marker names no table of a study, or the study has no rows there.
    """

    def rebuild(match: re.Match[str]) -> str:
        study = read_study(match[2])
        rows, _ = results.read(record(match[2]))
        if match[3] not in study.tables or not len(rows):
            raise ConfigError(f"study: {match[2]} has no table {match[3]}, or no rows in {DATA.name}/{record(match[2]).name}")
        return f"{match[1]}\n{table(study, match[3], rows)}\n\n{match[4]}"

    return _MARKED.sub(rebuild, text)


def table(study: Study, name: str, rows: pa.Table) -> str:
    """One of a study's tables as Markdown. Figures of a study of several seeds are their means."""
    spec, values = study.tables[name], _values(rows)
    corpora = [corpus for corpus in study.corpora if corpus in spec.get("corpora", study.corpora)]
    arms = [(arm.name, arm.corpus) for arm in study.arms() if arm.seed == study.seeds[0]]
    patterns = spec.get("arms", ["*"])
    arms = [arm for pattern in patterns for arm in arms if fnmatch(arm[0], pattern)]
    if "rows" in spec:
        return "\n\n".join(_by_slice(spec, corpus, [arm for arm, at in arms if at == corpus], values) for corpus in corpora)
    columns = {title: _column(column) for title, column in spec["columns"].items()}
    many = len(corpora) > 1
    lines = [[*(["corpus"] if many else []), "-".join(study.factors), *columns]]
    for corpus in corpora:
        for arm in dict.fromkeys(arm for arm, at in arms if at == corpus):
            cells = [_cell(values.get(_place(corpus, arm, column, values)), column) for column in columns.values()]
            if any(cell != _NONE for cell in cells):
                lines.append([*([corpus] if many else []), f"`{arm}`", *cells])
    return _markdown(lines, 1 + many)


def summary(study: Study, rows: pa.Table) -> str:
    """All tables of a study as Markdown, or a plain list of its rows over all records where it describes no table."""
    if study.tables:
        return "\n\n".join(f"{name}\n\n{table(study, name, rows)}" for name in study.tables)
    metrics = dict.fromkeys(row["metric"] for row in rows.to_pylist() if row["slice"] == results.ALL)
    plain = Study(**{**vars(study), "tables": {"all": {"columns": {metric: metric for metric in metrics}}}})
    return table(plain, "all", rows)


def _values(rows: pa.Table) -> Rows:
    """Rows by corpus, arm, metric and slice: the mean over seeds, or the row of the only seed."""
    values: dict[tuple[str, str, str, str], Mapping[str, Any]] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: row["seed"] is None):
        values[row["corpus"], row["arm"], row["metric"], row["slice"]] = row
    return values


def _column(column: str | Mapping[str, Any]) -> dict[str, Any]:
    spec = {"metric": column} if isinstance(column, str) else dict(column)
    return {"slice": results.ALL, "interval": True, "digits": 3, "times": 1, **spec}


def _place(corpus: str, arm: str, column: Mapping[str, Any], values: Rows) -> tuple[str, str, str, str]:
    part = column["slice"].replace("{arm}", arm)
    if "*" in part:
        part = next((key[3] for key in values if key[:3] == (corpus, arm, column["metric"]) and fnmatch(key[3], part)), part)
    return corpus, arm, column["metric"], part


def _by_slice(spec: Mapping[str, Any], corpus: str, arms: Sequence[str], values: Rows) -> str:
    prefix, column = spec["rows"], _column({"interval": False, **{name: value for name, value in spec.items() if name in _FORM}})
    arms = list(dict.fromkeys(arms))
    figures = [(metric, part) for at, arm, metric, part in values if at == corpus and arm in arms]
    slices = dict.fromkeys(part for metric, part in figures if metric == column["metric"] and part.startswith(prefix))
    lines = [[corpus, "n", *(f"`{arm}`" for arm in arms)]]
    for part in slices:
        cells = [values.get((corpus, arm, column["metric"], part)) for arm in arms]
        count = next((cell["n"] for cell in cells if cell and cell["n"] is not None), None)
        lines.append([part.removeprefix(prefix), "" if count is None else f"{count:,}", *(_cell(cell, column) for cell in cells)])
    return _markdown(lines, 1)


def _cell(row: Mapping[str, Any] | None, column: Mapping[str, Any]) -> str:
    if row is None or row["value"] is None:
        return _NONE
    if column.get("note"):
        return row["note"]
    if column["metric"].endswith((".p", ".holm")):
        return "<0.001" if row["value"] < 0.001 else f"{row['value']:.3f}"
    sign = "+" if column["slice"].startswith("less ") else ""
    form, times = f"{sign},.{column['digits']}f", column["times"]
    value, low, high = (None if row[name] is None else f"{times * row[name]:{form}}" for name in ("value", "low", "high"))
    text = f"{value} ({low} to {high})" if column["interval"] and low is not None and high is not None else f"{value}"
    return text.replace("-", "−")


def _markdown(lines: Sequence[Sequence[str]], names: int) -> str:
    """Lines of cells, the first of them the head; the first `names` columns are words, the others numbers."""
    rule = ["---"] * names + ["---:"] * (len(lines[0]) - names)
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def pages() -> dict[Path, str]:
    """Every page and picture of docs/results, made anew from the rows in docs/results/data."""
    folder = DATA.parent
    contents = {file: page(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.md"))}
    for name in names():
        rows, _ = results.read(record(name))
        if len(rows):
            contents |= {folder / file: text for file, text in plot.plots(read_study(name), rows)}
    return contents


def main() -> None:
    """Writes what has changed."""
    for file, text in pages().items():
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(f"{file.name}: made anew", file=sys.stderr)


if __name__ == "__main__":
    main()
