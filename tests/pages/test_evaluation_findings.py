"""What the page says of findings is what the metrics say."""

from engine.pages.evaluation import write_evaluation_page
from tests.evaluation.test_findings import figures, studies
from tests.pages.test_evaluation_entities import cells


def test_all_labels_and_each_of_them(tmp_path):
    write_evaluation_page(str(tmp_path / "r.html"), "Title", figures(*studies()), deciding=(), level=0.95)
    page = (tmp_path / "r.html").read_text("utf-8")
    assert ["area under the ROC curve (AUC), every label with equal weight", "0.62", "", "66"] in cells(
        page, "All labels together"
    )
    assert cells(page, "Label by label") == [
        ["air", "24", "", "", "", "1.00", ""],
        ["fluid", "24", "0.75", "", "0.83", "0.50", "0.00"],
        ["heart", "18", "0.50", "", "0.83", "0.50", "-0.50"],
    ]
    assert "<b>24</b><span>studies compared</span>" in page and "air: gold lacks yes or no" in page
