"""Silver marks of invented reports, and which mentions are tumours."""

import csv
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.prompt_mrc import terms
from engine.models.prompt_mrc.terms import is_tumour, mark

FOUR = {"Cancer", "Anatomy", "Disease", "Chemical"}


def marked(text):
    return [(text[span.start : span.end], span.type) for span in mark(text) if span.type in FOUR]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Invasive ductal carcinoma of the left breast.", [("Invasive ductal carcinoma", "Cancer"), ("left breast", "Anatomy")]),
        # Of several heads in a row the last one decides.
        ("right lung adenocarcinoma", [("right lung adenocarcinoma", "Cancer")]),
        ("lymph node metastasis", [("lymph node metastasis", "Cancer")]),
        # A grade in front is no part of the name, one between its words is.
        ("Moderately differentiated adenocarcinoma", [("adenocarcinoma", "Cancer")]),
        (
            "Invasive moderately differentiated squamous cell carcinoma",
            [("Invasive moderately differentiated squamous cell carcinoma", "Cancer")],
        ),
        ("Adenocarcinoma, endometrioid type", [("Adenocarcinoma, endometrioid type", "Cancer")]),
        # A comma, a colon or a heading ends a name.
        ("Lung, left upper lobe", [("Lung", "Anatomy"), ("left upper lobe", "Anatomy")]),
        ("Tumor Site: Colon", [("Tumor", "Cancer"), ("Colon", "Anatomy")]),
        # A wrapped line does not.
        ("sections of cervical\nstroma", [("cervical\nstroma", "Anatomy")]),
        ("benign breast tissue with chronic inflammation", [("breast tissue", "Anatomy"), ("chronic inflammation", "Disease")]),
        ("tumor stroma", [("tumor", "Cancer"), ("stroma", "Anatomy")]),
        ("fixed in formalin", [("formalin", "Chemical")]),
        # These look like tumours and are none.
        ("human papilloma virus; discussed at tumor board", []),
        ("a tan mass", []),
    ],
)
def test_a_mention_is_a_head_with_the_words_in_front_of_it(text, expected):
    assert marked(text) == expected


def test_further_types_stand_beside_the_four():
    text = "Right neck dissection: 2.5 x 1.0 cm, high grade, negative margins, CK7 positive, metal clips."
    spans = {(text[span.start : span.end], span.type) for span in mark(text)}
    assert {
        ("Right neck", "Anatomy"),
        ("neck dissection", "Procedure"),
        ("Right", "Laterality"),
        ("2.5 x 1.0 cm", "Measurement"),
        ("high grade", "Grade"),
        ("margins", "Margin"),
        ("CK7", "Stain"),
        ("metal clips", "Device"),
    } <= spans


@pytest.mark.parametrize(
    "mention", ["tumor", "breast cancer", "squamous cell carcinoma of the lung", "cancer cells", "NSCLC", "gliomas", "antitumor"]
)
def test_tumours(mention):
    assert is_tumour(mention)


@pytest.mark.parametrize(
    "mention", ["breast", "hematoma", "tumor stroma", "stromal cells", "cyst", "", "of", "cancer cell lines"]
)
def test_no_tumours(mention):
    assert not is_tumour(mention)


@given(st.lists(st.sampled_from(["left", "renal", "carcinoma", "kidney", ", ", "\n\n", "\u00ad", "🙂", "2 cm", "  ", "no "])))
def test_marks_lie_in_the_text_and_hold_visible_words(pieces):
    text = " ".join(pieces)
    for span in mark(text):
        assert 0 <= span.start < span.end <= len(text) and text[span.start : span.end].strip()
    four = [span for span in mark(text) if span.type in FOUR]
    assert all(one.end <= other.start for one, other in pairwise(four))


def test_each_term_is_listed_once_and_has_a_known_kind():
    with Path(terms.__file__).with_name("terms.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["phrase"] for row in rows}) == len(rows)
    further = {"Procedure", "Device", "Stain", "Margin"}
    assert {row["kind"] for row in rows} == {*terms._FRONT, *set().union(*terms._FRONT.values()), "none"} | further
