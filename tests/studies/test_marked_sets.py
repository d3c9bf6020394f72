"""The sets of marked texts as the studies read them, from a few invented rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.studies.marked_sets import _joined, draw, hallmarks, read_set

CELL, GROWTH = "Resisting cell death", "Evading growth suppressors"
ABSTRACTS = [
    {
        "pmid": "1",
        "split": "train",
        "sentences": ["We studied cells .", "They died .", "The end ."],
        "sentence_labels": [[], [f"{GROWTH}--By deregulating--Cell cycle AND{CELL}--Apoptosis"], [f"{CELL}--"]],
    },
    {"pmid": "2", "split": "valid", "sentences": ["Nothing ."], "sentence_labels": [[]]},
]
TRIAL = {
    **{"prompt_id": 7, "pmcid": "PMC1", "split": "test", "intervention": "Drug", "comparator": "placebo", "outcome": "pain"},
    "label": "significantly decreased",
    "text": "We tried a drug. Pain fell (P < 0.01). It was safe.",
    "evidence": [{"start": 17, "end": 38, "text": "Pain fell (P < 0.01)."}],
}
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


def written(file, rows):
    file.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return str(file)


def test_joined_sentences_are_found_at_their_offsets():
    text, spans = _joined(["A b .", "", "Größe 😀 ."])
    assert (text, spans) == ("A b .  Größe 😀 .", [(0, 5), (6, 6), (7, 16)])


def test_a_sentence_with_several_labels_in_one_text_has_all_their_hallmarks():
    labels = [f"{GROWTH}--Cell cycle AND{CELL}--Apoptosis", f"{CELL}--Necrosis AND Cellular energetics--"]
    assert hallmarks([]) == set() and hallmarks(labels) == {GROWTH, CELL, "Cellular energetics"}
    assert hallmarks(["Genomic instability and mutation--DNA AND"]) == {"Genomic instability and mutation"}


def test_spans_of_a_hallmark_are_its_own_sentences_in_the_same_order_in_every_process(tmp_path):
    first, second = read_set(written(tmp_path / "hoc.parquet", ABSTRACTS)).texts
    assert (first.text, first.labels) == ("We studied cells . They died . The end .", (GROWTH, CELL))
    assert first.spans == {GROWTH: [(19, 30)], CELL: [(19, 30), (31, 40)]}
    assert first.sentences == [(0, 18), (19, 30), (31, 40)]
    assert (second.labels, second.spans, second.question) == ((), {}, None)
    names = [f"Hallmark {letter}" for letter in "abcdefgh"]
    row = {"pmid": "1", "split": "train", "sentences": ["One ."], "sentence_labels": [[f"{name}--" for name in names]]}
    assert list(read_set(written(tmp_path / "many.parquet", [row])).texts[0].spans) == names


def test_the_question_of_a_trial_is_its_second_text(tmp_path):
    trials = read_set(written(tmp_path / "trials.parquet", [TRIAL]))
    (only,) = trials.texts
    assert only.question == "pain: Drug compared with placebo" and trials.form.paired and not trials.form.multi_label
    assert (only.record_id, only.group, only.labels) == ("7", "PMC1", ("significantly decreased",))
    assert [only.text[a:b] for a, b in only.marks] == ["Pain fell (P < 0.01)."]
    assert only.sentences == [(0, 16), (17, 38), (39, 51)]


def test_silver_marks_of_a_report_are_the_names_of_its_site_and_the_phrases_of_the_list(tmp_path):
    path = written(tmp_path / "tcga" / "reports_ocr.parquet", REPORTS)
    with pytest.raises(ConfigError, match="need the list"):
        read_set(path)
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "reportability_keywords.txt").write_text("oat cell tumor|Positive\nNo oat cell tumor|Negative\n")
    reports = read_set(path)
    first, last = reports.texts
    assert reports.form.silver and [first.text[a:b] for a, b in first.marks] == ["Lung", "left upper lobe", "oat cell tumor"]
    # Of two reports with the same words that of test stays, and a report without a site teaches nothing.
    assert (first.record_id, last.record_id, last.group, last.split) == ("pdf-ocr/a", "pdf-ocr/c", "p2", "test")
    written(
        tmp_path / "tcga" / "reports_textract_t14.parquet", [{**REPORTS[0], "ocr_source": "aws-textract", "text": "Lung, new"}]
    )
    more = read_set(path)
    assert [each.record_id for each in more.texts] == ["pdf-ocr/a", "pdf-ocr/c", "aws-textract/a"]
    (tmp_path / "registry" / "reportability_keywords.txt").write_text("oat cell tumor|Positive\n")
    # The digest is of all files that were read.
    assert len({reports.digest, more.digest, read_set(path).digest}) == 3


def test_silver_marks_of_an_abnormal_chest_x_ray_are_the_heads_of_its_codes(tmp_path):
    ill, well = read_set(written(tmp_path / "reports.parquet", CHESTS)).texts
    assert (ill.text, ill.labels) == ("Heart large. Two nodules.", ("abnormal",))
    assert [ill.text[a:b] for a, b in ill.marks] == ["nodules"]
    assert (well.record_id, well.split, well.labels, well.spans) == ("3", "valid", ("normal",), {"normal": []})


def test_texts_are_drawn_by_their_ids_and_stay_in_order(tmp_path):
    texts = read_set(written(tmp_path / "reports.parquet", CHESTS[:2])).texts
    assert draw(texts, 0) == [0, 1] and len(draw(texts, 1)) == 1
    assert [texts[::-1][number] for number in draw(texts[::-1], 1)] == [texts[number] for number in draw(texts, 1)]


def test_mistakes_in_the_data_are_one_line(tmp_path):
    (tmp_path / "labels.csv").write_text("report_id,text\n1,Pain\n")
    moved = [{**TRIAL, "evidence": [{"start": 16, "end": 37, "text": "Pain fell (P < 0.01)."}]}]
    beyond = [{**TRIAL, "evidence": [{"start": len(TRIAL["text"]) - 3, "end": 999, "text": TRIAL["text"][-3:]}]}]
    dev = [ABSTRACTS[0], {**ABSTRACTS[1], "split": "dev"}]
    cases = {
        "none.parquet is no Parquet file": str(tmp_path / "none.parquet"),
        "labels.csv is no Parquet file": str(tmp_path / "labels.csv"),
        "none of the sets hoc, evidence": written(tmp_path / "x.parquet", [{"a": 1}]),
        "with a split that is none of train, valid, test: 1": written(tmp_path / "dev.parquet", dev),
        "with a split that is none of train, valid, test: 2": written(
            tmp_path / "no.parquet", [{**each, "split": None} for each in CHESTS[:2]]
        ),
        "prompt 7 is not where": written(tmp_path / "moved.parquet", moved),
        "is not where the file says": written(tmp_path / "beyond.parquet", beyond),
    }
    for message, path in cases.items():
        with pytest.raises(ConfigError, match=message) as caught:
            read_set(path)
        assert "\n" not in str(caught.value) and "Pain" not in str(caught.value)
