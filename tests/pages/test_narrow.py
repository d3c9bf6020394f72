"""What a browser makes of the pages, on a telephone and on a desk: nothing is cut off, and letters are large enough to read."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.pages.evaluation import write_evaluation_page
from engine.pages.findings import write_findings_page
from engine.pages.training import write_training_page
from tests.evaluation.test_entities import evaluated
from tests.pages.studies import concept, image, label, picture, row, study
from tests.pages.test_audit import LABEL, written
from tests.pages.test_evaluation_codes import evaluation, write, wrong_rows

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium, to lay the pages out")

# The page cannot run scripts, so the one around it measures; headless windows are at least 500 pixels wide, frames are not.
_MEASURE = """
onload = () => {
  const page = document.querySelector("iframe").contentDocument, inside = page.defaultView.innerWidth
  const box = each => each.getBoundingClientRect(), whole = box(page.documentElement)
  const cut = (each, around) => box(each).left < around.left - 0.5 || box(each).right > around.right + 0.5
    || box(each).top < around.top - 0.5 || box(each).bottom > around.bottom + 0.5
  const cells = [...page.querySelectorAll("td")].filter(each => each.textContent.trim())
  const letters = [...page.querySelectorAll("svg text")]
  const told = {
    width: inside, needed: page.documentElement.scrollWidth, cells: cells.length, letters: letters.length,
    scrolled: [...page.querySelectorAll(".scroll")].filter(each => each.scrollWidth > each.clientWidth).length,
    cut: cells.filter(each => !box(each).width || cut(each, whole) || each.scrollWidth > each.clientWidth).length,
    named: cells.filter(each => getComputedStyle(each, "::before").content.length > 4).length,
    outside: letters.filter(each => cut(each, box(each.ownerSVGElement))).map(each => each.textContent),
    smallest: Math.min(...letters.map(each => parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a)),
    overlaps: letters.flatMap((one, at) => letters.slice(at + 1).filter(other =>
      one.ownerSVGElement == other.ownerSVGElement && box(one).left < box(other).right && box(other).left < box(one).right
      && box(one).top < box(other).bottom - 4 && box(other).top < box(one).bottom - 4
    ).map(other => [one.textContent, other.textContent])),
  }
  document.title = JSON.stringify(told)
}
"""


def measured(page: str, width: int, folder: Path) -> dict:
    # Without it a telephone lays out a page as wide as a desk.
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    page = page.replace("<details>", "<details open>")
    frame = f'<iframe srcdoc="{html.escape(page)}" style="border:0;width:{width}px;height:900px"></iframe>'
    (folder / "around.html").write_text(f'<!doctype html><meta charset="utf-8">{frame}<script>{_MEASURE}</script>', "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder / 'user'}"]
    address = (folder / "around.html").as_uri()
    done = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, timeout=100)
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1]))


def check(told: dict, width: int) -> None:
    assert (told["width"], told["needed"]) == (width, width)
    assert (told["scrolled"], told["cut"], told["outside"], told["overlaps"]) == (0, 0, [], [])
    assert told["letters"] > 10 and told["smallest"] > 10.5


@pytest.mark.parametrize("width", [400, 1280])
def test_no_figure_of_an_evaluation_is_cut_off(tmp_path, width):
    rows = wrong_rows(3, record_id="hospital-of-a-long-name/2024/" + "0" * 60, reasons=["low_margin", "low_confidence"])
    page = write(tmp_path, evaluation(wrong=rows), auto={"site": ["C50"]})
    told = measured(page, width, tmp_path)
    check(told, width)
    # On a narrow page each figure has its column's name above it; the first cell of a row is the card's title.
    assert told["cells"] > 60 and (told["named"] > 40 if width == 400 else told["named"] == 0)


@pytest.mark.parametrize("width", [400, 1280])
def test_no_figure_of_entities_is_cut_off(tmp_path, width):
    path = tmp_path / "entities.html"
    found = evaluated(types={"A": "A_rather_long_name_of_a_type"}, slices=["ward"])
    write_evaluation_page(str(path), "How good", found, deciding=(), level=0.95)
    told = measured(path.read_text("utf-8"), width, tmp_path)
    check(told, width)
    assert told["cells"] > 60


@pytest.mark.parametrize("width", [400, 1280])
def test_the_curves_of_a_training_can_be_read(tmp_path, width):
    curve = [
        {"step": epoch, "epoch": float(epoch), "loss_all": 1.2345 / epoch, "loss_histology": 0.0012, "valid_macro_f1_site": 0.5}
        for epoch in range(1, 8)
    ]
    write_training_page(tmp_path / "curve.html", "How the training went", [*curve, {"step": 7, "epoch": 7.0, "best_epoch": 5.0}])
    check(measured((tmp_path / "curve.html").read_text("utf-8"), width, tmp_path), width)


@pytest.mark.parametrize("width", [400, 1280])
def test_no_figure_of_a_study_or_an_audit_is_cut_off(tmp_path, width):
    long = "heart" * 30
    rows = {
        "labels": [*row()["labels"], label(long, 0.5)],
        "concepts": [*row()["concepts"], concept("Cardiomegaly", 5, 0.1, long)],
    }
    three = study([picture(400, 300)] * 3, images=[image()] * 3, record_id="s" * 90, **rows)
    write_findings_page(str(tmp_path / "f.html"), "Evidence", [study(**rows), three], {"records": 2, "review": 2})
    for page in ((tmp_path / "f.html").read_text("utf-8"), written(LABEL)):
        told = measured(page, width, tmp_path)
        assert (told["width"], told["needed"], told["scrolled"], told["cut"]) == (width, width, 0, 0)
        assert told["cells"] > 15
