"""What the page says of entities is what the metrics say."""

import re

import pytest

from engine.pages.evaluation import write_evaluation_page
from tests.evaluation.found import found_row
from tests.evaluation.test_entities import A, B, evaluated


def write(tmp_path, found):
    write_evaluation_page(str(tmp_path / "r.html"), "Title", found, deciding=(), level=0.9)
    return (tmp_path / "r.html").read_text("utf-8").split("</style>")[1]


def cells(page, title):
    """The rows of the table under a title, cells without their markup."""
    rows = re.findall(r"<tr>(.*?)</tr>", page.split(f">{title}<")[1].split("</table>")[0])
    return [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", row)] for row in rows][1:]


def test_the_first_sentence_says_how_many_are_found_and_right(tmp_path):
    page = write(tmp_path, evaluated())
    assert "Of 24 marked mentions, <strong>25.0%</strong> were found, from the first character to the last" in page
    assert "Of 24 that were found, <strong>25.0%</strong> are right. If any overlap is enough, it is 50.0% and 50.0%." in page
    for tile, value in (("records compared", 6), ("mentions marked", 24), ("mentions found", 24)):
        assert f"<b>{value}</b><span>{tile}</span>" in page
    assert "failed: not answered" not in page
    assert "<b>14.3%</b><span>failed: not answered</span>" in write(tmp_path, evaluated(extra=[found_row("x", None)]))


def test_all_types_each_of_them_and_the_errors(tmp_path):
    page = write(tmp_path, evaluated(slices=["ward"]))
    assert ["found, of all marked", "25.0%", "", "24"] in cells(page, "All types together")
    assert cells(page, "Type by type") == [
        [A, "12", "18", "50.0%", "33.3%", "40.0%", "", "80.0%"],
        [B, "12", "6", "0.0%", "0.0%", "0.0%", "0.0% to 62.9%", "0.0%"],
    ]
    assert ["wrong start, right end", "6", "25.0%"] in cells(page, "Errors") and len(cells(page, "Errors")) == 4
    assert cells(page, "Other types at the same words") == [[f"{B} found as {A}", "6", "12"]]
    assert "F1 by ward" in page and "Too few for a figure: x (21 of 3 patients), y (21 of 3 patients)." in page


def test_errors_stand_by_their_ids_and_places(tmp_path):
    page = write(tmp_path, evaluated())
    assert "The 24 errors by record, highest scores first" in page and "They are also in wrong/wrong.parquet" in page
    rows = cells(page, "The 24 errors by record, highest scores first")
    assert rows[0] == ["r0", "wrong start, right end", "A 20–30", "A 22–30", "80.0%", "B 2.0 behind"]
    assert rows[6] == [
        "r0",
        "the right words under another type",
        "B 40–50",
        "A 40–50 negated",
        "70.0%",
        "B 1.0 ahead of this one",
    ]
    assert rows[23] == ["r5", "marked, and nothing like it was found", "B 60–70", "", "", ""]


def test_scores_margins_and_evidence(tmp_path):
    page = write(tmp_path, evaluated())
    assert (
        "The dot is this run: all kept, 75.0% wrong." in page
        and "One dot for each of 1 equal parts of the found mentions" in page
    )
    assert "tells right from wrong in 100% of pairs" in page
    assert "the nearest other type is the right one in 100.0% of 6." in page
    assert ["weight of the evidence on words of the text", "60.0%", "", "12"] in cells(page, "Where the evidence lies")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"marked": []}, "No mention of the types that the run looks for is marked."),
        ({"found": []}, "<strong>0.0%</strong> were found"),
        ({"group": "ward"}, "24 marked mentions: too few for a figure."),
        ({"found": [(0, 10, A)], "marked": [(0, 10, A)]}, "<h2>Errors</h2></header><p>None.</p>"),
    ],
)
def test_what_is_not_there_leaves_no_trace(tmp_path, more, told):
    page = write(tmp_path, evaluated(**more))
    assert told in page and "None" not in page.replace("<p>None.</p>", "") and "nan" not in page.split()
