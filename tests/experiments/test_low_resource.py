import pytest

from engine.errors import ConfigError
from engine.experiments.low_resource import (
    NONE,
    RATIONALES,
    REPORTS,
    LowResource,
    LowResourceConfig,
    Part,
    generated,
    thinned,
)
from engine.experiments.rationale_sets import TASK, Marked, read_marked
from engine.experiments.regimes import Texts
from engine.experiments.run import run
from tests.experiments.marked import CELL, VESSEL, write_abstracts
from tests.experiments.test_grid import SMALL, rows_of

pytestmark = pytest.mark.timeout(300)


def count(texts):
    return [len(text) for text in texts]


def part(what, added=0, kept=2):
    return Part("target", kept, what, added, 1)


@pytest.fixture
def many(tmp_path):
    return Texts(read_marked(write_abstracts(tmp_path / "set", 36)), True, 1.0, count)


def single(label="a"):
    """Six reports of one label, two of another, and texts to hold back."""
    marked = [Marked(f"t{i}", f"t{i}", "train", f"Text {i} says so .", (label,), {label: [(0, 6)]}, ()) for i in range(6)]
    marked += [Marked(f"o{i}", f"o{i}", "train", f"Other {i} .", ("o",), {"o": [(0, 7)]}, ()) for i in range(2)]
    marked += [Marked(split, split, split, "Held .", ("o",), {}, ()) for split in ("valid", "test")]
    return Texts(marked, False, 1.0, count)


def train_of(table):
    return [row for row in table.to_pylist() if row["split"] == "train"]


def test_with_one_label_a_text_the_reports_are_left_out():
    texts = single()
    table, counts = thinned(texts, ["a"], part(NONE), ())
    assert len(train_of(table)) == 2 + 2 and not unknown_of(table) and counts == {"a": (0, "")}
    table, counts = thinned(texts, ["a"], part(RATIONALES, 3), ())
    kept = {row["record_id"] for row in train_of(table) if row["kind"] == "real"}
    samples = [row for row in train_of(table) if row["kind"] == "rationale"]
    assert len(samples) == 3 == counts["a"][0]
    assert not kept & {row["record_id"].split("#")[0] for row in samples}
    assert len(train_of(thinned(texts, ["a"], part(REPORTS, 3), ())[0])) == 2 + 2 + 3
    assert len(train_of(thinned(texts, ["a"], part(REPORTS), ())[0])) == 8


def unknown_of(table):
    return {row["record_id"]: row["unknown"] for row in train_of(table) if row["unknown"]}


def test_with_several_labels_training_is_only_not_told(many):
    table, _ = thinned(many, [CELL, VESSEL], part(NONE), ())
    assert len(train_of(table)) == len(many.base)
    for label in (CELL, VESSEL):
        having = [row["record_id"] for row in train_of(table) if label in row[TASK]]
        assert sum(label not in unknown_of(table).get(name, ()) for name in having) == 2
    table, counts = thinned(many, [CELL], part(RATIONALES, 4), ())
    samples = [row["record_id"] for row in train_of(table) if row["kind"] == "rationale"]
    assert len(samples) == counts[CELL][0] <= 4 and all(unknown_of(table)[name] == [VESSEL] for name in samples)
    table, counts = thinned(many, [CELL], part(REPORTS), ())
    assert counts[CELL][0] > 0 and not unknown_of(table)


def test_added_reports_of_some_sites_are_synthetic_and_say_so():
    texts = single("C15")
    table, counts = thinned(texts, ["C15"], part(REPORTS, 3), ("C15",))
    made = [row for row in train_of(table) if row["kind"] == "synthetic"]
    assert len(made) == 3 and {row[TASK] for row in made} == {"C15"} and "synthetic" in counts["C15"][1]
    with pytest.raises(ConfigError, match="no synthetic report has the site X"):
        generated(texts.base.schema, "X", 2, 1)


def test_the_curve_from_texts_to_its_table(tmp_path):
    data = write_abstracts(tmp_path / "set", 36)
    config = LowResourceConfig(data, classes=(CELL,), kept=(0, 2), added=(2,), **{**SMALL, "share": 1.0})
    found = rows_of(run(LowResource(config), tmp_path / "out", "command", lambda line: None))
    name = f"f1_{CELL}"
    none, rationales, reports = (
        found[f"target-keep2-{what}-mean", name]["value"] for what in ("none", "rationales-2", "reports-2")
    )
    assert found["target-keep2-rationales-2-mean", f"{name}_gain"]["value"] == pytest.approx(rationales - none)
    assert found["target-keep2-rationales-2-mean", f"{name}_over_reports"]["value"] == pytest.approx(rationales - reports)
    assert ("target-keep2-reports-2-mean", f"{name}_over_reports") not in found
    assert len({arm for arm, _ in found}) == 2 * 3 * (2 + 1)


def test_every_figure_that_rests_on_synthetic_reports_says_so():
    class Known(LowResource):
        def _classes(self, frozen):
            return ("C15", "C34")

        def _values(self, part, label, frozen, work):
            return [0.25, 0.5 + 0.125 * part.added]

    config = LowResourceConfig("x", seeds=(1, 2), kept=(2,), added=(1, 2))
    for what, noted in (
        (NONE, set()),
        (RATIONALES, {"f1_C15_over_reports", "f1_C15_over_reports_holm"}),
        (REPORTS, {"f1_C15", "f1_C15_gain", "f1_C15_gain_holm"}),
    ):
        found = Known(config)._mean(Part("target", 2, what, 0 if what == NONE else 1, None), None, None)
        assert {each.metric for each in found if "synthetic" in each.note} == noted & {each.metric for each in found}
    assert "f1_C15_gain" in {each.metric for each in found}


def test_what_stands_twice_is_refused():
    for key, values in {"kept": {"kept": (0, 0)}, "added": {"added": (5, 5)}, "classes": {"classes": ("a", "a")}}.items():
        with pytest.raises(ConfigError, match=f"grid.{key}: . stands there twice"):
            LowResourceConfig("x", **values)


def test_the_classes_are_the_synthetic_ones_and_then_the_largest(tmp_path):
    class Read:
        texts = Texts(read_marked(write_abstracts(tmp_path / "set", 36)), True, 1.0, count)

    sizes = {label: sum(label in told for told in Read.texts.base[TASK].to_pylist()) for label in (CELL, VESSEL)}
    larger, smaller = sorted(sizes, key=lambda label: -sizes[label])
    assert sizes[larger] > sizes[smaller]
    assert LowResource(LowResourceConfig("x"))._classes(Read()) == (larger, smaller)
    assert LowResource(LowResourceConfig("x", synthetic=(smaller,)))._classes(Read()) == (smaller, larger)


def test_an_unknown_class_is_refused(tmp_path):
    config = LowResourceConfig(write_abstracts(tmp_path / "set"), classes=("C99",), **SMALL)
    with pytest.raises(ConfigError, match="no label 'C99'"):
        run(LowResource(config), tmp_path / "out", "command", lambda line: None)
