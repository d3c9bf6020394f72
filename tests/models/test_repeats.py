"""Texts that stand in two splits."""

import pyarrow as pa

from engine.models.repeats import Repeats


def table(*rows):
    names = ("text", "pair", "split")
    return pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)})


def test_of_a_text_in_several_splits_the_last_one_stays():
    rows = [
        ("Colon.", None, "train"),
        ("Lung.", None, "train"),
        ("Liver.", None, "train"),
        (" LUNG. ", None, "valid"),
        ("Colon.", None, "valid"),
        ("colon.", None, "test"),
        ("Skin.", None, "train"),
        ("Skin.", None, "train"),
    ]
    # Seen some at a time.
    repeats = Repeats.of([table(*rows[:4]), table(*rows[4:])])
    kept = repeats.without_repeats(table(*rows)).to_pylist()
    assert [(row["text"], row["split"]) for row in kept] == [
        ("Liver.", "train"),
        (" LUNG. ", "valid"),
        ("colon.", "test"),
        ("Skin.", "train"),
        ("Skin.", "train"),
    ]


def test_another_question_makes_another_text():
    rows = [("Trial.", "pain", "train"), ("Trial.", "death", "train"), ("Trial.", "Death", "test")]
    assert [row["pair"] for row in Repeats.of([table(*rows)]).without_repeats(table(*rows)).to_pylist()] == ["pain", "Death"]
