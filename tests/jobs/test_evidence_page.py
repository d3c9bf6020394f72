"""`jobs.evidence_page` on runs of every table that has pages."""

import re
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq

from engine.pages.examples import IN_TURN, Choice
from engine.records import FINDINGS, IMAGES, records_schema
from engine.sources import InputConfig
from jobs.evidence_page import main, write_page
from tests.pages.studies import SCHEMA, image, png, readers, row


def write(run, texts, path, *more):
    return main.run([f"input.path={texts}", f"output.path={run.output}", f"page.path={path}", *more])


def cards(path):
    return re.findall(r'<article id="r\d+" data-decision="(\w+)" .*?<h2>\d+\. (.*?)</h2>', path.read_text("utf-8"))


def test_codes_with_what_must_be_looked_at_first(coded_run, tmp_path, capsys):
    assert write(coded_run, coded_run.reports, tmp_path / "page.html", "page.reports=9") == 0
    assert f"{tmp_path}/page.html: 9 reports with their evidence" in capsys.readouterr().out
    decisions = [decision for decision, _ in cards(tmp_path / "page.html")]
    assert len(decisions) == 9 and decisions == sorted(decisions, key=IN_TURN.index)


def test_entities_with_the_least_sure_first(found_run, tmp_path):
    texts = f"{found_run.folder}/*.txt"
    assert write(found_run, texts, tmp_path / "page.html", "page.order=least_sure", "page.reports=3") == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert cards(tmp_path / "page.html")[0] == ("review", "n3.txt") and "to be checked" in page and "to review" not in page
    assert "3 entities one by one, the least certain first" in page and "words that decided" in page
    assert ">Drug</mark>" in page and "Report 3: patient 1" in re.sub(r"<[^>]*>", "", page)


def test_some_entities_by_id_and_none_of_a_reason(found_run, tmp_path, capsys):
    texts = f"{found_run.folder}/*.txt"
    assert write(found_run, texts, tmp_path / "page.html", "page.ids=[n5.txt]") == 0
    assert [name for _, name in cards(tmp_path / "page.html")] == ["n5.txt"]
    assert write(found_run, texts, tmp_path / "other.html", "page.decision=failed") == 2
    assert "the run has no such report" in capsys.readouterr().err and not (tmp_path / "other.html").exists()


def test_studies_with_their_images(tmp_path, monkeypatch):
    readers(monkeypatch)
    data = png()
    rows = [row(record_id="s1", images=[image(data=data)]), row(record_id="s2", position=4, images=[image(data=b"other")])]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "part.parquet")
    files = [{"source": "a.png", "path": "a.png", "size": len(data), "version": "", "data": data}]
    studies = [
        {"row": at, "record_id": name, "source": rows[0]["source"], "position": at + 3, "images": files, "keep": {}}
        for at, name in enumerate(["s1", "s2"])
    ]
    records = [pa.Table.from_pylist(studies, schema=records_schema(payload=IMAGES))]
    monkeypatch.setattr("jobs.evidence_page._records", lambda config, names: iter(records))
    summary = SimpleNamespace(
        files=[str(tmp_path / "part.parquet")], table=FINDINGS, records=2, decisions={"review": 2}, run_id="r", settings={}
    )
    assert write_page(summary, InputConfig("studies"), str(tmp_path / "page.html"), Choice(), "Evidence") == 2
    page = (tmp_path / "page.html").read_text("utf-8")
    assert [name for _, name in cards(tmp_path / "page.html")] == ["s1", "s2"]
    assert page.count("data:image/jpeg;base64,") == 1 and page.count("not the one that was read in the run") == 1
