"""The report says what the metrics say, and stands alone."""

import numpy as np

from engine.evaluation.evaluate import Evaluation
from engine.evaluation.measure import ALL, Answers, Metric, Rounds, mean_metrics, record_metrics, task_metrics
from engine.pages.evaluation import write_evaluation_page

ROUNDS = Rounds(rounds=20)


def answers(task, gold, code, decision):
    n = len(gold)
    return Answers(
        task=task,
        gold=np.array(gold),
        code=np.array(code),
        answered=np.ones(n, bool),
        prob=np.linspace(0.5, 0.99, n),
        decision=np.array(decision),
        own=np.array(decision),
        top=[[c] for c in code],
        group=np.arange(n).astype(str),
    )


def evaluation(decision=None, **more):
    decision = decision or ["auto"] * 6 + ["review"] * 4
    gold = ["C50"] * 8 + ["C34", "C34"]
    code = ["C34"] + ["C50"] * 7 + ["C34", "C18"]
    site = answers("site", gold, code, decision)
    parts = {"site": site.gold, "facility": np.array(["<i>A</i>", "B & C"] * 5)}
    metrics = task_metrics(site, parts, ROUNDS)
    metrics += mean_metrics(
        "site", {"comprehensiveness": np.full(10, 0.25), "random_comprehensiveness": np.full(10, 0.01)}, site.group, ROUNDS
    )
    metrics += record_metrics(site.decision, site.group, {"site": site.right}, np.ones(10, bool), ROUNDS)
    return Evaluation(("site",), metrics, ["3 records <gone>."], {"matched": 10, "rows": 13}, **more)


def write(tmp_path, found, deciding=("site",), **more):
    write_evaluation_page(str(tmp_path / "r.html"), "Title <x>", found, deciding=deciding, level=0.95, note="run a", **more)
    return (tmp_path / "r.html").read_text("utf-8")


def test_the_first_sentence_is_what_a_decision_needs(tmp_path):
    # Six of ten coded, five of them right; three of four suggestions right.
    page = write(tmp_path, evaluation())
    assert "Of 10 records with a known site, <strong>60.0%</strong> were coded without a person." in page
    assert "<strong>83.3%</strong> have the right site; with 95% confidence it is at least 41.8%" in page
    assert "the suggestion is right in 75.0%" in page


def test_figures_errors_codes_and_notes_are_there(tmp_path):
    page = write(tmp_path, evaluation())
    assert "80.0%" in page and "this run: 60%, 16.7% wrong" in page
    assert "The 2 commonest errors" in page and '<strong class="bad">1</strong>' in page
    assert "C50 breast" in page and "Every code (3)" in page
    assert "3 records &lt;gone&gt;." in page and "Title &lt;x&gt;" in page and "run a" in page
    assert "25.0%" in page and "Only 10 records were checked" in page
    assert "&lt;i&gt;A&lt;/i&gt;" in page and "<i>A</i>" not in page and "B &amp; C" in page


def test_the_codes_that_can_be_coded_without_a_person_are_listed_with_their_records(tmp_path):
    page = write(tmp_path, evaluation(), auto={"site": ["C18", "C50"]})
    assert "2 codes can be coded without a person. Of 10 right codes of answered records, 8 are among them: C50 breast 8." in page
    assert "The other 2 go to a person or are coded wrongly: C34 lung and bronchus 2." in page
    every = write(tmp_path, evaluation(), auto={"site": ["C34", "C50"]})
    assert "10 are among them: C50 breast 8, C34 lung and bronchus 2." in every and "The other" not in every


def test_a_task_that_is_never_sure_says_so_and_without_the_model_nothing_is_said(tmp_path):
    alone = write(tmp_path, evaluation(), deciding=(), auto={"site": []})
    assert "No code can be sure by this task&#x27;s own threshold." in alone
    assert "No code can be coded without a person." in write(tmp_path, evaluation(), auto={"site": []})
    assert "can be coded without" not in write(tmp_path, evaluation()).split("<details open>")[0]


def test_nothing_coded_is_said_plainly(tmp_path):
    page = write(tmp_path, evaluation(["review"] * 10))
    assert "Of 10 records with a known site, none was coded without a person." in page and "this run" not in page


def test_a_task_that_does_not_decide_is_measured_by_its_own_threshold(tmp_path):
    page = write(tmp_path, evaluation(), deciding=())
    assert "no part in the decision" in page and "sure enough by this task" in page and 'headline">' not in page


def test_missing_figures_leave_no_trace(tmp_path):
    bare = Evaluation(("site",), [Metric("site", "accuracy", ALL, None, None, None, 0)], [], {"matched": 0, "rows": 0})
    page = write(tmp_path, bare)
    assert "None" not in page.split("</style>")[1].replace("<p>None.</p>", "") and "nan" not in page.split("</style>")[1]


def test_nothing_runs_and_nothing_is_fetched(tmp_path):
    page = write(tmp_path, evaluation())
    for word in ("<script", "<img", "<link", "href=", "src=", "url(", "@import"):
        assert word not in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
