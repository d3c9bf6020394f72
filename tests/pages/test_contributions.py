"""Concepts as signed bars, and a sum that is checked."""

import re

from engine.pages.contributions import checked_sum, concepts_table, signed_bar
from tests.pages.studies import concept, label

HEART = label("Heart", 0.5, logit=0.5, intercept=-1.0, rest=0.75)
SCORES = (0.5, -0.25, 0.125, 0.375)


def _cells(content):
    return [re.findall(r"<td.*?>(.*?)</td>", line) for line in content.split("<tr>")[2:]]


def test_a_bar_leaves_the_middle_to_its_side():
    assert signed_bar(0.5, 1.0) == '<div class="signed"><i class="for" style="width:25.00%"></i></div>'
    assert '"against" style="width:50.00%"' in signed_bar(-2.0, 2.0) and "width:0.00%" in signed_bar(0.0, 0.0)


def test_the_strongest_for_then_against_and_the_others_as_one_line():
    concepts = [concept("Heart", at, score, f"c{at}") for at, score in enumerate(SCORES)]
    cells = [[line[0], *line[2:]] for line in _cells(concepts_table(concepts, each=1))]
    assert cells == [
        ["c0", "for +0.500", "12.5%", "+0.062"],
        ["c1", "against -0.250", "12.5%", "+0.062"],
        ['<span class="soft">2 weaker concepts that the row lists</span>', "+0.500", "", ""],
    ]


def test_a_concept_without_text_or_figures():
    bare = concept("Heart", 4, 0.5, weight=None, cosine=None)
    assert [[line[0], *line[3:]] for line in _cells(concepts_table([bare, bare | {"score": None}]))] == [["concept 4", "", ""]]
    assert concepts_table([]) == ""


def test_the_sum_that_holds():
    said = re.sub("<.*?>", "", checked_sum(HEART, [concept("Heart", at, score) for at, score in enumerate(SCORES)], 10))
    # -1 + 0.75 + 0.75 = 0.5
    assert (
        said
        == "logit +0.500 = intercept -1.000 + 4 listed concepts +0.750 + rest of 6 concepts not listed +0.750. The sum holds."
    )


def test_a_sum_that_does_not_hold_says_so():
    said = checked_sum(HEART, [concept("Heart", 0, 0.5)], None)
    assert (
        "The sum does not hold: it is off by -0.250." in said
        and "1 listed concept <b>" in said
        and "of " not in said.split("+ rest")[1][:4]
    )


def test_no_sum_without_its_parts():
    assert [checked_sum(HEART | {name: None}, [], 10) for name in ("logit", "intercept", "rest")] == [""] * 3
