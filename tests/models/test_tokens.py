"""Texts to prepared tables, and records of texts."""

import numpy as np
import pyarrow as pa

from engine.encoders import encoder_folder, load_tokenizer
from engine.models import tokens
from engine.models.columns import list_values, matrix, matrix_column
from engine.models.run import PAIR, records_of
from engine.records import records_schema, text_digest

TEXTS = ["Colon  carcinoma.", "", "lung 😀 lobe"]


def test_what_every_prepared_text_has():
    table = tokens.prepare(records_of("abc", TEXTS), load_tokenizer(encoder_folder("tiny:bert")), 2)
    assert table.schema.equals(tokens.PREPARED) and table["record_id"].to_pylist() == ["a", "b", "c"]
    assert [failure and failure["kind"] for failure in table["failure"].to_pylist()] == [None, "missing_text", None]
    assert table["text_sha256"].to_pylist() == [text_digest(text) for text in TEXTS]
    for text, row in zip(TEXTS, table.to_pylist(), strict=True):
        assert len(row["input_ids"]) == len(row["word_of_token"]) <= 2
        words = [text[start:end] for start, end in zip(row["word_start"], row["word_end"], strict=True)]
        assert all(word == word.strip() and word for word in words) and len(row["word_spoken"]) == len(words)
    assert table["truncated_chars"].to_pylist()[1:] == [0, 5]


def test_further_columns_come_in_the_order_of_the_schema():
    table = tokens.prepare(records_of("a", TEXTS[:1]), load_tokenizer(encoder_folder("tiny:bert")), 2)
    schema = pa.schema([*tokens.PREPARED, pa.field("more", pa.int32())])
    failed = tokens.with_columns(table, {"more": pa.array([7], pa.int32()), "failure": tokens.missing_text(["why"])}, schema)
    assert failed.schema.equals(schema)
    assert (failed["more"][0].as_py(), failed["failure"][0].as_py()) == (7, {"kind": "missing_text", "detail": "why"})


def test_records_of_texts_are_those_of_a_source():
    plain = records_of(["a", "b"], ["colon", "b \ud800"])
    assert plain.schema.equals(records_schema()) and plain["row"].to_pylist() == [0, 1]
    assert [failure and failure["kind"] for failure in plain["failure"].to_pylist()] == [None, "invalid_encoding"]
    paired = records_of(["a", "b"], ["colon", "lung"], ["which organ?", None])
    assert paired.schema.equals(records_schema([PAIR]))
    assert paired["keep"].to_pylist() == [{"pair": "which organ?"}, {"pair": None}]
    assert records_of([], [], []).num_rows == 0


def test_numbers_go_into_a_column_and_back():
    values = np.array([[1.5, -2.0], [0.1, 3.0], [7.0, 8.0]], np.float32)
    column = pa.chunked_array([matrix_column(values)])
    assert column.type == pa.list_(pa.float32()) and np.array_equal(matrix(column), values)
    assert np.array_equal(matrix(column.slice(1, 1)), values[1:2])
    assert matrix(pa.chunked_array([matrix_column(np.zeros((0, 2), np.float32))])).shape == (0, 0)
    assert len(list_values(column)) == 3
