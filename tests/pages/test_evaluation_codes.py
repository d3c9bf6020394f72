"""The report says what the metrics say, and stands alone."""

import re

import numpy as np
import pyarrow as pa

from engine.evaluation.answers import Answers, task_metrics
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.metrics import ALL, Metric, Rounds, mean_metrics, record_metrics
from engine.pages.evaluation import write_evaluation_page
from engine.records import wrong_schema

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
        task_decision=np.array(decision),
        top=[[c] for c in code],
        group=np.arange(n).astype(str),
    )


def evaluation(decision=None, **more):
    decision = decision or ["auto"] * 12 + ["review"] * 8
    gold = ["C50"] * 16 + ["C34"] * 4
    code = ["C34", "C34"] + ["C50"] * 14 + ["C34", "C34", "C18", "C18"]
    site = answers("site", gold, code, decision)
    parts = {"site": site.gold, "facility": np.array(["<i>A</i>", "B & C"] * 8 + ["<i>A</i>", "B & C", "D", "D"])}
    metrics = task_metrics(site, parts, ROUNDS)
    metrics += mean_metrics(
        "site", {"comprehensiveness": np.full(20, 0.25), "random_comprehensiveness": np.full(20, 0.01)}, site.group, ROUNDS
    )
    metrics += record_metrics(site.decision, site.group, {"site": site.right}, np.ones(20, bool), ROUNDS)
    return Evaluation(("site",), metrics, ["3 records <gone>."], {"matched": 20, "rows": 23}, **more)


def write(tmp_path, found, deciding=("site",), **more):
    write_evaluation_page(str(tmp_path / "r.html"), "Title <x>", found, deciding=deciding, level=0.95, note="run a", **more)
    return (tmp_path / "r.html").read_text("utf-8")


def test_the_first_sentence_is_what_a_decision_needs(tmp_path):
    # Twelve of twenty coded, ten of them right; six of eight suggestions right.
    page = write(tmp_path, evaluation())
    assert "Of 20 records with a known site, <strong>60.0%</strong> were coded without a person." in page
    assert "<strong>83.3%</strong> of these have the right site; with 95% confidence it is at least 56.2%" in page
    assert "the suggestion is right in 75.0%" in page


def test_figures_errors_codes_and_notes_are_there(tmp_path):
    page = write(tmp_path, evaluation())
    assert "80.0%" in page and "The dot is this run: 60% kept, 16.7% wrong." in page
    assert "The 2 most frequent errors" in page and '<strong class="bad">2</strong>' in page
    assert "C50 breast" in page and "Every code (3)" in page
    assert "3 records &lt;gone&gt;." in page and "Title &lt;x&gt;" in page and "run a" in page
    assert "25.0%" in page and "Only 20 records were checked" in page
    assert "&lt;i&gt;A&lt;/i&gt;" in page and "<i>A</i>" not in page and "B &amp; C" in page


def test_the_codes_that_can_be_coded_without_a_person_are_listed_with_their_records(tmp_path):
    page = write(tmp_path, evaluation(), auto={"site": ["C18", "C50"]})
    assert (
        "2 codes can be coded without a person. Of 20 right codes of answered records, 16 are among them: C50 breast 16." in page
    )
    assert "The other 4 go to a person or are coded wrongly: C34 lung and bronchus 4." in page
    every = write(tmp_path, evaluation(), auto={"site": ["C34", "C50"]})
    assert "20 are among them: C50 breast 16, C34 lung and bronchus 4." in every and "The other" not in every


def test_a_task_that_is_never_sure_says_so_and_without_the_model_nothing_is_said(tmp_path):
    alone = write(tmp_path, evaluation(), deciding=(), auto={"site": []})
    assert "No code can be sure by this task&#x27;s own threshold." in alone
    assert "No code can be coded without a person." in write(tmp_path, evaluation(), auto={"site": []})
    assert "can be coded without" not in write(tmp_path, evaluation()).split("<details open>")[0]


def test_nothing_coded_is_said_plainly(tmp_path):
    page = write(tmp_path, evaluation(["review"] * 20))
    assert "Of 20 records with a known site, none was coded without a person." in page and "this run" not in page


def test_a_task_that_does_not_decide_is_measured_by_its_own_threshold(tmp_path):
    page = write(tmp_path, evaluation(), deciding=())
    assert "no part in the decision" in page and "sure enough by this task" in page and 'headline">' not in page


def test_few_records_have_their_number_and_no_figure(tmp_path):
    # Five coded, four records of C34 and two of facility D.
    page = write(tmp_path, evaluation(["auto"] * 5 + ["review"] * 15))
    assert "<strong>25.0%</strong> were coded without a person: 5 records, too few to say how often the site is right." in page
    assert "Too few for a figure: C34 (4)." in page and "Too few for a figure: D (2)." in page
    few = '<td class="num" data-label="{}"><span class="soft">too few</span></td>'
    assert few.format("figure") + '<td data-label="95% interval"></td><td class="num" data-label="out of">5</td>' in page
    codes = page.split("Every code (3)")[1]
    assert '<td class="num" data-label="records">16</td>' in codes and "C18</span>" not in codes.split("</details>")[0]
    # Six records are C34 or were given it, and four are.
    assert re.search('C34</span> lung and bronchus</td><td class="num" data-label="records">4</td>.*>50.0%</td>', codes)
    assert "Too few for a figure: C18 colon (0)." in codes
    few_patients = Metric("site", "accuracy", "facility=E", None, None, None, 7, {"too_few": 3})
    crowded = evaluation()
    crowded.metrics.append(few_patients)
    assert "D (2), " not in page and "Too few for a figure: E (7 of 3 patients), D (2)." in write(tmp_path, crowded)
    assert "fewer than 6 patients" in page


def test_a_single_record_has_no_figure_anywhere(tmp_path):
    one = answers("site", ["C50"], ["C34"], ["auto"])
    metrics = task_metrics(one, {"facility": np.array(["A"])}, ROUNDS)
    metrics += mean_metrics("site", {"comprehensiveness": np.array([0.25])}, one.group, ROUNDS)
    metrics += record_metrics(one.decision, one.group, {"site": one.right, "other": one.right}, np.ones(1, bool), ROUNDS)
    page = write(tmp_path, Evaluation(("site",), metrics, [], {"matched": 1, "rows": 1}))
    told = page.split("</style>")[1].split("<details open>")[0].replace("95% interval", "")
    assert "1 record with a known site: too few for a figure." in told and "%" not in told and "<svg" not in told
    assert "All tasks right at once, of answered records: too few (1), of those coded without a person: too few (1)." in told


def wrong_rows(n, **more):
    row = {"task": "site", "decision": "auto", "code": "C18", "gold": "C50", "prob": 0.5, "run_id": "r", "model_digest": "m"}
    rows = [row | {"record_id": f"r{number:03d}"} | more for number in range(n)]
    return pa.Table.from_pylist(rows, schema=wrong_schema(["facility"]))


def test_wrong_answers_stand_by_their_ids_and_no_more_than_fifty(tmp_path):
    page = write(tmp_path, evaluation(wrong=wrong_rows(51)))
    assert "The 51 wrong answers by record, 51 coded without a person" in page
    assert "r000" in page and "r049" in page and "r050" not in page
    assert "The first 50 of 51; all are in wrong/wrong.parquet beside this page" in page
    two = wrong_rows(2, decision="review", reasons=["low_margin"], task_reasons=["low_margin", "new_word"], record_id="<b>")
    page = write(tmp_path, evaluation(wrong=two))
    assert "The 2 wrong answers by record, none coded without a person" in page and "<td>&lt;b&gt;</td>" in page
    assert "Another code is nearly as likely.<br>new_word</td>" in page and "They are also in wrong/wrong.parquet" in page
    assert "by record" not in write(tmp_path, evaluation(wrong=wrong_rows(2, task="histology")))


def test_missing_figures_leave_no_trace(tmp_path):
    bare = Evaluation(("site",), [Metric("site", "accuracy", ALL, None, None, None, 0)], [], {"matched": 0, "rows": 0})
    page = write(tmp_path, bare)
    assert "None" not in page.split("</style>")[1].replace("<p>None.</p>", "") and "nan" not in page.split("</style>")[1]
