"""Gold tables as people have them: formats, ids, repeated and broken rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.evaluation.gold import GoldConfig, read_gold
from engine.records import text_digest

COLUMNS = {
    "id": ["a", "b", "c", "d"],
    "site": ["C50", " C34 ", None, ""],
    "histology": ["8500/3", None, "8140/3", None],
    "patient": [1, 1, 2, 3],
    "split": ["test", "test", "train", "test"],
    "words": ["Left breast", "Lung", "Colon", "x"],
}
LABELS = {"site": "site", "histology": "histology"}


def parquet(folder, columns=None, name="gold.parquet"):
    pq.write_table(pa.table(columns or COLUMNS), folder / name)
    return str(folder / name)


def csv(folder, text, name="gold.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def rows(gold):
    return {row["record_id"]: row for row in gold.table.to_pylist()}


def test_parquet_and_csv_say_the_same(tmp_path):
    first = read_gold(GoldConfig(parquet(tmp_path), LABELS, id="id", group="patient", slices=("split",)))
    text = "id,site,histology,patient,split\na,C50,8500/3,1,test\nb, C34 ,,1,test\nc,,8140/3,2,train\nd,,,3,test\n"
    second = read_gold(GoldConfig(csv(tmp_path, text), LABELS, id="id", group="patient", slices=("split",)))
    assert first.table.to_pylist() == second.table.to_pylist()
    assert first.counts == second.counts == {
        "rows": 4,
        "elsewhere": 0,
        "unreadable": 0,
        "unlabelled": 1,
        "repeated": 0,
        "conflicting": 0,
        "used": 3,
    }  # fmt: skip
    found = rows(first)
    assert (found["b"]["site"], found["b"]["histology"], found["b"]["group"], found["b"]["slice_split"]) == (
        "C34",
        None,
        "1",
        "test",
    )


def test_a_refused_csv_names_the_key_that_reads_it(tmp_path):
    path = csv(tmp_path, "id,site,note\n" + 'a,C50,"the \\"left\\" one"\n' * 3)
    with pytest.raises(ConfigError, match=r"gold\.csv, line 2: .*set 'escape=\\'"):
        read_gold(GoldConfig(path, {"site": "site"}, id="id"))
    assert read_gold(GoldConfig(path, {"site": "site"}, id="id", escape="\\")).counts["repeated"] == 2


def test_where_takes_the_rows_with_a_value(tmp_path):
    gold = read_gold(GoldConfig(parquet(tmp_path), LABELS, id="id", where={"split": "test"}))
    assert set(rows(gold)) == {"a", "b"} and gold.counts["elsewhere"] == 1
    with pytest.raises(ConfigError, match=r"where: none of 4 rows matches: split has test, train"):
        read_gold(GoldConfig(parquet(tmp_path), LABELS, id="id", where={"split": "tset"}))


def test_ids_may_carry_the_file_or_another_column_in_front(tmp_path):
    for name in ("one.parquet", "two.parquet"):
        parquet(tmp_path, {"id": [1, 2], "hospital": ["x", "y"], "site": ["C50", name]}, name)
    by_file = read_gold(GoldConfig(str(tmp_path), {"site": "site"}, id="id", id_scope="file"))
    assert sorted(rows(by_file)) == ["one.parquet:1", "one.parquet:2", "two.parquet:1", "two.parquet:2"]
    by_column = read_gold(GoldConfig(str(tmp_path / "one.parquet"), {"site": "site"}, id="id", source="hospital"))
    assert sorted(rows(by_column)) == ["x:1", "y:2"]


def test_repeated_ids_count_once_and_contradicting_ones_not_at_all(tmp_path):
    gold = read_gold(GoldConfig(csv(tmp_path, "id,site\na,C50\na,C50\nb,C34\nb,C18\nb,C34\nc,C61\n"), {"site": "site"}, id="id"))
    assert set(rows(gold)) == {"a", "c"}
    assert (gold.counts["repeated"], gold.counts["conflicting"], gold.counts["used"]) == (1, 3, 2)
    with pytest.raises(ConfigError, match="id_scope=file"):
        read_gold(GoldConfig(csv(tmp_path, "id,site\n1,C50\n1,C34\n"), {"site": "site"}, id="id"))


def test_broken_rows_and_rows_without_id_are_counted(tmp_path):
    gold = read_gold(GoldConfig(csv(tmp_path, "id,site\na,C50\n,C34\nb,C18,more\n"), {"site": "site"}, id="id"))
    assert set(rows(gold)) == {"a"} and gold.counts["unreadable"] == 2


def test_lists_of_codes_are_sorted_and_joined_and_an_empty_list_is_an_answer(tmp_path):
    path = parquet(tmp_path, {"id": ["a", "b", "c"], "codes": [["y", "x"], [], None]})
    gold = read_gold(GoldConfig(path, {"codes": "codes"}, id="id"))
    assert {name: row["codes"] for name, row in rows(gold).items()} == {"a": "x;y", "b": ""}
    assert gold.multi == {"codes"}
    joined = read_gold(GoldConfig(csv(tmp_path, "id,codes\na,y; x\nb,x\n"), {"codes": "codes"}, id="id"))
    assert rows(joined)["a"]["codes"] == "x;y" and joined.multi == {"codes"}


def test_spans_come_as_lists_or_as_json(tmp_path):
    spans = [{"start": 5, "end": 11}]
    path = parquet(tmp_path, {"id": ["a"], "site": ["C50"], "words": ["Left breast"], "marked": [spans]})
    config = {"labels": {"site": "site"}, "id": "id", "text": "words", "spans": {"site": "marked"}}
    row = rows(read_gold(GoldConfig(path, **config)))["a"]
    spans = [{**spans[0], "type": None, "group_id": None}]
    assert (row["site_spans"], row["text"], row["text_sha256"]) == (spans, "Left breast", text_digest("Left breast"))
    text = 'id,site,words,marked\na,C50,Left breast,"[[5, 11]]"\nb,C50,Left breast,nonsense\n'
    found = rows(read_gold(GoldConfig(csv(tmp_path, text), **config)))
    assert found["a"]["site_spans"] == spans and found["b"]["site_spans"] is None


def test_texts_are_not_kept_where_nobody_needs_them(tmp_path):
    row = rows(read_gold(GoldConfig(parquet(tmp_path), LABELS, id="id", text="words")))["a"]
    assert row["text"] is None and row["text_sha256"] == text_digest("Left breast")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"labels": {"site": "place"}}, "labels: gold.parquet has no column 'place'; it has: id"),
        ({"id": "nobody"}, "id: gold.parquet has no column 'nobody'"),
        ({"labels": {}}, "labels: name the column"),
        ({"spans": {"site": "words"}}, "spans: needs the marked texts"),
        ({"slices": ("long",)}, "values of up to 500 characters"),
        ({"labels": {"site": "number"}}, "codes are text"),
        ({"labels": {"site": "long"}}, "labels: column 'long' has values of up to 500 characters; name one with codes"),
        ({"path": "nowhere.parquet"}, "gold: "),
    ],
)
def test_mistakes_are_told_in_one_line_under_the_users_names(tmp_path, settings, told):
    path = parquet(tmp_path, {**COLUMNS, "long": ["x" * 500] * 4, "number": [1.5] * 4})
    with pytest.raises(ConfigError) as error:
        read_gold(GoldConfig(**{"path": path, "labels": LABELS, "id": "id", "names": {"path": "gold"}, **settings}))
    assert told in str(error.value) and "\n" not in str(error.value) and "input." not in str(error.value)


def test_a_table_without_labels_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none of 2 rows can be used \(1 broken or without id, 1 without a label\)"):
        read_gold(GoldConfig(csv(tmp_path, "id,site\na,\n,C50\n"), {"site": "site"}, id="id"))
