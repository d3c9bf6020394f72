"""The sets as the experiment reads them, and its figures worked by hand; the models are toys or tiny ones."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import f1_score

from engine.errors import ConfigError
from engine.evaluation.rationales import MEASURES
from engine.experiments import rationale_sets, rationales
from engine.experiments.rationale_sets import (
    Marked,
    hallmarks,
    joined,
    kind_of,
    marked_digest,
    question,
    read_marked,
    training_table,
)
from engine.experiments.rationales import (
    BY_SENTENCE,
    BY_WORD,
    Asked,
    Rationales,
    RationalesConfig,
    agreed,
    by_sentence,
    drawn,
    means,
    quality,
    scored,
    words_in,
)
from engine.experiments.run import Result, run
from engine.explain.explain import explain
from engine.models.code_task import Task
from engine.models.site_classifier.coder import SiteCoder
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.corpus import ReportSurvey
from tests.explain.toys import Linear, docs
from tests.models.conftest import tiny_config, write_tiny

pytestmark = pytest.mark.timeout(300)
CELL, GROWTH = "Resisting cell death", "Evading growth suppressors"
ABSTRACTS = [
    {
        "pmid": "1",
        "split": "train",
        "sentences": ["We studied cells .", "They died .", "The end ."],
        "sentence_labels": [[], [f"{GROWTH}--By deregulating--Cell cycle AND{CELL}--Apoptosis"], [f"{CELL}--"]],
        "hallmarks": [GROWTH],
    },
    {"pmid": "2", "split": "valid", "sentences": ["Nothing ."], "sentence_labels": [[]], "hallmarks": []},
]
TRIALS = [
    {
        "prompt_id": 7,
        "pmcid": "PMC1",
        "split": "test",
        "intervention": "Drug",
        "comparator": "placebo",
        "outcome": "pain",
        "label": "significantly decreased",
        "text": "We tried a drug. Pain fell (P < 0.01). It was safe.",
        "evidence": [{"start": 17, "end": 38, "text": "Pain fell (P < 0.01)."}],
    }
]


def written(folder, rows, name):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder


@pytest.fixture
def hoc(tmp_path):
    return written(tmp_path / "hoc", ABSTRACTS, "hoc.parquet")


@pytest.fixture
def evidence(tmp_path):
    return written(tmp_path / "evidence", TRIALS, "prompts_abstracts.parquet")


def test_joined_sentences_are_found_at_their_offsets():
    text, spans = joined(["A b .", "", "Größe 😀 ."])
    assert text == "A b .  Größe 😀 ."
    assert spans == [(0, 5), (6, 6), (7, 16)]
    assert [text[a:b] for a, b in spans] == ["A b .", "", "Größe 😀 ."]


def test_a_sentence_with_several_labels_in_one_text_has_all_their_hallmarks():
    assert hallmarks([]) == set()
    assert hallmarks([f"{CELL}--"]) == {CELL}
    assert hallmarks([f"{GROWTH}--Cell cycle AND{CELL}--Apoptosis", f"{CELL}--Necrosis AND Cellular energetics--"]) == {
        GROWTH,
        CELL,
        "Cellular energetics",
    }
    assert hallmarks(["Genomic instability and mutation--DNA AND"]) == {"Genomic instability and mutation"}


def test_marks_have_the_same_order_in_every_process(tmp_path):
    names = [f"Hallmark {letter}" for letter in "abcdefgh"]
    row = {"pmid": "1", "split": "train", "sentences": ["One ."], "sentence_labels": [[f"{name}--" for name in names]]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "hoc.parquet")
    (only,) = read_marked(str(tmp_path))
    assert list(only.spans) == names


def test_spans_of_a_hallmark_are_its_own_sentences(hoc):
    first, second = read_marked(str(hoc))
    assert first.text == "We studied cells . They died . The end ."
    assert first.labels == (GROWTH, CELL)
    assert first.spans == {GROWTH: [(19, 30)], CELL: [(19, 30), (31, 40)]}
    assert first.sentences == [(0, 18), (19, 30), (31, 40)]
    assert (second.labels, second.spans, second.question) == ((), {}, None)


def test_the_question_of_a_trial_is_its_second_text(evidence):
    (only,) = read_marked(str(evidence))
    assert only.question == "pain: Drug compared with placebo" == question("Drug", "placebo", "pain")
    assert question(None, None, "pain").startswith("pain:")
    assert (only.record_id, only.group, only.labels) == ("7", "PMC1", ("significantly decreased",))
    assert [only.text[a:b] for a, b in only.spans[only.labels[0]]] == ["Pain fell (P < 0.01)."]
    assert only.sentences == [(0, 16), (17, 38), (39, 51)]


def test_mistakes_in_the_data_are_told_in_one_line(tmp_path, hoc, evidence):
    assert (kind_of(str(hoc)), kind_of(str(evidence / "prompts_abstracts.parquet"))) == ("hoc", "evidence")
    (tmp_path / "labels.csv").write_text("report_id,text\n1,Pain\n")
    moved = [{**TRIALS[0], "evidence": [{"start": 16, "end": 37, "text": "Pain fell (P < 0.01)."}]}]
    beyond = [{**TRIALS[0], "evidence": [{"start": len(TRIALS[0]["text"]) - 3, "end": 999, "text": TRIALS[0]["text"][-3:]}]}]
    with pytest.raises(ConfigError, match="is not where the file says"):
        read_marked(str(written(tmp_path / "beyond", beyond, "prompts_abstracts.parquet")))
    cases = {
        "give its folder": tmp_path,
        "none of the sets hoc, evidence": written(tmp_path / "x", [{"a": 1}], "hoc.parquet"),
        "rows of hoc.parquet with a split that is none of train, valid, test: 1": written(
            tmp_path / "dev", [ABSTRACTS[0], {**ABSTRACTS[1], "split": "dev"}], "hoc.parquet"
        ),
        "rows of reports.parquet with a split that is none of train, valid, test: 2": written(
            tmp_path / "no", [{**each, "split": None} for each in CHESTS[:2]], "reports.parquet"
        ),
        "labels.csv is no Parquet file": tmp_path / "labels.csv",
        "prompt 7 is not where": written(tmp_path / "moved", moved, "prompts_abstracts.parquet"),
    }
    for said, folder in cases.items():
        with pytest.raises(ConfigError, match=said) as caught:
            read_marked(str(folder))
        assert "\n" not in str(caught.value) and "Pain" not in str(caught.value)
    with pytest.raises(ConfigError, match="at least"):
        RationalesConfig("x", records=-1)


def test_an_abstract_without_a_hallmark_is_trained_on(hoc, evidence, tmp_path):
    pq.write_table(training_table(read_marked(str(hoc)), True), tmp_path / "many.parquet")
    reading = {"group": "group", "labels": {"label": "label"}}
    examples = ReportSurvey.of(DataConfig(str(tmp_path / "many.parquet"), multi_label=["label"], **reading)).examples()
    assert examples["label"].to_pylist() == [[GROWTH, CELL], []]
    pq.write_table(training_table(read_marked(str(evidence)), False), tmp_path / "one.parquet")
    examples = ReportSurvey.of(DataConfig(str(tmp_path / "one.parquet"), pair="question", **reading)).examples()
    assert (examples["label"].to_pylist(), examples["pair"].to_pylist()) == (
        [TRIALS[0]["label"]],
        [question("Drug", "placebo", "pain")],
    )


REPORT = {"report_id": "a", "patient_id": "p1", "icdo3_topography_3": "C34", "ocr_source": "pdf-ocr"}
REPORTS = [
    {**REPORT, "split": "train", "text": "Lung, left upper lobe: oat cell tumor. No oat cell tumor in the colon."},
    {**REPORT, "split": "train", "report_id": "b", "text": "lung  resection"},
    {**REPORT, "split": "test", "report_id": "c", "patient_id": "p2", "text": "Lung resection"},
    {**REPORT, "split": "test", "report_id": "d", "icdo3_topography_3": None, "text": "x"},
]
CHEST = {"report_id": "1", "split": "train", "is_normal": False, "findings": None, "impression": None}
CHESTS = [
    {**CHEST, "findings": "Heart large.", "impression": "Two nodules.", "mesh_major": ["Nodule/right", "Cardiomegaly"]},
    {**CHEST, "report_id": "2", "findings": "Clear.", "mesh_major": ["normal"], "is_normal": True},
    {**CHEST, "report_id": "3", "findings": "CLEAR.", "mesh_major": ["normal"], "is_normal": True, "split": "valid"},
    {**CHEST, "report_id": "4", "findings": "Poor.", "mesh_major": ["No Indexing"]},
    {**CHEST, "report_id": "5", "mesh_major": ["Nodule"]},
]


def test_silver_marks_of_a_report_are_the_names_of_its_site_and_the_phrases_of_the_list(tmp_path):
    folder = written(tmp_path / "tcga", REPORTS, "reports_ocr.parquet")
    with pytest.raises(ConfigError, match="need the list"):
        read_marked(str(folder))
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "reportability_keywords.txt").write_text("oat cell tumor|Positive\nNo oat cell tumor|Negative\n")
    before = marked_digest(str(folder))
    first, last = read_marked(str(folder))
    assert kind_of(str(folder)) == "tcga_silver" and rationale_sets.SETS["tcga_silver"].silver
    assert [first.text[a:b] for a, b in first.spans["C34"]] == ["Lung", "left upper lobe", "oat cell tumor"]
    # Of two reports with the same words that of test stays, and a report without a site teaches nothing.
    assert (first.record_id, last.record_id, last.group, last.split) == ("pdf-ocr/a", "pdf-ocr/c", "p2", "test")
    written(folder, [{**REPORTS[0], "ocr_source": "aws-textract", "text": "Lung, new"}], "reports_textract_t14.parquet")
    assert [each.record_id for each in read_marked(str(folder))] == ["pdf-ocr/a", "pdf-ocr/c", "aws-textract/a"]
    assert marked_digest(str(folder)) != before
    # The digest is of all that was read, and not of the first table alone.
    before = marked_digest(str(folder))
    (tmp_path / "registry" / "reportability_keywords.txt").write_text("oat cell tumor|Positive\n")
    assert marked_digest(str(folder)) != before


def test_what_rests_on_silver_marks_says_so():
    found = [Result("macro_f1", 0.5), Result("cov_topk", 0.5), Result("cov_mass", 0.5, note="of few")]
    assert [each.note for each in rationale_sets.named_silver(found, "openi")] == ["", "silver marks", "of few"]
    assert [each.note for each in rationale_sets.named_silver(found, "hoc")] == ["", "", "of few"]


def test_silver_marks_of_an_abnormal_chest_x_ray_are_the_heads_of_its_codes(tmp_path):
    folder = written(tmp_path / "openi", CHESTS, "reports.parquet")
    ill, well = read_marked(str(folder))
    assert (kind_of(str(folder)), ill.text, ill.labels) == ("openi", "Heart large. Two nodules.", ("abnormal",))
    assert [ill.text[a:b] for a, b in ill.spans["abnormal"]] == ["nodules"]
    assert (well.record_id, well.split, well.labels, well.spans) == ("3", "valid", ("normal",), {"normal": []})


def linear():
    """Words at 0-4, 5-9, 10-14, 15-19 with scores 4, -3, 2, 1."""
    return explain(Linear([4, -3, 2, 1]), docs([1, 2, 3, 4]), torch.tensor([0]))[0]


def test_measures_of_a_toy_model_by_hand():
    found = scored(linear(), [(0, 4), (10, 14)], 19, ("d0", "label"), draws=4)
    # Weights .4 .3 .2 .1; the first and the third word are marked. Among the two strongest is one of them.
    assert found["cov_topk"] == 0.5
    assert found["cov_mass"] == pytest.approx(0.6)
    assert found["cov_lift"] == pytest.approx(1.2)
    assert found["auprc"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found == scored(linear(), [(0, 4), (10, 14)], 19, ("d0", "label"), draws=4)
    assert found != scored(linear(), [(0, 4), (10, 14)], 19, ("d1", "label"), draws=4)


def test_the_control_is_what_chance_gives():
    found = scored(linear(), [(0, 4)], 19, ("d0", "label"), draws=200)
    # One of four words is marked: it is the strongest in a quarter of the shuffles, and its mean rank is 1 / (1 1/2 1/3 1/4).
    assert found["random_cov_topk"] == pytest.approx(0.25, abs=0.1)
    assert found["random_cov_mass"] == pytest.approx(0.25, abs=0.03)
    assert found["random_cov_lift"] == pytest.approx(1.0, abs=0.1)
    assert found["random_auprc"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=0.08)


def test_what_has_no_mark_or_no_weight_has_no_measures():
    assert scored(linear(), [], 19, ("d0", "label"), 2) is None
    flat = explain(Linear([0, 0]), docs([1, 2]), torch.tensor([0]))[0]
    assert scored(flat, [(0, 4)], 9, ("d0", "label"), 2) is None


def test_a_sentence_has_the_sum_of_its_words():
    found = by_sentence(linear(), np.array([(0, 9), (10, 19)]))
    assert found.score.tolist() == pytest.approx([1, 3])
    assert found.weight.tolist() == pytest.approx([0.25, 0.75])
    assert (found.unit_kind, found.start.tolist(), found.end.tolist()) == ("sentence", [0, 10], [9, 19])
    assert scored(found, [(10, 14)], 19, ("d0", "label"), 2)["cov_lift"] == pytest.approx(1.5)


def test_sentences_stand_beside_the_count_of_their_words():
    words = docs([1, 2, 3, 4]).words[0]
    found = by_sentence(linear(), np.array([(0, 4), (5, 19)]))
    assert words_in(found, words).tolist() == [1, 3]
    # Scores 4 and 0, words 1 and 3; the first sentence is marked.
    measured = scored(found, [(0, 4)], 19, ("d0", "label"), 2, words_in(found, words))
    assert (measured["cov_mass"], measured["length_cov_mass"]) == (1.0, 0.25)
    assert (measured["auprc"], measured["length_auprc"]) == (1.0, 0.5)
    (gain,) = (each for each in means("sentence", [measured], ["a"], 20) if each.metric == "sentence_cov_lift_over_length")
    assert gain.value == pytest.approx(2.0 - 0.5)


def test_means_and_gains_over_the_control():
    one = {name: 0.5 for name in MEASURES} | {f"random_{name}": 0.2 for name in MEASURES}
    other = {name: 0.9 for name in MEASURES} | {f"random_{name}": 0.4 for name in MEASURES}
    found = {each.metric: each for each in means("word", [one, None, other], ["a", "b", "c"], 200)}
    assert found["word_auprc"].value == pytest.approx(0.7)
    assert found["word_auprc_random"].value == pytest.approx(0.3)
    gain = found["word_auprc_gain"]
    assert (gain.value, gain.low, gain.high, gain.n) == pytest.approx((0.4, 0.3, 0.5, 2))
    assert gain.note.startswith("1 without")
    assert all(each.value is None and each.n == 0 for each in means("word", [None], ["a"], 10))


def test_quality_by_hand_and_as_scikit_learn_has_it():
    gold = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool)
    chosen = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    found = {each.metric: each.value for each in quality(gold, chosen, list("abcd"), 50)}
    assert found["accuracy"] == 0.5
    # The first label is always right; of the second, one of two is found and one of two that are given is right.
    assert found["macro_f1"] == pytest.approx((1 + 0.5) / 2) == f1_score(gold, chosen, average="macro")
    assert found["micro_f1"] == pytest.approx(2 * 3 / (4 + 4)) == f1_score(gold, chosen, average="micro")
    # A third label that is given and nobody has: micro-F1 pays for it, macro-F1 is over the labels that there are.
    more = [np.column_stack([some, last]) for some, last in ((gold, [False] * 4), (chosen, [True, False, False, False]))]
    found = {each.metric: each.value for each in quality(*more, list("abcd"), 50)}
    assert found["macro_f1"] == pytest.approx((1 + 0.5) / 2) and found["micro_f1"] == pytest.approx(2 * 3 / (4 + 5))


def test_only_labels_that_people_and_model_give_are_explained():
    texts = [Marked("a", "a", "test", "x", labels, {}, ()) for labels in (("A", "B"), (), ("B",))]
    assert agreed(texts, [["B", "C"], ["A"], ["B"]]) == [Asked(0, "B"), Asked(2, "B")]


def test_texts_are_drawn_by_id_alone():
    names = [f"t{i}" for i in range(20)]
    chosen = {names[i] for i in drawn(names, 5, 7)}
    assert len(chosen) == 5
    assert {names[::-1][i] for i in drawn(names[::-1], 5, 7)} == chosen
    assert chosen <= {names[i] for i in drawn(names, 9, 7)}
    assert drawn(names, 0, 7) == list(range(20))
    sizes = RationalesConfig("x", records=10, slow_records=0, dear_records=30)
    assert [sizes.texts(name) for name in ("pooling", "fused", "lime")] == [10, 10, 10]
    assert [RationalesConfig("x").texts(name) for name in ("pooling", "fused", "lime")] == [0, 100, 30]


def abstracts():
    """Enough texts that a model with random weights gives some of the labels that stand here."""
    said = ["The cells died of it .", "Vessels grew", "Nothing was seen in twelve patients ."]
    for number in range(9):
        labels = [[], [f"{CELL}--Apoptosis AND{GROWTH}--"], [f"{'Cellular energetics'}--"]]
        yield {
            "pmid": str(number),
            "split": ("train", "valid", "test")[number % 3],
            "sentences": [*said, f"Text {number} ."],
            "sentence_labels": [*labels, []],
        }


def trials():
    labels = ("no significant difference", "significantly decreased", "significantly increased")
    for number in range(9):
        split, label = ("train", "test", "test")[number % 3], labels[number // 3]
        yield {**TRIALS[0], "prompt_id": number, "pmcid": f"PMC{number}", "split": split, "label": label}


@pytest.mark.parametrize("kind", ["hoc", "evidence"])
def test_every_arm_from_a_tiny_model_to_its_table(tmp_path, monkeypatch, kind):
    rows, multi = (list(abstracts()), True) if kind == "hoc" else (list(trials()), False)
    data = written(tmp_path / "data", rows, rationale_sets.SETS[kind].file)
    calls = []

    def untrained(recipe, reading, folder, command, say):
        calls.append(recipe)
        examples = ReportSurvey.of(DataConfig(**reading)).examples()
        labels = tuple(sorted({code for value in examples["label"].to_pylist() for code in (value if multi else [value])}))
        task = Task("label", labels, (3,) * len(labels), multi)
        write_tiny(folder, tiny_config(tasks=(task,), paired=kind == "evidence", window=40))
        return {}

    monkeypatch.setattr(rationales, "train", untrained)
    # Three texts are no vocabulary for a rival that wants words which stand in three of them.
    monkeypatch.setattr(rationales, "fit_and_score", lambda texts, labels, others: FirstLabel(labels[0], len(others)))
    predictions = []
    scores = SiteCoder.scores
    monkeypatch.setattr(SiteCoder, "scores", lambda self, prepared: predictions.append(len(prepared)) or scores(self, prepared))
    config = RationalesConfig(str(data), dear_records=2, steps=3, draws=2, rounds=20, encoder="tiny:bert", threads=1)
    said = []
    table = run(Rationales(config), tmp_path / "out", "command", said.append)
    found = {(row["arm"].removeprefix(f"{kind}-"), row["metric"]): row for row in table.to_pylist()}
    assert {arm for arm, _ in found} == {"model", "tfidf", *BY_WORD, *BY_SENTENCE}
    assert 0 <= found["model", "macro_f1"]["value"] <= 1
    for method in (*BY_WORD, *BY_SENTENCE):
        units = ("word", "sentence") if method in BY_WORD else ("sentence",)
        for unit in units:
            value, random, gain = (found[method, f"{unit}_auprc{end}"] for end in ("", "_random", "_gain"))
            assert value["n"] > 0 and 0 < value["value"] <= 1
            assert gain["value"] == pytest.approx(value["value"] - random["value"])
            assert gain["low"] <= gain["value"] <= gain["high"]
            assert ((method, f"{unit}_auprc_over_length") in found) == (unit == "sentence")
    assert found["lime", "sentence_auprc"]["n"] <= found["pooling", "sentence_auprc"]["n"]
    assert len(calls) == 1 and len(predictions) == 1
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["set"] == kind
    assert run(Rationales(config), tmp_path / "out", "command", said.append).equals(table)
    assert len(calls) == 1 and sum(line.endswith("done before") for line in said) == 12


def test_what_people_marked_becomes_samples_of_train_where_that_is_asked_for(tmp_path, monkeypatch):
    rows = [row if row["split"] == "train" else {**row, "evidence": [], "text": f"Held. {row['text']}"} for row in trials()]
    data, seen = written(tmp_path / "data", rows, rationale_sets.SETS["evidence"].file), []
    monkeypatch.setattr(
        rationales, "train", lambda recipe, reading, *rest: seen.append(ReportSurvey.of(DataConfig(**reading)).samples)
    )
    for number, samples in enumerate(((), ("rationale",))):
        config = RationalesConfig(str(data), encoder="tiny:bert", samples=samples)
        Rationales(config)._train(tmp_path / f"{number}.parquet", tmp_path / "model", print)
    assert not seen[0]
    # The same words under three labels, each with its question.
    made = seen[1].to_pylist()
    assert [row["text"].strip() for row in made] == [TRIALS[0]["evidence"][0]["text"]] * 3
    assert all(row["pair"] == question("Drug", "placebo", "pain") for row in made) and len({row["label"] for row in made}) == 3


class FirstLabel:
    """Gives every text the same label."""

    def __init__(self, label, count):
        self.predicted = np.array([label] * count)


@pytest.mark.parametrize(
    ("folder", "kind", "sizes"), [("hoc_rationales", "hoc", (1499, 203)), ("evidence_inference", "evidence", (987, 69))]
)
def test_the_public_sets_are_read_whole(shared_data, folder, kind, sizes):
    path = str(shared_data / folder)
    assert kind_of(path) == kind
    found = read_marked(path)
    assert (len(found), sum(each.split == "test" for each in found)) == sizes
    assert len({each.record_id for each in found}) == len(found)
    for each in found:
        assert set(each.spans) == set(each.labels)
        assert all(0 <= a < b <= len(each.text) for spans in each.spans.values() for a, b in spans)
        assert all(each.text[a:b].strip() == each.text[a:b] for a, b in each.sentences) or kind == "hoc"
    names = {label for each in found for label in each.labels}
    assert len(names) == (10 if kind == "hoc" else 3)
    assert not any("--" in name or " AND" in name for name in names)
