"""Turns, medians, targets and the table, without any model."""

import io

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from engine.benchmarks.measure import AT_LEAST, AT_MOST, SCHEMA, Measurement, interleave, show, to_table, write
from engine.errors import ContractError


def _row(figure, rival_figure, kind=None, target=None):
    return Measurement("core", "speed", "reports/s", figure, "rival", rival_figure, 3, "tiny", kind, target)


def test_contenders_take_turns_and_medians_are_kept():
    ran, now = [], [0.0]
    costs = {"a": iter([100.0, 1.0, 5.0, 2.0]), "b": iter([100.0, 10.0, 30.0, 20.0])}

    def contender(name):
        def run():
            ran.append(name)
            now[0] += next(costs[name])

        return run

    medians = interleave({name: contender(name) for name in "ab"}, 3, clock=lambda: now[0])
    assert "".join(ran) == "ab" + "abbaab"
    assert medians == {"a": 2.0, "b": 20.0}
    with pytest.raises(ContractError):
        interleave({}, 0)


@pytest.mark.parametrize(
    "kind, target, met",
    [(AT_LEAST, 3.0, True), (AT_LEAST, 3.1, False), (AT_MOST, 3.0, True), (AT_MOST, 2.9, False), (None, None, None)],
)
def test_targets(kind, target, met):
    row = _row(30.0, 10.0, kind, target)
    assert row.ratio == 3.0 and row.met is met


def test_the_table_is_written_and_shown(tmp_path):
    table = to_table("code_reports", [_row(30.0, 10.0, AT_LEAST, 3.0), _row(5.0, 10.0, AT_LEAST, 3.0), _row(1.0, 2.0)])
    assert table.schema.equals(SCHEMA)
    path = tmp_path / "out" / "bench.parquet"
    write(str(path), table)
    assert pq.read_table(path).equals(table)
    out = io.StringIO()
    show(table, Console(file=out, width=200))
    assert "missed" in out.getvalue() and "met" in out.getvalue() and "at least 3" in out.getvalue()
