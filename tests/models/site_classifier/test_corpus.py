from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.models.code_calibrating import gold
from engine.models.code_task import Task
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.corpus import ReportSurvey
from engine.models.site_classifier.examples import marked_tokens
from tests.models.test_code_corpus import ROWS


def write(folder, **changes):
    pl.DataFrame({**ROWS, **changes}).write_parquet(folder / "reports.parquet")
    return DataConfig(path=str(folder / "reports.parquet"))


def test_label_sets_come_from_train_and_count_real_reports(tmp_path):
    survey = ReportSurvey.of(write(tmp_path))
    assert survey.pairs == {("C18", "8140/3")} and survey.counts == {"real train": 2, "real valid": 1}
    assert survey.labels == {"site": (("C18", "C34"), (1, 1)), "histology": (("8140/3",), (1,))}


def test_synthetic_reports_are_in_train_only_and_give_no_support(tmp_path):
    config = write(tmp_path)
    config = DataConfig(path=config.path, synthetic=50)
    examples = ReportSurvey.of(config).examples()
    synthetic = [row for row in examples.to_pylist() if row["kind"] == "synthetic"]
    assert len(synthetic) == 50
    assert {row["split"] for row in synthetic} == {"train"}
    labels, support = ReportSurvey.of(config).labels["site"]
    assert len(labels) > 2
    assert sum(support) == 2


def test_lists_of_codes_and_a_second_text(tmp_path):
    config = write(tmp_path, site=[["C18", "C34"], ["C34"], [], ["C50"], None], question=["a", "b", "c", "d", None])
    config = DataConfig(path=config.path, multi_label=["site"], pair="question")
    examples = ReportSurvey.of(config).examples()
    assert examples["site"].to_pylist() == [["C18", "C34"], ["C34"], ["C50"]]
    assert examples["pair"].to_pylist() == ["a", "b", "d"]
    assert ReportSurvey.of(config).labels["site"] == (("C18", "C34"), (1, 2))


def test_named_tasks_replace_the_default_ones(tmp_path):
    pl.DataFrame(
        {"record_id": ["a"], "text": ["Colon."], "code": ["C18"], "split": ["train"], "patient_id": ["p"]}
    ).write_parquet(tmp_path / "one.parquet")
    assert ReportSurvey.of(DataConfig(str(tmp_path / "one.parquet"), labels={"site": "code"})).labels == {
        "site": (("C18",), (1,))
    }
    with pytest.raises(ConfigError, match="no column site, histology"):
        ReportSurvey.of(DataConfig(str(tmp_path / "one.parquet"))).examples()


def test_synthetic_reports_do_not_go_with_pairs(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.synthetic"):
        ReportSurvey.of(DataConfig(path=write(tmp_path).path, pair="record_id", synthetic=5)).examples()


def test_a_single_code_is_refused_where_lists_are_expected(tmp_path):
    with pytest.raises(ConfigError, match="lists of it"):
        ReportSurvey.of(DataConfig(path=write(tmp_path).path, multi_label=["site"])).examples()


def test_highlights_give_train_samples_that_no_label_set_counts(tmp_path):
    marks = [[{"start": 0, "end": 2}], None, None, [{"start": 0, "end": 4}], None]
    config = replace(write(tmp_path, marks=marks), rationales="marks", samples=("rationale", "complement"))
    examples = ReportSurvey.of(config).examples()
    assert [(r["record_id"], r["kind"], r["text"], r["site"]) for r in examples.to_pylist() if r["kind"] != "real"] == [
        ("a#rationale0", "rationale", "on", "C18"),
        ("a#complement0", "complement", "e", "C18"),
    ]
    assert ReportSurvey.of(config).labels == ReportSurvey.of(replace(config, rationales=None)).labels
    pl.DataFrame({"record_id": ["a", "b"], "start": [0, 1], "end": [2, 9]}).write_parquet(tmp_path / "side")
    side = replace(config, rationales=None, rationale_table=str(tmp_path / "side"))
    assert [row["reason"] for row in ReportSurvey.of(side).rejected.to_pylist()] == ["outside_report"]
    with pytest.raises(ConfigError, match="name one of them"):
        ReportSurvey.of(replace(side, rationales="marks")).examples()


def test_gold_as_numbers():
    one = Task("site", ("C18", "C34"), (1, 1))
    many = Task("site", ("C18", "C34"), (1, 1), multi_label=True)
    assert gold(["C34", None, "C99"], one).tolist() == [1, -1, -1]
    assert gold([["C34", "C99"], None, []], many).tolist() == [[0, 1], [-1, -1], [0, 0]]


def test_marked_tokens_are_those_of_words_that_a_highlight_touches():
    tokens = SimpleNamespace(word_start=np.array([0, 4, 9]), word_end=np.array([3, 8, 12]), word_of_token=np.array([0, 1, 1, 2]))
    marks = [{"start": 5, "end": 6}, {"start": -1, "end": 2}, {"start": 9, "end": 13}]
    assert marked_tokens(tokens, marks, 12).tolist() == [False, True, True, False]


def damage(path, column):
    """Overwrites half of a column's pages, which the footer does not show."""
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(column)
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
    middle, end = start + chunk.total_compressed_size // 2, start + chunk.total_compressed_size
    data[middle:end] = b"\xff" * (end - middle)
    path.write_bytes(data)


def test_a_damaged_page_is_refused_by_the_files_name(tmp_path):
    rng = np.random.default_rng(1)
    words = [" ".join(rng.choice(["left", "lung", "tumor"], 90)) for _ in range(5)]
    path = tmp_path / "reports.parquet"
    pq.write_table(pa.table({**ROWS, "text": words}), path, compression="zstd")
    damage(path, 1)
    with pytest.raises(ConfigError, match=r"^data\.path: reports\.parquet cannot be read as Parquet; write it again"):
        ReportSurvey.of(DataConfig(path=str(path))).examples()
    side = tmp_path / "side.parquet"
    marks = {"record_id": [word[:99] for word in words], "start": range(5), "end": range(1, 6)}
    pq.write_table(pa.table({name: list(values) for name, values in marks.items()}), side, compression="zstd")
    damage(side, 0)
    config = replace(write(tmp_path), rationale_table=str(side))
    with pytest.raises(ConfigError, match=r"^data\.rationale_table: .*side\.parquet cannot be read as Parquet; write it again$"):
        ReportSurvey.of(config).examples()


def test_csv_and_jsonl_give_what_parquet_gives(tmp_path):
    columns = {"site": [["C18", "C34"], ["C34"], ["C18"], [], None], "leak": [True, False, None, False, True]}
    columns["marks"] = [[{"start": 0, "end": 2}], None, None, [], None]
    more = {"multi_label": ["site"], "rationales": "marks", "leak": "leak", "synthetic": 0}
    first = replace(write(tmp_path, **columns), **more)
    frame = pl.read_parquet(first.path)
    frame.write_ndjson(tmp_path / "reports.jsonl")
    cells = frame.with_columns(
        site=pl.Series(["C18; C34", "C34", "C18", "[]", None]),
        marks=pl.Series(['[{"start": 0, "end": 2}]', None, None, "[]", None]),
    )
    cells.write_csv(tmp_path / "reports.csv", separator=";")
    expected = ReportSurvey.of(first).examples()
    assert expected["site"].to_pylist()[:3] == [["C18", "C34"], ["C34"], []] and expected["leak"].to_pylist()[:2] == [True, False]
    for name, dialect in (("reports.jsonl", {}), ("reports.csv", {"delimiter": ";"})):
        config = replace(first, path=str(tmp_path / name), **dialect)
        examples = ReportSurvey.of(config).examples()
        assert examples.drop_columns("source").equals(expected.drop_columns("source"))
        assert set(examples["source"].to_pylist()) == {name}
        assert ReportSurvey.of(config).labels == ReportSurvey.of(first).labels


def highlighted(folder, texts, sites, mark):
    """Four reports, two of train, one of test and one of valid; the first has a highlight."""
    columns = {"record_id": list("abcd"), "text": texts, "site": sites, "patient_id": list("abcd")}
    split = {"split": ["train", "train", "test", "valid"], "marks": [[mark], None, None, None]}
    pl.DataFrame(columns | split).write_parquet(folder / "r.parquet")
    return DataConfig(str(folder / "r.parquet"), labels={"site": "site"}, rationales="marks")


def test_a_sample_that_is_a_report_of_a_later_split_is_refused(tmp_path):
    texts = ["Specimen. Prostate core.", "Lung.", "prostate  core.", "Skin."]
    survey = ReportSurvey.of(highlighted(tmp_path, texts, ["C61", "C34", "C61", "C44"], {"start": 10, "end": 24}))
    assert not len(survey.samples) and [row["reason"] for row in survey.rejected.to_pylist()] == ["other_split"]
    assert survey.lines() == ["highlights: no samples for train; not used: 1 other_split"]


def test_words_that_are_highlighted_everywhere_are_all_used_and_whole_reports_are_counted(tmp_path):
    """37 highlights of one word, each highlighted in valid or test too, and one that is a whole report but for a full stop."""
    rows = []
    for split in ("train", "valid", "test"):
        for number in range(37):
            text = f"{split} {number}: shows tumour{number} here"
            mark = {"start": text.index("tumour"), "end": len(text) - 5}
            if split == "train" or number % 2 == (split == "test"):
                rows.append({"record_id": f"{split}{number}", "text": text, "split": split, "marks": [mark]})
    for split, before in (("train", "Specimen. "), ("valid", "")):
        text = f"{before}Prostate core, left lobe, benign."
        mark = {"start": len(before), "end": len(text) - 1}
        rows.append({"record_id": f"{split} copy", "text": text, "split": split, "marks": [mark]})
    table = pl.DataFrame(rows).with_columns(site=pl.lit("C61"), patient_id="record_id")
    table.write_parquet(tmp_path / "r.parquet")
    survey = ReportSurvey.of(DataConfig(str(tmp_path / "r.parquet"), labels={"site": "site"}, rationales="marks"))
    assert sorted(survey.samples["text"].to_pylist()) == sorted(f"tumour{number}" for number in range(37))
    assert survey.lines() == ["highlights: 37 rationales for train; not used: 1 other_split"]
    assert survey.unused == {"other_split": 1}


def test_reports_of_a_later_split_are_left_out_with_a_message(tmp_path):
    texts = ["Colon.", "Lung.", "colon. ", "Skin."]
    config = highlighted(tmp_path, texts, ["C18", "C34", "C18", "C44"], {"start": 0, "end": 5})
    survey = ReportSurvey.of(config)
    assert survey.lines() == [
        "left out because the same text is in a later split: 1 of train",
        "highlights: no samples for train",
    ]
    assert survey.labels == {"site": (("C34",), (1,))} and not len(survey.samples)
    assert sorted(ReportSurvey.of(config).examples()["record_id"].to_pylist()) == ["b", "c", "d"]
    side = pl.DataFrame({"record_id": ["a"], "start": [0], "end": [5]})
    side.write_parquet(tmp_path / "side")
    # The report of its highlight exists, though it is left out.
    beside = DataConfig(config.path, labels={"site": "site"}, rationale_table=str(tmp_path / "side"))
    assert not len(ReportSurvey.of(beside).rejected)
