"""Explanations beside what people marked: figures by hand, and the study on a tiny model of either set."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import f1_score

from engine.errors import ConfigError
from engine.explain.explain import explain
from engine.studies.agreement import by_sentence, scored, words_in
from engine.studies.compare import GIVEN, LABELS
from engine.studies.run import Place, Runner
from engine.studies.site_classifier import marked
from engine.studies.site_classifier.codes import estimates
from engine.studies.study import study_of
from tests.explain.toys import Linear, docs
from tests.studies.marked import write_abstracts

VALUES: dict[str, Any] = {
    "question": "?",
    "system": "site_classifier",
    "fit": "marked",
    "base": {
        "model.encoder": "tiny:bert",
        "model.rank": 2,
        "model.window": 40,
        "train.epochs": 1,
        "evidence_sample": 1,
        "explain.texts": "marked",
        "explain.residual": False,
        "explain.copies": "fp32",
        "agreement.draws": 2,
    },
    "arms": {
        "answers": {"marked.answers": "model"},
        "tfidf": {"marked.answers": "tfidf"},
        "pooling": {"explain.method": "pooling"},
        "lime": {"explain.method": "lime", "explain.unit": "sentence", "explain.records": 2},
    },
    "measure": ["marked", "agreement"],
    "rounds": 20,
}


def _linear() -> Any:
    """Words at 0-4, 5-9, 10-14, 15-19 with scores 4, -3, 2, 1."""
    return explain(Linear([4, -3, 2, 1]), docs([1, 2, 3, 4]), torch.tensor([0]))[0]


def test_figures_by_hand_and_the_control_as_chance_gives_it() -> None:
    figures = scored(_linear(), [(0, 4), (10, 14)], 19, ("d0", "label"), draws=4)
    # Weights .4 .3 .2 .1; the first and the third word are marked. Among the two strongest is one of them.
    assert figures is not None
    assert (figures["topk"], figures["mass"], figures["lift"]) == pytest.approx((0.5, 0.6, 1.2))
    assert figures["auprc"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["lift_gain"] == pytest.approx(figures["lift"] - figures["lift_random"])
    one = scored(_linear(), [(0, 4)], 19, ("d0", "label"), draws=200)
    # One of four words is marked: it is the strongest in a quarter of the shuffles, and its mean rank is 1 / (1 1/2 1/3 1/4).
    assert one is not None
    assert one["topk_random"] == pytest.approx(0.25, abs=0.1)
    assert one["lift_random"] == pytest.approx(1.0, abs=0.1)
    assert one["auprc_random"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=0.08)
    assert scored(_linear(), [], 19, ("d0", "label"), 2) is None


def test_sentences_stand_beside_the_count_of_their_words() -> None:
    words = docs([1, 2, 3, 4]).words[0]
    sentences = by_sentence(_linear(), np.array([0, 5]), np.array([4, 19]))
    assert (sentences.unit_kind, sentences.score.tolist()) == ("sentence", pytest.approx([4, 0]))
    assert words_in(sentences, words).tolist() == [1, 3]
    # Scores 4 and 0, words 1 and 3; the first sentence is marked.
    figures = scored(sentences, [(0, 4)], 19, ("d0", "label"), 2, words_in(sentences, words))
    assert figures is not None
    assert (figures["mass"], figures["mass_length"]) == (1.0, 0.25)
    assert (figures["auprc"], figures["auprc_length"], figures["lift_over_length"]) == (1.0, 0.5, pytest.approx(2.0 - 0.5))


def test_quality_as_scikit_learn_has_it() -> None:
    gold = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool)
    given = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    names = list("abcd")
    table = pa.table({"record_id": names, "group": names, LABELS: gold.tolist(), GIVEN: given.tolist()})
    values = {row.metric: row.value for row in estimates(table, ("accuracy", "micro_f1", "macro_f1"), 20)}
    assert values["accuracy"] == 0.5
    assert values["micro_f1"] == pytest.approx(f1_score(gold, given, average="micro"))
    assert values["macro_f1"] == pytest.approx(f1_score(gold, given, average="macro"))


def _run(folder: Path, path: str, **changes: Any) -> dict[tuple[str, str], dict[str, Any]]:
    study = study_of("toy/marked", {**VALUES, "corpora": {"marked": path}, "base": {**VALUES["base"], **changes}})
    rows = Runner(study, Place(str(folder), folder / "output", folder / "models", threads=1), print).run().to_pylist()
    return {(row["arm"], row["metric"]): row for row in rows}


@pytest.mark.timeout(300)
def test_every_arm_on_abstracts_with_several_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A tiny model of a few texts says yes to nothing.
    monkeypatch.setattr(marked, "given_labels", lambda system, prepared: [list(system.known()["label"])] * len(prepared))
    write_abstracts(tmp_path, 30)
    rows = _run(tmp_path, "hoc.parquet")
    assert all(0 <= rows[arm, "macro_f1"]["value"] <= 1 for arm in ("answers", "tfidf"))
    assert rows["pooling", "word_auprc"]["n"] == rows["pooling", "sentence_auprc"]["n"] >= rows["lime", "sentence_auprc"]["n"] > 0
    assert ("lime", "word_auprc") not in rows and ("pooling", "word_auprc_length") not in rows
    assert rows["pooling", "sentence_auprc_over_length"]["low"] <= rows["pooling", "sentence_auprc_over_length"]["value"]
    assert len(list((tmp_path / "models" / "site_classifier").iterdir())) == 1
    with pytest.raises(ConfigError, match="a rationale of one label would be a no"):
        _run(tmp_path / "other", "../hoc.parquet", **{"data.samples": ["rationale"]})


@pytest.mark.timeout(300)
def test_marked_passages_of_trials_become_samples_with_their_question(tmp_path: Path) -> None:
    labels, passage = ("no significant difference", "significantly decreased"), "Pain fell a little."
    trials = [
        {
            "prompt_id": number,
            "pmcid": f"PMC{number}",
            "split": ("train", "train", "valid", "test")[number % 4],
            "intervention": "Drug",
            "comparator": "placebo",
            "outcome": "pain",
            "label": labels[number // 4 % 2],
            "text": f"{passage} We tried drug {number}.",
            "evidence": [{"start": 0, "end": len(passage), "text": passage}],
        }
        for number in range(16)
    ]
    pq.write_table(pa.Table.from_pylist(trials), tmp_path / "trials.parquet")
    rows = _run(tmp_path, "trials.parquet", **{"data.samples": ["rationale"]})
    assert rows["answers", "accuracy"]["n"] == 4
    (corpus,) = (tmp_path / "models" / "corpora").iterdir()
    table = pq.read_table(corpus).to_pylist()
    assert table[0]["question"] == "pain: Drug compared with placebo"
    assert [table[0]["text"][mark["start"] : mark["end"]] for mark in table[0]["marks"]] == [passage]
