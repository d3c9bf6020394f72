"""Templates compared, whole, on a made-up language and a tiny encoder; and what is worked by hand."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.experiments import mrc_templates
from engine.experiments.mrc_templates import Alignment, AlignmentConfig, AutoTemplate, AutoTemplateConfig, own_is_best
from engine.experiments.run import Arm
from engine.models.prompt_mrc.config import STYLES
from engine.models.prompt_mrc.infused import SHIPPED, read_ontology
from engine.models.prompt_mrc.templates import templates
from tests.experiments.prompted import NAMES, TINY, measured
from tests.models.prompt_mrc.conftest import World

pytestmark = pytest.mark.usefixtures("one_thread")


def test_templates_under_one_budget(corpora, tmp_path):
    table = tmp_path / "ontology.csv"
    table.write_text("type,definition\nDisease,what grows on a tree and can be eaten\n")
    config = AutoTemplateConfig(corpora, **TINY, corpora=("one",), ontology=str(table), budget=20)
    values = measured(AutoTemplate(config), tmp_path)
    longest = {kind: values[f"one-hard-{kind}-seed7", "longest_template"] for kind in ("manual", "auto", "mentions", "name")}
    assert longest["name"] < longest["auto"] <= longest["manual"] <= 20 and longest["name"] < longest["mentions"] <= 20
    less = values["one-hard-auto-seed7", "f1"] - values["one-hard-manual-seed7", "f1"]
    assert values["one-hard-auto-seed7", "f1_less"] == pytest.approx(less)
    texts = json.loads((tmp_path / "out" / "work" / "templates.json").read_text())["one"]
    assert set(texts) == {"manual", "auto", "mentions", "name"}
    assert texts["auto"]["Disease"].startswith("Disease: what grows on a tree and can be eaten, such as ")
    assert texts["mentions"]["Disease"].startswith("Disease, such as ") and texts["auto"]["Chemical"].startswith("Chemical, ")
    shown = len(texts["mentions"]["Disease"].split(", ")) - 1
    assert (
        values["one-hard-mentions-seed7", "mentions_in:Disease"] == shown > values["one-hard-auto-seed7", "mentions_in:Disease"]
    )
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    notes = {(row["arm"], row["metric"]): row["note"] for row in rows}
    told = notes["one-hard-auto-seed7", "mentions_in:Disease"]
    assert told == "after 'Disease: what grows on a tree and can be eaten'"
    mentions = {each for texts in texts["mentions"].values() for each in texts.partition(", such as ")[2].split(", ")}
    assert mentions and not any(mention in note for mention in mentions for note in notes.values())


def test_the_table_that_comes_along_defines_the_types_of_the_corpora():
    known = read_ontology(SHIPPED, "data.ontology")
    assert {"Disease", "Chemical", "Anatomy", "Cancer", "Simple_chemical"} <= set(known)
    written = {each.text.rstrip(".") for each in templates() if each.style in STYLES}
    # Those written by hand are what it is compared with.
    assert not any(definition in text for definition in known.values() for text in written)


def test_without_a_table_no_template_has_a_definition_and_one_of_other_types_is_refused(corpora, tmp_path):
    names = [arm.name for arm in AutoTemplate(AutoTemplateConfig("x", corpora=("one",))).arms()]
    assert names == [f"one-hard-{kind}-seed7" for kind in ("manual", "mentions", "name")]
    table = tmp_path / "ontology.csv"
    table.write_text("type,definition\nFruit,what grows on a tree\n")
    config = AutoTemplateConfig(corpora, **TINY, corpora=("one",), ontology=str(table))
    with pytest.raises(ConfigError, match=r"data.ontology: .* defines none of the types, which are Chemical, Disease"):
        AutoTemplate(config).measure(Arm("one-hard-auto-seed7", 7), tmp_path, lambda line: None)


def test_alignment_and_wordings(corpora, tmp_path):
    config = AlignmentConfig(corpora, **TINY, corpora=("one",), records=4, wordings=(1, 2))
    values = measured(Alignment(config), tmp_path)
    shares = [values["one-prompts", f"found:{kind}:by:{prompt}"] for kind in NAMES.values() for prompt in NAMES.values()]
    assert all(0 <= share <= 1 for share in shares)
    spread = abs(values["one-wordings", "f1_wording_1"] - values["one-wordings", "f1_wording_2"])
    assert values["one-wordings", "f1_spread"] == pytest.approx(spread)
    assert 0 <= values["one-wordings", "f1_spread:Disease"] <= 1


def test_the_matrix_is_of_test_texts_and_says_where_they_are_few(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(mrc_templates, "FEW", 5)
    experiment = Alignment(AlignmentConfig(corpora, **TINY, corpora=("one",), records=9))
    told = {each.metric: each for each in experiment.measure(Arm("one-prompts", 7), tmp_path, lambda line: None)}
    # Of twenty texts twelve are train and four test, where every one has both types.
    assert all("hill" in text for text in World.make(20, 0).texts[4::5])
    own, other = told["found:Disease:by:Disease"], told["found:Disease:by:Chemical"]
    assert (own.n, own.note, other.n, other.note) == (4, "only 4 texts of test have Disease", 4, "")
    monkeypatch.setattr(mrc_templates, "FEW", 4)
    again = experiment.measure(Arm("one-prompts", 7), tmp_path, lambda line: None)
    assert not any(each.note for each in again if each.metric.startswith("found:"))


def test_a_prompt_is_best_only_where_it_finds_more_than_the_others():
    shares = np.array([[0.5, 0.2, 0.1], [0.3, 0.3, 0.0], [0.0, 0.0, 0.0]])
    assert own_is_best(shares).tolist() == [True, False, False]
    assert own_is_best(np.array([[0.4]])).tolist() == [True] and own_is_best(np.array([[0.0]])).tolist() == [False]
