"""`jobs.evidence_page` on runs of every table that has pages."""

import re

from engine.pages.examples import IN_TURN
from jobs.evidence_page import main


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
