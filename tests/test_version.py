"""Rows of made-up texts against those recorded for this version: what changes a value in a row raises the version.

`python -m tests.test_version` records them, once for each version.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine import __version__
from engine.models.base import ModelSpec, load
from engine.pipeline.work import answer, prepare
from engine.records import records_schema
from engine.sources.synthetic import generate, unreportable

RECORDED = Path(__file__).parent / "data" / f"rows-{__version__}.json"
# A probability nearer than this to its threshold may fall on either side of it on another machine.
CLEAR = 2e-3


def rows() -> list[dict[str, Any]]:
    """The rows of 50 reports and of 20 texts that are none, in fp32, each text in a batch of its own."""
    tables = [generate(50, 7), unreportable.generate(20, 7)]
    ids, texts = ([value for table in tables for value in table[name].to_pylist()] for name in ("record_id", "text"))
    number = len(ids)
    columns = [range(number), ids, ["made up"] * number, range(number), texts, [None] * number, [{}] * number]
    schema = records_schema()
    records = pa.table([pa.array(each, field.type) for each, field in zip(columns, schema, strict=True)], schema=schema)
    options = {"method": "none", "precision": "fp32", "deterministic": True}
    system = load(ModelSpec("engine.models.site_classifier", "shipped", options))
    meta, prepared = prepare(system, records)
    answers = answer(system, prepared, pa.schema([]))
    assert meta["failure"].null_count == number
    order = {row: record_id for row, record_id in zip(meta["row"].to_pylist(), ids, strict=True)}
    names = (
        "decision",
        "reasons",
        "phrases",
        "failure",
        *(f"{t}_{c}" for t in ("site", "histology") for c in ("code", "name", "prob", "reasons")),
    )
    table = answers.select(["row", *names]).to_pylist()
    return [
        {"record_id": order[row["row"]], **{name: row[name] for name in names}} for row in sorted(table, key=lambda r: r["row"])
    ]


@pytest.mark.timeout(300)
def test_rows_are_those_of_this_version() -> None:
    recorded, made = json.loads(RECORDED.read_text()), rows()
    assert [row["record_id"] for row in made] == [row["record_id"] for row in recorded["rows"]]
    clear = 0
    for was, now in zip(recorded["rows"], made, strict=True):
        for task in ("site", "histology"):
            assert now[f"{task}_prob"] == pytest.approx(was[f"{task}_prob"], abs=1e-3)
        near = [abs(was[f"{task}_prob"] - cut) < CLEAR for task, cut in recorded["thresholds"].items()]
        if any(near):
            continue
        clear += 1
        assert {k: v for k, v in now.items() if "prob" not in k} == {k: v for k, v in was.items() if "prob" not in k}
    assert clear >= 50


if __name__ == "__main__":
    from engine.models.site_classifier.checkpoint import read_checkpoint

    cuts = {name: task.threshold for name, task in read_checkpoint("shipped").calibration.items()}
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps({"thresholds": cuts, "rows": rows()}, indent=1, sort_keys=True) + "\n")
