import pyarrow as pa
import pyarrow.parquet as pq

from engine.models.answered import Answered
from tests.models.conftest import records


def test_answers_are_found_wherever_they_stand(tmp_path):
    rows = [
        {"record_id": f"r{at}", "source": "f", "position": at, "decision": "auto", "text_sha256": None, "code": f"C{at}"}
        for at in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    found = Answered([str(tmp_path / "a.parquet")], ["code"])
    asked = records(["a", "b"]).take([1])
    assert found.of(asked) == {"r1": {"record_id": "r1", "decision": "auto", "text_sha256": None, "code": "C1"}}
    moved = asked.set_column(3, "position", pa.array([10**9])).set_column(2, "source", pa.array(["elsewhere"]))
    assert found.of(moved) == found.of(asked)
    assert found.of(asked.slice(0, 0)) == {}
