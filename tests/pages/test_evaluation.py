"""The frame of every page of an evaluation: whatever was measured, it stands alone."""

import pytest

from engine.pages.evaluation import write_evaluation_page
from tests.evaluation.test_entities import evaluated
from tests.evaluation.test_findings import figures as of_findings
from tests.evaluation.test_findings import studies
from tests.pages.test_evaluation_codes import evaluation

EVALUATIONS = {"codes": evaluation, "entities": evaluated, "findings": lambda: of_findings(*studies())}


@pytest.fixture(params=EVALUATIONS)
def page(request, tmp_path):
    write_evaluation_page(
        str(tmp_path / "r.html"), "Title <x>", EVALUATIONS[request.param](), deciding=("site",), level=0.95, note="run <a>"
    )
    return (tmp_path / "r.html").read_text("utf-8")


def test_nothing_runs_and_nothing_is_fetched(page):
    for word in ("<script", "<img", "<link", "href=", "src=", "url(", "@import"):
        assert word not in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_title_note_and_how_to_read_it_are_there(page):
    assert "<h1>Title &lt;x&gt;</h1>" in page and "run &lt;a&gt;" in page
    assert "How to read this" in page and "fewer than 6 patients" in page
    told = page.split("</style>")[1].replace("<p>None.</p>", "")
    assert "None" not in told and "nan" not in told.split()
