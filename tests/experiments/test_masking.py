"""The pair with and without masking: who is chosen, the figures worked by hand, and the whole experiment on a tiny model."""

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.errors import ConfigError, ContractError
from engine.experiments.masking import ROWS, Masking, MaskingConfig, between, by_draw, chosen, measured, numbered, taken
from engine.experiments.run import run
from engine.sources.synthetic import generate

TINY = {"encoder": "tiny:bert", "rank": 2, "window": 30, "epochs": 1.0, "threads": 1, "evidence_sample": 2}


def rows(*values, method="pooling"):
    """Comprehensiveness of some reports, all of one patient each; random words make it fall by 0.1 and sufficiency is 0.3."""
    made = [
        {
            "record_id": f"r{number}",
            "patient_id": f"p{number}",
            "method": method,
            "comp": value,
            "random_comp": 0.1,
            "suff": 0.3,
            "random_suff": 0.5,
            "comprehensiveness_gain": value - 0.1,
            "sufficiency_gain": -0.2,
        }
        for number, value in enumerate(values)
    ]
    return pa.Table.from_pylist(made, schema=ROWS)


def test_gains_are_means_over_reports():
    found = {each.metric: each for each in measured(rows(0.2, 0.6))}
    assert found["pooling_comprehensiveness_gain"].value == pytest.approx(0.3)
    # Of two patients a resample holds one twice or both: its mean is 0.1, 0.3 or 0.5.
    assert found["pooling_comprehensiveness_gain"].low == pytest.approx(0.1)
    assert found["pooling_comprehensiveness_gain"].high == pytest.approx(0.5)
    assert found["pooling_sufficiency_gain"].value == pytest.approx(-0.2)
    assert found["pooling_random_comp"].value == pytest.approx(0.1)
    assert found["pooling_comp"].n == 2


def test_the_difference_is_taken_report_by_report():
    found = {each.metric: each for each in between(rows(0.5, 0.7), rows(0.4, 0.3).take([1, 0]))}
    gain = found["pooling_comprehensiveness_gain"]
    assert gain.value == pytest.approx((0.1 + 0.4) / 2)
    assert (gain.low, gain.high) == (pytest.approx(0.1), pytest.approx(0.4))
    assert found["pooling_sufficiency_gain"].value == pytest.approx(0.0)


def test_models_measured_on_different_reports_are_not_compared():
    with pytest.raises(ContractError, match="different reports"):
        between(rows(0.5, 0.7), rows(0.4))


def test_a_report_that_was_read_twice_stands_twice_under_names_of_its_own():
    assert numbered(["a", "b", "a", "a"], ["y", "x", "x", "z"]) == ["a#2", "b", "a", "a#3"]
    assert numbered(["a", "a"], ["y", "x"]) == ["a#2", "a"]


def test_both_texts_of_a_report_are_chosen(tmp_path):
    table = pl.read_parquet(corpus(tmp_path))
    again = table.filter(pl.col("split") == "test").with_columns(text=pl.col("text") + " Read again.")
    pl.concat([table, again]).write_parquet(tmp_path / "reports.parquet")
    names = chosen(tiny(str(tmp_path / "reports.parquet"), test_records=48)).filter(pc.field("split") == "test")["record_id"]
    assert len(set(names.to_pylist())) == len(names) == 48


def test_a_quarter_of_the_patients_is_about_a_quarter_and_grows_with_the_part():
    patients = [f"p{number}" for number in range(2000)]
    quarter = {patient for patient in patients if taken(patient, 0.25, 7)}
    assert 430 < len(quarter) < 570
    assert quarter < {patient for patient in patients if taken(patient, 0.5, 7)}
    assert all(taken(patient, 1.0, 7) for patient in patients)


def test_the_draw_goes_by_id_and_not_by_place():
    table = pa.table({"record_id": [f"r{number}" for number in range(30)]})
    some = by_draw(table, 5, 7)["record_id"].to_pylist()
    assert len(some) == 5
    assert set(some) == set(by_draw(table.take(list(range(29, -1, -1))), 5, 7)["record_id"].to_pylist())
    assert set(some) < set(by_draw(table, 6, 7)["record_id"].to_pylist())


def corpus(folder):
    table = pl.from_arrow(generate(120, 3, median_words=20, skew="uniform"))
    split = pl.int_range(pl.len()).map_elements(lambda i: ("train", "train", "train", "valid", "test")[i % 5], pl.String)
    file = folder / "reports.parquet"
    table.with_columns(split=split, patient_id=pl.col("record_id"), code=pl.col("histology")).write_parquet(file)
    return str(file)


def tiny(path, **changes):
    sizes = {"part": 0.5, "valid_records": 6, "test_records": 10, "records": 4, "methods": ("pooling",)}
    return MaskingConfig(**{**TINY, **sizes, "path": path, "labels": {"histology": "code"}, **changes})


def test_all_of_a_patient_or_nothing_is_trained_on(tmp_path):
    table = chosen(tiny(corpus(tmp_path)))
    count = {split: table["split"].to_pylist().count(split) for split in ("train", "valid", "test")}
    assert count["valid"] == 6 and count["test"] == 10 and 15 < count["train"] < 60
    assert all(taken(row["patient_id"], 0.5, 7) for row in table.to_pylist() if row["split"] == "train")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"path": "nowhere/*.parquet"}, r"data\.path: nothing matches nowhere"),
        ({"methods": ["attention_constant"]}, "methods"),
        ({"records": 11}, "sizes.records"),
        ({"labels": {"a": "code", "b": "site"}}, "data.labels"),
        ({"labels": {"a": "cod"}}, "no column cod"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, changes, told):
    path = corpus(tmp_path)
    with pytest.raises(ConfigError, match=told):
        chosen(tiny(**{"path": path, **changes}))


@pytest.mark.timeout(300)
def test_both_models_without_ray(tmp_path, trained_here):
    table = run(Masking(tiny(corpus(tmp_path))), tmp_path / "out", "command", print)
    value = {(row["arm"], row["metric"]): row["value"] for row in table.to_pylist()}
    assert [settings["learn"]["masking"] for settings in trained_here] == [0.8, 0.0]
    assert {settings["learn"]["budget"] for settings in trained_here} == {8192}
    name = "pooling_comprehensiveness_gain"
    assert value["difference", name] == pytest.approx(value["with_masking", name] - value["without_masking", name])
    assert 0 <= value["with_masking", "accuracy"] <= 1
