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
    found = Answered([str(tmp_path / "a.parquet")], ["text_sha256", "code"])
    asked = records(["a", "b"]).take([1])
    assert found.of(asked) == {"r1": {"record_id": "r1", "decision": "auto", "text_sha256": None, "code": "C1"}}
    moved = asked.set_column(3, "position", pa.array([10**9])).set_column(2, "source", pa.array(["elsewhere"]))
    assert found.of(moved) == found.of(asked)
    assert found.of(asked.slice(0, 0)) == {}


def test_for_a_record_that_the_run_does_not_have_no_other_group_is_read(tmp_path, monkeypatch):
    rows = [
        {"record_id": f"r{at}", "source": "f", "position": at, "decision": "auto", "text_sha256": None, "code": f"C{at}"}
        for at in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    found, read = Answered([str(tmp_path / "a.parquet")], ["text_sha256", "code"]), []
    monkeypatch.setattr(Answered, "_read", lambda self, group, own=Answered._read: read.append(group.number) or own(self, group))
    asked = pa.table({"record_id": ["r1", "stranger"], "source": ["f", "f"], "position": [1, 1]})
    assert list(found.of(asked)) == ["r1"] and read == [0]
    asked = pa.table({"record_id": ["r1", "r39"], "source": ["f", "f"], "position": [1, 1]})
    assert list(found.of(asked)) == ["r1", "r39"] and read[-1] == 19
