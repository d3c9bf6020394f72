"""A stamp as a shortcut: who carries it, the figures worked by hand, and the whole experiment on a tiny model."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.experiments.run import run
from engine.experiments.shortcut import Shortcut, ShortcutConfig, reports, results
from engine.experiments.trained import Shown

TINY = {"encoder": "tiny:bert", "rank": 2, "window": 30, "epochs": 1.0, "threads": 1, "evidence_sample": 2}
# A text of six words of three letters with blanks between; the stamp is the first two.
STARTS, ENDS, STAMP = np.arange(0, 24, 4), np.arange(3, 24, 4), (0, 7)


def tiny(**changes):
    sizes = {"train_records": 24, "valid_records": 8, "records": 8, "median_words": 20}
    return ShortcutConfig(**{**TINY, **sizes, "methods": ("default",), **changes})


def answer(code, *spans):
    return Shown(code, spans, STARTS, ENDS)


def test_figures_of_seven_reports():
    rows = [
        # site, answer without the stamp, answer and evidence under it
        ("C50", "C50", answer("C67", (0, 3))),  # turned, evidence on the stamp
        ("C50", "C50", answer("C67", (8, 11), (4, 7))),  # turned, the stamp second
        ("C61", "C50", answer("C67", (8, 11))),  # wrong before, turned, not shown
        ("C61", "C61", answer("C61", (4, 15))),  # kept, evidence reaches into the stamp
        ("C61", "C67", answer("C67", (0, 3))),  # was the stamped site before: cannot be turned
        ("C67", "C67", answer("C67", (0, 7))),  # own, stamp shown
        ("C67", "C67", answer("C50", (0, 7))),  # own, answered wrong under the stamp
    ]
    sites, bare, under = (list(column) for column in zip(*rows, strict=True))
    found = {each.metric: each for each in results(sites, bare, under, [STAMP] * 7, "C67", "pooling")}
    assert found["accuracy"].value == pytest.approx(5 / 7)
    assert (found["turned_by_stamp"].value, found["turned_by_stamp"].n) == (0.75, 4)
    assert (found["turned_top_span_hits"].value, found["turned_top_span_hits"].n) == (pytest.approx(1 / 3), 3)
    assert found["turned_any_span_hits"].value == pytest.approx(2 / 3)
    # One word of six at a time: two of six places touch the stamp.
    assert found["turned_random_hits"].value == pytest.approx(1 / 3)
    assert (found["own_top_span_hits"].value, found["own_top_span_hits"].n) == (1.0, 1)
    assert (found["kept_top_span_hits"].value, found["kept_top_span_hits"].n) == (1.0, 1)


def test_reports_are_of_the_sites_asked_for_and_as_many():
    made = reports(tiny())
    assert {report.site for report in made} <= set(tiny().sites)
    assert [[report.split for report in made].count(split) for split in ("train", "valid", "test")] == [24, 8, 8]


def test_relabelled_reports_keep_their_text_and_those_of_test_their_code():
    plain, preset = (reports(tiny(relabelled=share)) for share in (0.0, 1.0))
    assert [report.text for report in plain] == [report.text for report in preset]
    assert {report.site for report in preset if report.split != "test"} == {"C67"}
    assert [r.site for r in plain if r.split == "test"] == [r.site for r in preset if r.split == "test"]
    assert len({report.site for report in plain if report.split == "test"}) > 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stamped": "C77"}, "stamped"),
        ({"stamp": " "}, "must have words"),
        ({"share": 1.5}, "shares from 0 to 1"),
        ({"records": 0}, "sizes"),
    ],
)
def test_wrong_settings_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        tiny(**changes)


def test_a_site_that_no_synthetic_report_has_is_told():
    with pytest.raises(ConfigError, match="no site 'C99'"):
        reports(tiny(sites=["C67", "C99"]))


@pytest.mark.timeout(300)
def test_both_models_without_ray_and_what_they_learn_from(tmp_path, trained_here):
    config = tiny(train_records=60, share=1.0, elsewhere=0.0)
    table = run(Shortcut(config), tmp_path / "out", "command", print)
    assert table["arm"].unique().to_pylist() == ["stamped-default", "clean-default"]
    assert len(trained_here) == 2
    for row in pq.read_table(tmp_path / "out" / "work" / "stamped.parquet").to_pylist():
        assert (config.stamp in row["text"]) == (row["site"] == config.stamped and row["split"] != "test")
    assert not any(
        config.stamp in text for text in pq.read_table(tmp_path / "out" / "work" / "clean.parquet")["text"].to_pylist()
    )
