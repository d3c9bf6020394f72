"""Rows of made-up texts against those recorded for this version: what changes a value in a row raises the version.

`python -m tests.test_version` records them, once for each version.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from engine import __version__
from engine.models.run import rows as plain_rows
from engine.sources.synthetic import generate, unreportable

RECORDED = Path(__file__).parent / "data" / f"rows-{__version__}.json"
# A probability nearer than this to its threshold may fall on either side of it on another machine.
CLEAR = 2e-3


def rows() -> list[dict[str, Any]]:
    """The rows of 50 reports and of 20 texts that are none, in fp32, each text in a batch of its own."""
    tables = [generate(50, 7), unreportable.generate(20, 7)]
    ids, texts = ([value for table in tables for value in table[name].to_pylist()] for name in ("record_id", "text"))
    options = {"method": "none", "precision": "fp32", "deterministic": True}
    names = (
        "record_id",
        "decision",
        "reasons",
        "phrases",
        "failure",
        *(f"{t}_{c}" for t in ("site", "histology") for c in ("code", "name", "prob", "reasons")),
    )
    return plain_rows(dict(zip(ids, texts, strict=True)), options=options).select(names).to_pylist()


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
