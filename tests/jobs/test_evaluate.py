"""`jobs.evaluate` as a user starts it, on a finished run."""

import html
import html.parser
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.evaluation.findings import box_metrics, figures
from engine.evaluation.metrics import Rounds
from engine.records import METRICS
from engine.storage import storage_for
from jobs.evaluate import main
from tests.evaluation.test_findings import studies

ROOT = Path(__file__).parents[2]


def evaluate(run, output, *more):
    return main.run([f"run={run.output}", f"gold={run.reports}", f"output.path={output}", "rounds=50", *more])


def metrics(output):
    table = pl.read_parquet(output / "metrics" / "metrics.parquet")
    return {(row["task"], row["metric"], row["slice"]): row for row in table.iter_rows(named=True)}


@pytest.fixture(scope="module")
def evaluated(coded_run, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated") / "evaluation"
    more = ["group=patient", "slices=[facility,split]", "text=text", f"model.path={coded_run.model}"]
    more += ["spans={site: evidence_site, histology: evidence_histology}", "title=How <good>"]
    assert evaluate(coded_run, output, *more) == 0
    return output


def test_the_figures_are_those_of_the_tables(coded_run, evaluated):
    found = metrics(evaluated)
    gold = pl.read_parquet(coded_run.reports).select("record_id", site_gold="site", split="split")
    both = coded_run.codes.join(gold, on="record_id")
    answered = both.filter(pl.col("decision") != "failed")
    right = (answered["site_code"] == answered["site_gold"]).mean()
    accuracy = found["site", "accuracy", "all"]
    assert (accuracy["value"], accuracy["n"]) == (pytest.approx(right), 59)
    assert accuracy["ci_lo"] <= right <= accuracy["ci_hi"]
    assert found["site", "answered", "all"]["value"] == pytest.approx(59 / 60)
    auto = (both["decision"] == "auto").mean()
    assert found["site", "auto_share", "all"]["value"] == pytest.approx(auto)
    assert found[None, "failed_share", "all"]["value"] == pytest.approx(1 / 60)
    train = answered.filter(pl.col("split") == "train")
    row = found["site", "accuracy", "split=train"]
    assert (row["value"], row["n"]) == (pytest.approx((train["site_code"] == train["site_gold"]).mean()), train.height)
    assert {part.partition("=")[0] for _, _, part in found} >= {"facility", "length", "site", "bin", "target", "coverage"}
    checked = coded_run.codes["site_comprehensiveness"].drop_nulls()
    assert checked.len() > 5
    assert found["site", "comprehensiveness", "all"]["value"] == pytest.approx(checked.mean(), rel=1e-5)


def test_the_wrong_answers_are_those_of_the_tables(coded_run, evaluated):
    wrong = pl.read_parquet(evaluated / "wrong" / "wrong.parquet")
    gold = pl.read_parquet(coded_run.reports).select(
        "record_id",
        "split",
        "facility",
        pl.col("patient").cast(pl.String),
        gold_site="site",
        gold_histology="histology",
    )
    both = coded_run.codes.drop("facility").join(gold, on="record_id").filter(pl.col("decision") != "failed")
    for task in ("site", "histology"):
        rows = both.filter(pl.col(f"{task}_code") != pl.col(f"gold_{task}"))
        expected = rows.select(
            "record_id",
            "decision",
            "reasons",
            code=f"{task}_code",
            gold=f"gold_{task}",
            prob=f"{task}_prob",
            task_decision=f"{task}_decision",
            task_reasons=f"{task}_reasons",
            group="patient",
            slice_facility="facility",
            slice_split="split",
        ).sort("record_id")
        message = wrong.filter(pl.col("task") == task).select(expected.columns).sort("record_id")
        assert message.equals(expected) and message.height > 10
    keys = wrong.select(pl.col("decision") != "auto", -pl.col("prob")).rows()
    assert keys == sorted(keys)
    page = (evaluated / "report.html").read_text("utf-8")
    assert f"{wrong.filter(pl.col('task') == 'site').height} wrong answers by record" in page
    assert html.escape(wrong["record_id"][0]) in page


def test_evidence_is_held_against_marked_words(evaluated):
    found = metrics(evaluated)
    for name in ("cov_topk", "cov_mass", "cov_lift", "auprc"):
        assert found["site", name, "all"]["value"] >= 0
        assert found["site", name, "all"]["n"] == found["site", f"random_{name}", "all"]["n"] > 20
    assert found["site", "random_cov_lift", "all"]["value"] == pytest.approx(1.0, abs=0.5)


def test_labels_that_the_model_does_not_know_are_counted(coded_run, evaluated):
    sites = pl.read_parquet(coded_run.reports)["site"]
    unknown = sites.filter(~sites.is_in(["C18", "C34", "C50", "C61"])).len()
    assert metrics(evaluated)["site", "unknown_label", "all"]["value"] == unknown > 0


def test_every_metric_and_column_is_in_the_data_dictionary(evaluated):
    chapter = (ROOT / "docs" / "data-dictionary.md").read_text("utf-8").split("\n## metrics\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([^`]+)` \|", chapter, re.MULTILINE)
    assert listed[: len(METRICS)] == METRICS.names
    assert {metric for _, metric, _ in metrics(evaluated)} <= set(listed[len(METRICS) :])
    assert len(listed) == len(set(listed))


def test_every_metric_of_findings_is_in_the_data_dictionary():
    whole = (ROOT / "docs" / "data-dictionary.md").read_text("utf-8")
    listed = re.findall(r"^\| `([^`]+)` \|", whole.split("\n## metrics\n")[1].split("\n## ")[0], re.MULTILINE)
    boxes = box_metrics([[(0, 0, 1, 1)]] * 6, [[(1.0, (0, 0, 1, 1))]] * 6, np.arange(6), Rounds(10))
    assert {m.metric for m in [*figures(*studies()).metrics, *boxes]} <= set(listed)


def test_the_report_lists_the_codes_that_can_be_coded_without_a_person(coded_run, evaluated, tmp_path):
    page = (evaluated / "report.html").read_text("utf-8")
    # C61 has three training reports.
    assert "3 codes can be coded without a person. Of 59 right codes of answered records, " in page
    known, rare = page.split("codes can be coded without a person")[1].split("The other ")[:2]
    assert "C34 lung" in known and "C61" not in known and "C61 prostate" in rare.split("</p>")[0]
    assert evaluate(coded_run, tmp_path / "e") == 0
    assert "codes can be coded without a person" not in (tmp_path / "e" / "report.html").read_text("utf-8")


class _Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.open = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href", "data", "action", "srcset")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_stands_alone_and_holds_no_text_of_a_report(coded_run, evaluated):
    page = (evaluated / "report.html").read_text("utf-8")
    reader = _Reader()
    reader.feed(page)
    assert not reader.open and "svg" in reader.tags and reader.links == []
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(reader.tags)
    assert "url(" not in page and "@import" not in page
    assert "How &lt;good&gt;" in page and "nan" not in re.sub(r"<style>.*?</style>", "", page).lower().split()
    texts = pl.read_parquet(coded_run.reports)["text"].drop_nulls().to_list()
    pieces = {text[at : at + 40] for text in texts for at in range(0, len(text) - 40, 20)}
    assert len(pieces) > 300 and not [piece for piece in pieces if piece in html.unescape(page)]
    wrong = pl.read_parquet(evaluated / "wrong" / "wrong.parquet").write_ndjson()
    assert not [piece for piece in pieces if piece in wrong]


def test_the_terminal_tells_the_main_figures(coded_run, tmp_path, capsys):
    assert evaluate(coded_run, tmp_path / "e", "where={split: test}", f"model.path={coded_run.model}") == 0
    message = capsys.readouterr().out
    assert "40 records compared, 60 rows" in message and "coded without a person" in message
    assert "records have a code that the model does not know (C" in message and "histology (no part in the decision" in message
    wrong = pl.read_parquet(tmp_path / "e" / "wrong" / "wrong.parquet")
    counts = [
        (task, rows.height, (rows["decision"] == "auto").sum())
        for task in ("site", "histology")
        for rows in [wrong.filter(pl.col("task") == task)]
    ]
    line = ", ".join(f"{task} {every} ({unseen} coded without a person)" for task, every, unseen in counts)
    assert f"Wrong answers: {line}.\nWrong answers by record id: {tmp_path}/e/wrong/wrong.parquet" in message


def test_a_few_records_have_no_figures_in_the_terminal(coded_run, tmp_path, capsys):
    pl.read_parquet(coded_run.reports).head(6).write_parquet(tmp_path / "gold.parquet")
    more = [f"gold={tmp_path / 'gold.parquet'}", "labels={site: site}", "group=patient"]
    assert evaluate(coded_run, tmp_path / "e", *more) == 0
    message = capsys.readouterr().out
    assert "6 records compared" in message and "%" not in message.replace("95% confidence", "")
    assert re.search(r"right of all answered +too few \(5\)", message)


def test_gold_that_is_not_in_the_run_is_told_and_the_rest_goes_on(coded_run, tmp_path, capsys):
    gold = pl.read_parquet(coded_run.reports).select("record_id", "site").head(10)
    extra = pl.DataFrame({"record_id": ["nobody", gold["record_id"][0]], "site": ["C50", "C99"]})
    pl.concat([gold, extra]).write_csv(tmp_path / "gold.csv")
    assert evaluate(coded_run, tmp_path / "e", f"gold={tmp_path / 'gold.csv'}", "labels.site=site") == 0
    message = capsys.readouterr().out
    assert "9 records compared" in message
    assert "1 records of the gold table have no row" in message and "2 rows of the gold table were left out" in message


def test_marks_in_another_text_are_told_and_left_out(coded_run, tmp_path, capsys):
    table = pl.read_parquet(coded_run.reports)
    changed = pl.when(pl.int_range(60) < 7).then(pl.col("text") + " ").otherwise(pl.col("text"))
    far = pl.col("evidence_site").list.eval(pl.struct(start=pl.lit(100_000), end=pl.lit(100_001)))
    table = table.with_columns(
        text=changed, evidence_site=pl.when(pl.int_range(60) == 9).then(far).otherwise(pl.col("evidence_site"))
    )
    table.write_parquet(tmp_path / "gold.parquet")
    more = [f"gold={tmp_path / 'gold.parquet'}", "text=text", "labels={site: site}", "spans={site: evidence_site}"]
    assert evaluate(coded_run, tmp_path / "e", *more) == 0
    message = capsys.readouterr().out
    assert "6 marked texts are not the texts that were coded" in message and "1 records have marked spans outside" in message


def test_one_class_only_is_told(coded_run, tmp_path, capsys):
    table = pl.read_parquet(coded_run.reports).filter(pl.col("site") == "C50")
    table.write_parquet(tmp_path / "gold.parquet")
    assert evaluate(coded_run, tmp_path / "e", f"gold={tmp_path / 'gold.parquet'}", "labels={site: site}") == 0
    assert "every label is the same code" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["id=facility"], "if files number their records alike, set id_scope=file"),
        (["id_scope=file"], "none of 60 ids of the gold table is in the run"),
        (["labels={place: site}"], "the run has no task 'place'; it has site, histology"),
        (["labels={site: facility}"], "is a code of task site"),
        (["group=text"], "group: column 'text' has values of up to"),
        (["slices=[place]"], "has no column 'place'"),
        (["slices=[text]"], "with few different values"),
        (["gold=nowhere.csv"], "gold: "),
        (["run=nowhere"], "holds no run"),
        (["model.path=shipped"], "is not the model of this run"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_written(coded_run, tmp_path, capsys, more, message):
    known = [] if any(each.startswith("model.") for each in more) else [f"model.path={coded_run.model}"]
    assert evaluate(coded_run, tmp_path / "e", *known, *more) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "e").exists()


def test_an_evaluation_is_not_written_over(coded_run, evaluated, capsys):
    assert evaluate(coded_run, evaluated) == 2
    assert "exists; name a new folder" in capsys.readouterr().err


def of_entities(run, gold, output, *more):
    return main.run([f"run={run.output}", f"gold={gold}", f"output.path={output}", "rounds=50", *more])


def test_entities_against_standoff_beside_the_texts_that_were_read(found_run, tmp_path, capsys):
    assert of_entities(found_run, found_run.folder, tmp_path / "e") == 0
    message = capsys.readouterr().out
    assert "12 records compared, 12 marked texts; 24 mentions marked and 12 found" in message
    assert "24 found mentions have a type that is not marked in their dataset, and do not count: Drug 24." in message
    assert "Wrong mentions: 12 missed, 0 found where none is, 0 of another type, 0 with other bounds." in message
    found = metrics(tmp_path / "e")
    assert found["entities", "recall", "all"]["value"] == 0.5 and found["entities", "precision", "all"]["value"] == 1.0
    assert found["entities", "f1", "type=Sign"]["value"] == pytest.approx(2 / 3)
    assert found[None, "review_share", "all"]["value"] == pytest.approx(1 / 12)
    wrong = pl.read_parquet(tmp_path / "e" / "wrong" / "wrong.parquet")
    assert sorted(wrong["record_id"]) == sorted(f"n{number}.txt" for number in range(12)) and set(wrong["error"]) == {"missed"}
    page = (tmp_path / "e" / "report.html").read_text("utf-8")
    assert "<strong>50.0%</strong> were found" in page and "aspirin" not in page and "rash" not in page
    everything = b"".join(path.read_bytes() for path in (tmp_path / "e").rglob("*.parquet"))
    assert b"aspirin" not in everything and b"rash" not in everything


def test_entities_against_a_table_with_groups_slices_and_other_names(found_run, tmp_path, capsys):
    more = ["group=patient", "slices=[year]", "types={Drug: Sign}", "title=Which <signs>"]
    assert of_entities(found_run, found_run.table, tmp_path / "e", *more) == 0
    # With one name for both, aspirin is no sign that anybody marked.
    assert "Wrong mentions: 12 missed, 12 found where none is" in capsys.readouterr().out
    found = metrics(tmp_path / "e")
    assert found["entities", "f1", "all"]["value"] == pytest.approx(0.5)
    assert found["entities", "f1", "year=2020"]["n"] == found["entities", "f1", "all"]["n"] == 36
    wrong = pl.read_parquet(tmp_path / "e" / "wrong" / "wrong.parquet")
    assert set(wrong["group"]) == {f"p{number}" for number in range(6)} and set(wrong["slice_year"]) == {"2020"}


def test_every_metric_of_entities_is_in_the_data_dictionary(found_run, tmp_path):
    assert of_entities(found_run, found_run.folder, tmp_path / "e") == 0
    whole = (ROOT / "docs" / "data-dictionary.md").read_text("utf-8")
    listed = re.findall(r"^\| `([^`]+)` \|", whole.split("\n## metrics\n")[1].split("\n## ")[0], re.MULTILINE)
    assert {metric for _, metric, _ in metrics(tmp_path / "e")} <= set(listed)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["labels={site: site}"], "labels: is for runs with codes or findings, but this one has entities"),
        (["group=ward"], "group: neither gold nor the run has a column 'ward'"),
        (["where={split: test}"], "where: none of 12 marked texts matches"),
        (["gold=nowhere"], "gold: "),
    ],
)
def test_mistakes_about_entities_end_in_one_line(found_run, tmp_path, capsys, more, message):
    assert of_entities(found_run, found_run.folder, tmp_path / "e", *more) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "e").exists()


def test_run_gold_and_evaluation_on_s3(coded_run, tmp_path, bucket, store, capsys):
    storage = storage_for(bucket)
    for file in (path for path in coded_run.output.rglob("*") if path.is_file()):
        assert storage.create(f"{bucket}/run/{file.relative_to(coded_run.output)}", file.read_bytes())
    assert storage.create(f"{bucket}/gold/reports.parquet", coded_run.reports.read_bytes())
    there = [f"run={bucket}/run", f"gold={bucket}/gold", f"storage.endpoint={store.url}", "storage.region=us-east-1"]
    assert evaluate(coded_run, f"{bucket}/evaluation/", "group=patient", *there) == 0
    assert f"Report: {bucket}/evaluation/report.html" in capsys.readouterr().out
    assert evaluate(coded_run, tmp_path / "here", "group=patient") == 0
    theirs = pl.read_parquet(storage.read(f"{bucket}/evaluation/metrics/metrics.parquet"))
    assert theirs.equals(pl.read_parquet(tmp_path / "here" / "metrics" / "metrics.parquet"))
    names = [entry.path.removeprefix(f"{bucket}/evaluation/") for entry in storage.list(f"{bucket}/evaluation")]
    assert names == ["metrics/metrics.parquet", "report.html", "wrong/wrong.parquet"]
    theirs = pl.read_parquet(storage.read(f"{bucket}/evaluation/wrong/wrong.parquet"))
    assert theirs.equals(pl.read_parquet(tmp_path / "here" / "wrong" / "wrong.parquet"))
    assert evaluate(coded_run, f"{bucket}/evaluation", *there) == 2
    assert "exists; name a new folder" in capsys.readouterr().err
