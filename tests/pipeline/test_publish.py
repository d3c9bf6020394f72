from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, ContractError
from engine.pipeline import publish as module
from engine.pipeline import published, status
from engine.storage import LocalStorage
from tests.pipeline.conftest import Bench, Faulty, assert_once, config, rows, texts, write_input


def left(output: Path) -> list[str]:
    folders = ("_shards", "_receipts", "_attempts", "_publish")
    return [path.name for folder in folders for path in Path(output, folder).rglob("*") if path.is_file()]


def test_rows_lie_in_plan_order_in_the_files_that_the_manifest_names(bench, tmp_path):
    one = bench()
    one.code()
    (manifest,) = one.publish()
    assert [row["record_id"] for row in rows(tmp_path / "out")] == list(texts(30))
    assert [file["name"] for file in manifest["files"]] == ["0001-0000.parquet"]
    assert manifest["rows"] == 30
    assert sum(manifest["decisions"].values()) == 30
    assert left(tmp_path / "out") == []


def test_publishing_again_does_nothing(bench, tmp_path):
    one = bench()
    one.code()
    first = one.publish()
    before = (tmp_path / "out" / "codes" / "0001-0000.parquet").stat().st_mtime_ns
    assert one.publish() == first
    assert (tmp_path / "out" / "codes" / "0001-0000.parquet").stat().st_mtime_ns == before


def test_a_death_at_any_step_leaves_a_publication_that_the_next_driver_finishes(bench, tmp_path):
    step, dead = 0, True
    while dead:
        step += 1
        write_input(tmp_path / f"in{step}" / "a.jsonl", texts(6))
        one = Bench(config(tmp_path / f"in{step}", tmp_path / f"out{step}", shard_bytes=100))
        one.code()
        good, one.storage = one.storage, Faulty(step, KeyboardInterrupt())
        try:
            one.publish()
            dead = False
        except KeyboardInterrupt:
            codes = set(Path(one.config.output, "codes").glob("*"))
            named = {f["name"] for m in published.manifests(good, one.layout) for f in m["files"]}
            assert {path.name for path in codes} <= named
            status(one.config.output)
        one.storage = good
        one.publish()
        assert_once(one.config.output, list(texts(6)))
        assert left(one.config.output) == []
        assert status(one.config.output).finished
    assert step > 10


def test_new_input_makes_a_new_generation_and_leaves_the_old_files_alone(bench, tmp_path):
    one = bench()
    one.code()
    one.publish()
    before = (tmp_path / "out" / "codes" / "0001-0000.parquet").read_bytes()
    write_input(tmp_path / "in" / "b.jsonl", texts(10, 30))
    two = Bench(one.config)
    two.code()
    assert [m["rows"] for m in two.publish()] == [30, 10]
    assert_once(tmp_path / "out", list(texts(40)))
    assert (tmp_path / "out" / "codes" / "0001-0000.parquet").read_bytes() == before


def test_duplicates_within_a_shard_across_shards_and_across_generations(tmp_path):
    lines = [("a", "one"), ("b", "two"), ("a", "three"), ("c", "four " * 40), ("b", "five"), ("a", "six")]
    path = tmp_path / "in" / "x.jsonl"
    path.parent.mkdir()
    path.write_text("".join(f'{{"id": "{name}", "text": "{text}"}}\n' for name, text in lines))
    one = Bench(config(tmp_path / "in", tmp_path / "out", shard_bytes=100))
    assert len(one.plan.shards) > 1
    one.code()
    one.publish()
    write_input(tmp_path / "in" / "y.jsonl", {"c": "seven", "d": "eight"})
    two = Bench(one.config)
    two.code()
    manifests = two.publish()
    found = {row["record_id"]: row for row in rows(tmp_path / "out")}
    assert set(found) == {"a", "b", "c", "d", "x.jsonl#2", "x.jsonl#4", "x.jsonl#5", "y.jsonl#0"}
    failed = {name: row for name, row in found.items() if row["decision"] == "failed"}
    assert {name: row["source_id"] for name, row in failed.items()} == {
        "x.jsonl#2": "a",
        "x.jsonl#4": "b",
        "x.jsonl#5": "a",
        "y.jsonl#0": "c",
    }
    for row in failed.values():
        assert row["failure"]["kind"] == "duplicate_id"
        assert row["reasons"] == []
        assert row["site_code"] is None and row["site_evidence"] is None and row["text_sha256"] is None
    assert found["a"]["position"] == 0 and found["c"]["position"] == 3
    assert [m["failures"] for m in manifests] == [{"duplicate_id": 3}, {"duplicate_id": 1}]


def test_a_made_up_id_gives_way_to_one_that_the_input_holds(tmp_path):
    path = tmp_path / "in" / "x.jsonl"
    path.parent.mkdir()
    path.write_text("".join(f'{{"id": "{name}", "text": "t"}}\n' for name in ("a", "a", "x.jsonl#1")))
    one = Bench(config(tmp_path / "in", tmp_path / "out"))
    one.code()
    one.publish()
    assert {row["record_id"] for row in rows(tmp_path / "out")} == {"a", "x.jsonl#1", "x.jsonl#1#"}


def test_a_driver_that_loses_the_manifest_takes_the_winners(bench, tmp_path, monkeypatch):
    one = bench()
    one.code()
    build = module._build

    def overtaken(*arguments):
        monkeypatch.setattr(module, "_build", build)
        manifest = build(*arguments)
        Bench(one.config).publish()
        return manifest

    monkeypatch.setattr(module, "_build", overtaken)
    assert len(one.publish()) == 1
    assert_once(tmp_path / "out", list(texts(30)))
    assert left(tmp_path / "out") == []


def test_a_straggler_that_commits_a_published_shard_again_changes_nothing(bench, tmp_path):
    one = bench()
    one.code()
    one.publish()
    one.commit(one.plan.shards[0], 7)
    assert len(one.publish()) == 1
    assert_once(tmp_path / "out", list(texts(30)))
    assert left(tmp_path / "out") == []


def test_rows_that_do_not_match_their_receipt_are_never_published(bench, tmp_path):
    one = bench()
    one.code()
    first, second = (one.layout.shard(one.plan.shards[i].name, 1) for i in (0, 1))
    table = pq.read_table(first)
    size = Path(second).stat().st_size
    pq.write_table(table.slice(0, 1), second, compression="none")
    receipt = Path(one.layout.receipt(one.plan.shards[1].name))
    receipt.write_text(receipt.read_text().replace(f'"size": {size}', f'"size": {Path(second).stat().st_size}'))
    with pytest.raises(ContractError, match="its receipt says"):
        one.publish()
    assert not Path(one.layout.manifest(1)).exists()


def test_a_published_file_that_someone_removed_is_missed(bench, tmp_path):
    one = bench()
    one.code()
    one.publish()
    (tmp_path / "out" / "codes" / "0001-0000.parquet").unlink()
    with pytest.raises(ConfigError, match=r"0001-0000\.parquet is missing"):
        one.publish()


def test_files_and_row_groups_are_cut_by_size(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 5)
    monkeypatch.setattr(module, "FILE_ROWS", 12)
    one = bench(shard_bytes=150)
    one.code()
    (manifest,) = one.publish()
    assert len(manifest["files"]) > 1
    assert sum(file["rows"] for file in manifest["files"]) == 30
    assert [row["record_id"] for row in rows(tmp_path / "out")] == list(texts(30))


def test_an_input_without_records_still_has_a_table(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("")
    one = Bench(config(tmp_path / "in", tmp_path / "out"))
    one.code()
    one.publish()
    assert pq.read_table(tmp_path / "out" / "codes").num_rows == 0
    assert status(str(tmp_path / "out")).finished


class Forgetful(LocalStorage):
    """Creates a manifest, and then takes it for another's, as an object store does whose first answer got lost."""

    def create(self, path: str, data: bytes) -> bool:
        return super().create(path, data) and "_manifests" not in path


def test_a_manifest_taken_for_anothers_keeps_its_files(tmp_path):
    folder = write_input(tmp_path / "in" / "a.jsonl", texts(30)).parent
    bench = Bench(config(folder, tmp_path / "out"), Forgetful())
    bench.code()
    assert len(bench.publish()) == 1
    assert_once(tmp_path / "out", list(texts(30)))
