from collections import Counter

import pyarrow as pa
import pytest

from engine.sources.synthetic import generate
from engine.sources.synthetic.damage import KINDS, OVERSIZED, OVERSIZED_AT, OVERSIZED_EVERY, damage, kind_of


def test_of_every_stretch_exactly_one_is_damaged_and_kinds_take_turns():
    kinds = [kind_of(3, number, 0.1, ("a", "b", "c")) for number in range(OVERSIZED_AT - 7)]  # 90, before the oversized one
    assert [sum(kind is not None for kind in kinds[at : at + 10]) for at in range(0, 90, 10)] == [1] * 9
    assert [kind for kind in kinds if kind] == ["a", "b", "c"] * 3


def test_without_a_share_nothing_is_damaged():
    assert {kind_of(3, number, 0.0, KINDS) for number in range(200)} == {None}


def test_oversized_texts_are_one_in_a_hundred_thousand():
    found = [n for at in (0, OVERSIZED_EVERY) for n in range(at, at + 300) if kind_of(3, n, 0.01, KINDS) == OVERSIZED]
    assert found == [OVERSIZED_AT, OVERSIZED_EVERY + OVERSIZED_AT]


def test_a_table_holds_every_kind_and_leaves_the_others_alone():
    clean, table = generate(1000, 7), generate(1000, 7, broken=0.02)
    raw = table["text"].combine_chunks().cast(pa.binary()).to_pylist()
    rows = table.drop_columns("text").to_pylist()
    found = {kind: [n for n, row in enumerate(rows) if row["broken"] == kind] for kind in (*KINDS, OVERSIZED)}
    assert sum(len(numbers) for numbers in found.values()) in (20, 21)  # 1000 / 50, and the oversized one may be one of them
    assert all(found.values())
    text = {kind: raw[numbers[0]] for kind, numbers in found.items()}
    assert text["empty_text"] == b"" and text["null_text"] is None and text["blank_text"].decode().isspace()
    assert text["digits"].isdigit() and len(text["digits"]) == 10_000
    assert b"\x01" in text["control_characters"]
    assert len(text[OVERSIZED]) > 4 * 1024**2
    for kind in ("invalid_encoding", "lone_surrogate"):
        with pytest.raises(UnicodeDecodeError):
            text[kind].decode()
    assert all(rows[n]["record_id"] is None for n in found["null_id"])
    assert all(rows[n]["record_id"] == f"syn-7-{n - 1:08d}" for n in found["duplicate_id"])
    whole = [n for n, row in enumerate(rows) if row["broken"] is None]
    assert [raw[n] for n in whole] == [clean["text"][n].as_py().encode() for n in whole]


def test_evidence_stands_where_the_text_still_holds_it():
    for row in generate(1000, 7, broken=0.02).drop_columns("text").to_pylist():
        gone = row["broken"] in ("empty_text", "blank_text", "null_text", "digits", "invalid_encoding", "lone_surrogate")
        assert bool(row["evidence_site"]) != gone


def test_the_first_record_cannot_repeat_an_id():
    kinds = Counter(kind_of(seed, 0, 0.5, ("duplicate_id",)) for seed in range(30))
    assert set(kinds) == {None, "empty_text"}


def test_what_is_not_to_be_damaged_is_given_back():
    done = damage(1, 5, 0.0, KINDS, "text")
    assert (done.kind, done.text, done.spans_hold) == (None, "text", True)
