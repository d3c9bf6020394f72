"""Annotated Parquet whose columns have other types than they should."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.sources.labelled import Span
from tests.sources.labelled.tables import read

ROW = {"record_id": "r", "text": "secret ab", "split": "train", "corpus": "C", "lang": "en"}
SPAN = {"start": 0, "end": 6, "type": "A"}


def write(folder, columns, types=None):
    arrays = {name: pa.array([value], (types or {}).get(name)) for name, value in columns.items()}
    pq.write_table(pa.table(arrays), folder / "a.parquet")
    return str(folder / "a.parquet")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"text": 7}, "column text of a.parquet must be text, it is int64"),
        ({"text": b"secret ab"}, "column text of a.parquet must be text, it is binary"),
        ({"split": 1}, "column split of a.parquet must be text, it is int64"),
        ({"corpus": 3}, "column corpus of a.parquet must be text, it is int64"),
        ({"lang": 3}, "column lang of a.parquet must be text, it is int64"),
        ({"record_id": 1.5}, "column record_id of a.parquet must be text or whole numbers, it is double"),
        ({"record_id": b"r"}, "column record_id of a.parquet must be text or whole numbers, it is binary"),
        ({"spans": [{**SPAN, "type": 4}]}, "field type of column spans of a.parquet must be text, it is int64"),
        ({"spans": [{**SPAN, "label": 4}]}, "field label of column spans of a.parquet must be text, it is int64"),
        (
            {"spans": [{**SPAN, "start": "secret"}]},
            "field start of column spans of a.parquet must be whole numbers, it is string",
        ),
        ({"spans": [{**SPAN, "end": 6.7}]}, "field end of column spans of a.parquet must be whole numbers, it is double"),
        ({"spans": [{**SPAN, "group_id": 1.5}]}, "field group_id of column spans of a.parquet must be text or whole numbers"),
        ({"failure": "broken"}, "column failure of a.parquet must be a record with kind and detail, both text, it is string"),
        ({"failure": {"kind": "x", "detail": 3}}, "column failure of a.parquet must be a record with kind and detail"),
    ],
)
def test_a_column_of_another_type_is_named_with_what_it_should_be(tmp_path, changed, told):
    path = write(tmp_path, {**ROW, "spans": [SPAN], **changed})
    with pytest.raises(ConfigError, match=rf"^data\.path: {told}") as caught:
        read(path)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_table_of_tokens_is_held_to_the_same_types(tmp_path):
    tokens = {"record_id": "r", "tokens": ["ab"], "tags": ["B-A"]}
    for changed, told in (({"split": 1}, "column split"), ({"corpus": 1}, "column corpus"), ({"language": 1}, "column language")):
        with pytest.raises(ConfigError, match=f"{told} of a.parquet must be text"):
            read(write(tmp_path, {**tokens, **changed}))


def test_whole_numbers_can_be_ids(tmp_path):
    path = write(tmp_path, {**ROW, "record_id": 12, "spans": [{**SPAN, "group_id": 3}]})
    (found,) = read(path)
    assert (found.record_id, found.spans) == ("12", (Span(0, 6, "A", "3"),))


def test_categories_are_text_and_empty_columns_are_missing(tmp_path):
    category, offsets = pa.dictionary(pa.int32(), pa.string()), pa.struct([("start", pa.uint8()), ("end", pa.int16())])
    spans = pa.list_(pa.struct([*offsets, pa.field("label", pa.large_string()), pa.field("group_id", pa.null())]))
    types = {"text": pa.large_string(), "corpus": category, "split": pa.null(), "failure": pa.null(), "spans": spans}
    row = {**ROW, "split": None, "failure": None, "spans": [{"start": 0, "end": 6, "label": "A", "group_id": None}]}
    (found,) = read(write(tmp_path, row, types))
    assert (found.dataset, found.split, found.spans, found.broken) == ("C", None, (Span(0, 6, "A"),), None)


def test_nothing_in_place_of_a_span_flags_its_document(tmp_path):
    found = read_broken(tmp_path, {**ROW, "spans": [SPAN, None]})
    assert found.broken == "a span lacks its start, end or type" and found.spans == ()


def read_broken(folder, row):
    """A document beside one that is sound, since a path without any is refused."""
    rows = {name: [value, value] for name, value in row.items()} | {"record_id": ["r", "sound"], "spans": [row["spans"], [SPAN]]}
    pq.write_table(pa.table(rows), folder / "a.parquet")
    found, sound = read(folder / "a.parquet")
    assert sound.broken is None
    return found
