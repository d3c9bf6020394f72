"""A whole evaluation of codes: the figures, and what is told beside them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.evaluation.codes import figures
from engine.evaluation.gold import GoldConfig, read_gold
from engine.evaluation.metrics import Rounds
from engine.records import codes_fields, table_schema
from tests.evaluation.test_joined import files, gold

__all__ = ["files"]


def test_a_whole_evaluation_tells_what_it_left_out(files, tmp_path):
    labels = gold(tmp_path)
    found = figures(files, labels, ["site"], known={"site": ["C50", "C20"]}, rounds=Rounds(10))
    # Two of three answered, and no figure from so few.
    for task, name, n in (("site", "accuracy", 2), ("site", "answered", 3), (None, "failed_share", 3)):
        assert (found.get(task, name).value, found.get(task, name).n, found.get(task, name).too_few) == (None, n, True)
    assert found.get("site", "unknown_label").value == 1.0
    assert found.wrong.select(["record_id", "gold", "code"]).to_pylist() == [{"record_id": "b", "gold": "C18", "code": "C20"}]
    assert [found.get(None, f"gold_{name}").value for name in ("rows", "used", "matched", "without_row")] == [5, 4, 3, 1]
    assert any("1 records of the gold table have no row in the run" in note for note in found.notes)
    assert any("C18" in note and "count as wrong" in note for note in found.notes)
    with pytest.raises(ConfigError, match="none of the 2 different labels"):
        figures(files, labels, ["site"], known={"site": ["X1"]}, rounds=Rounds(10))


def test_a_kept_column_of_many_values_is_no_slice(tmp_path):
    ids = [f"r{number}" for number in range(1001)]
    pq.write_table(pa.table({"id": ids, "site": ["C50"] * 1001}), tmp_path / "gold.parquet")
    known = {"source": "s", "position": 0, "run_id": "r", "model_digest": "m", "reasons": [], "decision": "review"}
    rows = [{**known, "record_id": name, "visit": name, "site_code": "C50", "site_prob": 0.5} for name in ids]
    schema = table_schema(codes_fields(["site"]), [pa.field("visit", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "codes.parquet")
    labels = read_gold(GoldConfig(str(tmp_path / "gold.parquet"), {"site": "site"}, id="id"))
    with pytest.raises(
        ConfigError, match=r"^slices: column 'visit' has 1,001 different values; name one with few different values"
    ):
        figures([str(tmp_path / "codes.parquet")], labels, ["site"], ["visit"], rounds=Rounds(10))
