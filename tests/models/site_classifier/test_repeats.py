"""Texts that stand in two splits."""

import polars as pl
import pyarrow as pa

from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.corpus import load_examples, survey
from engine.models.site_classifier.repeats import Repeats


def table(*rows):
    names = ("text", "pair", "split")
    return pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)})


def highlighted(folder, texts, sites, mark):
    """Four reports, two of train, one of test and one of valid; the first has a highlight."""
    columns = {"record_id": list("abcd"), "text": texts, "site": sites, "patient_id": list("abcd")}
    split = {"split": ["train", "train", "test", "valid"], "marks": [[mark], None, None, None]}
    pl.DataFrame(columns | split).write_parquet(folder / "r.parquet")
    return DataConfig(str(folder / "r.parquet"), labels={"site": "site"}, rationales="marks")


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
    kept = repeats.kept(table(*rows)).to_pylist()
    assert [(row["text"], row["split"]) for row in kept] == [
        ("Liver.", "train"),
        (" LUNG. ", "valid"),
        ("colon.", "test"),
        ("Skin.", "train"),
        ("Skin.", "train"),
    ]


def test_a_sample_that_is_a_report_of_a_later_split_is_refused(tmp_path):
    texts = ["Specimen. Prostate core.", "Lung.", "prostate  core.", "Skin."]
    found = survey(highlighted(tmp_path, texts, ["C61", "C34", "C61", "C44"], {"start": 10, "end": 24}))
    assert not len(found.samples) and [row["reason"] for row in found.rejected.to_pylist()] == ["other_split"]
    assert found.told() == ["highlights: no samples for train; not used: 1 other_split"]


def test_another_question_makes_another_text():
    rows = [("Trial.", "pain", "train"), ("Trial.", "death", "train"), ("Trial.", "Death", "test")]
    assert [row["pair"] for row in Repeats.of([table(*rows)]).kept(table(*rows)).to_pylist()] == ["pain", "Death"]


def test_a_training_leaves_them_out_and_says_so(tmp_path):
    texts = ["Colon.", "Lung.", "colon. ", "Skin."]
    config = highlighted(tmp_path, texts, ["C18", "C34", "C18", "C44"], {"start": 0, "end": 5})
    found = survey(config)
    assert found.told() == [
        "left out, since the same text stands in a later split: 1 of train",
        "highlights: no samples for train",
    ]
    assert found.labels == {"site": (("C34",), (1,))} and not len(found.samples)
    assert sorted(load_examples(config)["record_id"].to_pylist()) == ["b", "c", "d"]
    side = pl.DataFrame({"record_id": ["a"], "start": [0], "end": [5]})
    side.write_parquet(tmp_path / "side")
    # Its highlights are of a report that is there.
    beside = DataConfig(config.path, labels={"site": "site"}, rationale_table=str(tmp_path / "side"))
    assert not len(survey(beside).rejected)
