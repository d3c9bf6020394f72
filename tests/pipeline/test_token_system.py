"""A system that has nearly all from its base runs like any other."""

import json

import pytest

from engine.models.run import rows as plain_rows
from tests.models.test_token_system import TEXTS, written
from tests.pipeline.conftest import rows, write_input
from tests.pipeline.test_run import drive, ended

APART = ("source", "position", "run_id")


@pytest.mark.timeout(600)
@pytest.mark.long
def test_the_job_of_a_third_system_writes_the_rows_of_the_plain_loop(tmp_path, cluster):
    model = written(tmp_path / "model")
    texts = {f"r{number:02d}": "colon " * (number % 3) + "of the lung " * (number % 2) + "." for number in range(24)} | TEXTS
    write_input(tmp_path / "in" / "a.jsonl", texts)
    order = {"system": "tests.toys.mean", "path": str(model), "options": {"deterministic": True}, "runtime": {"threads": 1}}
    code, out, err = ended(drive(tmp_path, cluster, **order))
    assert code == 0, err
    assert json.loads(out)["records"] == len(texts)
    expected = plain_rows(texts, model=str(model), options=order["options"], runtime=order["runtime"]).to_pylist()
    found, wanted = (
        {row["record_id"]: {name: value for name, value in row.items() if name not in APART} for row in table}
        for table in (rows(tmp_path / "out"), expected)
    )
    assert found == wanted
