"""Samples from templates: what stands in the reports, what is made up, and what of it counts."""

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.experiments import generated as generated_module
from engine.experiments.frozen import Answers, Frozen
from engine.experiments.generated import HALLMARKS, generated, proposals, templates
from engine.experiments.grid import Grid, GridConfig
from engine.experiments.rationale_sets import TASK, Marked
from engine.experiments.regimes import Regime, Texts
from engine.experiments.run import run
from engine.experiments.templates import Templates
from tests.experiments.marked import CELL, VESSEL, write_abstracts
from tests.experiments.test_grid import SMALL, rows_of

pytestmark = pytest.mark.timeout(300)
TERMS = {"a": ("cells",), "b": ("vessels", "cells")}


def one(record_id, split, labels, spans, text="The cells died . New vessels grew . That was all ."):
    return Marked(record_id, record_id, split, text, labels, spans, ())


def texts():
    train = [
        one("t1", "train", ("a",), {"a": [(0, 16)]}),
        one("t2", "train", ("b",), {"b": [(17, 35)]}, "Cells lived . New vessels grew . That was all ."),
        one("t3", "train", ("a",), {"a": [(0, 9)]}, "Nothing was found ."),
    ]
    return Texts([*train, one("v", "valid", ("a",), {}), one("e", "test", ("b",), {})], False, 1.0, lambda some: [1] * len(some))


def test_an_extractive_sample_is_the_first_sentence_with_a_term():
    found = proposals(texts(), Templates("extractive", terms=TERMS))
    told = {row["record_id"]: (row["text"].strip(), row[TASK]) for row in found.samples.to_pylist()}
    assert told == {"t1#rationale0": ("The cells died .", "a"), "t2#rationale0": ("Cells lived .", "b")}
    # People's sentence is found whole in the first report, not in the second, and nothing is proposed for the third.
    assert found.asked == 3 and found.human == pytest.approx(1 / 3)


def test_in_a_text_with_several_labels_a_sentence_teaches_all_that_it_was_proposed_for():
    whole = texts()
    marked = [one("t1", "train", ("a", "b"), {"a": [(0, 16)], "b": [(17, 35)]}), *whole.marked[3:]]
    found = proposals(Texts(marked, True, 1.0, len), Templates("extractive", terms={"a": ("cells",), "b": ("died",)}))
    assert [(row["text"].strip(), row[TASK]) for row in found.samples.to_pylist()] == [("The cells died .", ["a", "b"])]


def test_an_abstractive_sample_is_made_up_and_counts_where_it_alone_brings_the_label(tmp_path):
    found = proposals(texts(), Templates("abstractive", terms=TERMS, ways=("About {name}.",)))
    made = {(row["text"], row[TASK]) for row in found.samples.to_pylist()}
    assert ("About cells.", "a") in made and found.human is None and found.asked == 3
    # The same words for the same label stand once.
    assert len(found.samples) == len(made) == 2

    class OfOneMind:
        """Says `a` of everything."""

        kind, texts, asked = "tcga_silver", texts(), 0

        def say(self, line):
            pass

        def learned(self, head, table, seed):
            return self

        def answered(self, learner, table):
            self.asked += len(table)
            return Answers(np.tile([0.9, 0.1], (len(table), 1)), None, [])

    frozen = OfOneMind()
    some, told = generated(frozen, "target", "abstractive", 2, tmp_path)
    assert set(some[TASK].to_pylist()) == {"a"}
    figures = {each.metric: each.value for each in told}
    # The one of the report labelled b is refused.
    assert figures["asked"] == figures["proposed"] == 3 and figures["used"] == figures["distinct"] - 1 == len(some)
    asked = frozen.asked
    again, _ = generated(frozen, "target", "abstractive", 2, tmp_path)
    assert again.equals(some) and frozen.asked == asked


def test_terms_of_the_sets():
    assert templates("hoc", "extractive").terms is HALLMARKS
    assert templates("hoc", "abstractive").propose("r", "x", CELL).split()[-1].rstrip(".") in " ".join(HALLMARKS[CELL])
    assert templates("tcga_silver", "abstractive").digest != templates("hoc", "abstractive").digest
    assert "lung" in templates("tcga_silver", "abstractive").propose("r", "x", "C34").casefold()


def test_generated_regimes_in_the_grid(tmp_path, monkeypatch):
    assert Regime.of("generated.extractive").kind == "generated.extractive"
    data = write_abstracts(tmp_path / "set", 36)
    # The toy sentence of the other label has a word of its own in every text: none is another's.
    monkeypatch.setitem(generated_module._TERMS, "hoc", {CELL: ("cells died",), VESSEL: ("nothing like it",)})
    regimes = ("reports", "rationales", "generated.extractive", "generated.abstractive")
    config = GridConfig(data, heads=("target",), regimes=regimes, folds=2, **{**SMALL, "seeds": (1,)})
    found = rows_of(run(Grid(config), tmp_path / "out", "command", lambda line: None))
    texts = Frozen(config, tmp_path, print).texts
    mine = [each for each in texts.marked if each.record_id in texts.reports]
    dying = sum(CELL in each.labels for each in mine)
    names = ("asked", "proposed", "distinct", "used", "texts_besides")
    extractive = [found["target-generated.extractive-1", name]["value"] for name in names]
    assert 0 < dying < sum(len(each.labels) for each in mine)
    assert extractive == [sum(len(each.labels) for each in mine), dying, dying, dying, dying]
    # People marked just these sentences, and those of the other label, of which none is found.
    assert found["target-generated.extractive-1", "human_coverage"]["value"] == pytest.approx(dying / extractive[0], abs=0.05)
    asked, proposed, distinct, used, besides = (found["target-generated.abstractive-1", name]["value"] for name in names)
    # Three ways to say one term of each of two labels.
    assert asked == proposed and distinct <= 6 and used == besides <= distinct
    assert ("target-generated.extractive-over-rationales", "macro_f1_gain") in found


def test_a_set_without_templates_is_refused_before_a_training():
    with pytest.raises(ConfigError, match="no templates for the labels of openi"):
        templates("openi", "extractive")
