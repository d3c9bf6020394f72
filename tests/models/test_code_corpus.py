"""A labelled table as a corpus: what is read, what is left out, what is refused."""

import polars as pl
import pytest

from engine.errors import ConfigError
from engine.models.code_corpus import load_texts

ROWS = [
    ("a", "colon", "C18", "p1", "train"),
    ("b", "lung", "C34", "p2", "train"),
    ("c", "breast", "C50", "p3", "valid"),
    ("d", "lung again", "C34", "p4", "test"),
    ("e", "", "C34", "p5", "train"),
    ("f", "nothing said", None, "p6", "train"),
    ("g", "lung again", "C34", "p7", "train"),
]


def loaded(folder, rows=ROWS, **data):
    path = folder / "texts.parquet"
    pl.DataFrame(rows, dict.fromkeys(["id", "text", "code", "patient", "part"], pl.String), orient="row").write_parquet(path)
    given = {"path": str(path), "id": "id", "labels": {"site": "code"}, "split": "part", "group": "patient", **data}
    return load_texts({"data": given, "model": {"encoder": "tiny:bert", "window": 62}, "seed": 1})


def test_texts_with_a_label_by_split_and_labels_of_train(tmp_path):
    corpus = loaded(tmp_path)
    # Without text or label nothing is learned, nor from what stands in test too.
    assert {split: corpus.part(split)["record_id"].to_pylist() for split in ("train", "valid", "test")} == {
        "train": ["a", "b"],
        "valid": ["c"],
        "test": ["d"],
    }
    assert corpus.lines()[0] == "train: 2, valid: 1, test: 1" and len(corpus.lines()) == 3
    assert corpus.config.labels == {"site": ("C18", "C34")}
    assert corpus.numbers("train", "site").tolist() == [0, 1] and corpus.numbers("valid", "site").tolist() == [-1]


def test_examples_hold_numbers_and_no_text(tmp_path):
    (table,) = loaded(tmp_path).preparation().further
    assert table.column_names == ["record_id", "split", "sample", "input_ids", "site"]
    assert table["site"].to_pylist() == [0, 1, -1] and all(table["input_ids"].to_pylist())


def test_other_texts_are_another_input(tmp_path):
    assert loaded(tmp_path).given == loaded(tmp_path).given != loaded(tmp_path, [("a", "caecum", *ROWS[0][2:]), *ROWS[1:]]).given


@pytest.mark.parametrize(
    ("rows", "data", "told"),
    [
        ([], {}, r"data\.path: .* has no rows"),
        (ROWS, {"labels": {}}, r"data\.labels: name the column"),
        (ROWS, {"labels": {"site": "cod"}}, r"data\.labels"),
        ([*ROWS, ("a", "more", "C18", "p9", "train")], {}, r"data\.id: 2 rows share their id"),
        ([*ROWS, ("h", "more", "C18", "p4", "train")], {}, r"data\.group: 1 groups stand in more than one split"),
        ([*ROWS, ("h", "more", "C18", "p9", "dev")], {}, r"data\.split: values must be train, valid, test; found 1 others"),
        (ROWS[:3], {}, r"data\.split: there is no text for test"),
        ([ROWS[0], *ROWS[2:4]], {}, r"data\.labels\.site: the texts of train have 1 codes"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path, rows, data, told):
    with pytest.raises(ConfigError, match=told):
        loaded(tmp_path, rows, **data)
