"""Gold of entities by record id, and which types are marked in which dataset."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.records import text_digest
from engine.sources.labelled import Labelled, read_spans


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def mentions(gold):
    """(start, end, type) of each span, by record id."""
    return {
        row["record_id"]: [(span["start"], span["end"], span["type"]) for span in row["spans"]]
        for row in gold.records.to_pylist()
    }


@pytest.fixture
def corpora(tmp_path):
    """Two BRAT texts and a broken one; a Parquet table of another dataset, which marks B alone."""
    put(tmp_path / "brat" / "train" / "r1.txt", "Aspirin é pain")
    put(tmp_path / "brat" / "train" / "r1.ann", "T1\tA 0 7\tAspirin\nT2\tB 10 14\tpain\n")
    put(tmp_path / "brat" / "test" / "r2.txt", "No drug")
    put(tmp_path / "brat" / "test" / "r2.ann", "")
    put(tmp_path / "brat" / "test" / "r3.txt", "ab")
    put(tmp_path / "brat" / "test" / "r3.ann", "T1\tA 0 9\tab\n")
    rows = {"record_id": ["t1"], "text": ["pain ab"], "spans": [[{"start": 0, "end": 4, "type": "B"}]], "split": ["test"]}
    pq.write_table(pa.table(rows), tmp_path / "other.parquet")
    return tmp_path


def test_spans_by_record_id_with_the_digest_of_the_text(corpora):
    gold = read_spans(Labelled(str(corpora)))
    assert mentions(gold) == {"r1": [(0, 7, "A"), (10, 14, "B")], "r2": [], "t1": [(0, 4, "B")]}
    rows = {row["record_id"]: row for row in gold.records.to_pylist()}
    assert rows["r1"]["text_sha256"] == text_digest("Aspirin é pain") and rows["r1"]["text"] == "Aspirin é pain"
    assert gold.broken.texts == 4 and gold.broken.lines() == [
        "1 of 4 texts cannot be used: brat: the offsets of line 1 are outside the text (1, the first is 'r3')"
    ]


def test_what_is_marked_in_a_dataset_is_said_by_all_of_its_texts(corpora):
    gold = read_spans(Labelled(str(corpora)), split="test")
    assert gold.types == ("A", "B") and gold.marked == {"brat": {"A", "B"}, "other": {"B"}}
    assert {one["record_id"]: gold.marked[one["dataset"]] for one in gold.records.to_pylist()} == {"r2": {"A", "B"}, "t1": {"B"}}


def test_iob2_and_genia_are_gold_too(tmp_path):
    put(tmp_path / "made" / "train.tsv", "ab\tB-A\ncd\tO\n")
    marked = '<sentence><cons sem="G#DNA_molecule">ab</cons> <cons sem="(AND G#DNA_x G#RNA_y)">c and d</cons></sentence>'
    put(tmp_path / "genia.xml", f"<set><article><title>{marked}</title></article></set>")
    gold = read_spans(Labelled(str(tmp_path)))
    assert mentions(gold) == {"genia:0": [(0, 2, "DNA")], "made/train:0": [(0, 2, "A")]}
    assert gold.coordinated == 1 and gold.marked == {"genia": {"DNA"}, "made": {"A"}}


def test_a_path_without_any_usable_text_is_refused(tmp_path):
    put(tmp_path / "r.txt", "ab")
    with pytest.raises(ConfigError, match="none that can be used"):
        read_spans(Labelled(str(tmp_path)))
