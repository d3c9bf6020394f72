"""Files that were lost whole, as a status tells of them."""

from engine.pipeline import status
from engine.pipeline.status import Lost
from tests.pipeline.conftest import Bench, config, texts, write_input


def run(tmp_path):
    one = Bench(config(tmp_path / "in", tmp_path / "out"))
    one.code()
    one.publish()
    return status(str(tmp_path / "out"))


def test_a_file_that_failed_whole_for_one_reason_is_named(tmp_path):
    blank = {f"m{i}": "" for i in range(40)}
    write_input(tmp_path / "in" / "fine.jsonl", texts(20))
    write_input(tmp_path / "in" / "march" / "a.jsonl", blank)
    write_input(tmp_path / "in" / "partly.jsonl", {**texts(3, 100), "p": ""})
    write_input(tmp_path / "in" / "single.jsonl", {"s": ""})
    write_input(tmp_path / "in" / "z-again.jsonl", texts(5))
    (tmp_path / "in" / "z-mixed.jsonl").write_text('{"id": "y", "text": ""}\n{\n')
    found = run(tmp_path)
    assert found.lost == (Lost("march/a.jsonl", "missing_text", 40), Lost("z-again.jsonl", "duplicate_id", 5))
    # A later generation tells of its own files too.
    write_input(tmp_path / "in" / "april.jsonl", {f"n{i}": " " for i in range(7)})
    assert run(tmp_path).lost == (found.lost[0], Lost("april.jsonl", "missing_text", 7), found.lost[1])


def test_where_nothing_is_published_or_nothing_failed_no_file_is_named(bench):
    one = bench({f"m{i}": "" for i in range(4)})
    one.code()
    assert status(one.layout.output).lost == ()
    one.publish()
    assert [lost.records for lost in status(one.layout.output).lost] == [4]
    # A driver that dies right after the manifest leaves files without their names.
    for file in one.storage.list(one.layout.table("codes")):
        one.storage.remove(file.path)
    assert status(one.layout.output).lost == ()
