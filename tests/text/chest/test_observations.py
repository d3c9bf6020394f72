"""Invented reports in observations, and what a language model may answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RowError
from engine.text.chest.observations import observations, parse_observations
from tests.clock import cpu_seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No pneumothorax or pleural effusion.", ["No pneumothorax", "No pleural effusion"]),
        (
            "There is no focal consolidation, pleural effusion, or pneumothorax.",
            ["No focal consolidation", "No pleural effusion", "No pneumothorax"],
        ),
        ("Heart and lungs are normal.", ["Heart and lungs are normal"]),
        ("The heart size is normal and the lungs are clear.", ["Heart size is normal", "Lungs are clear"]),
        ("Lungs are clear without effusion or pneumothorax.", ["Lungs are clear", "No effusion", "No pneumothorax"]),
        ("No acute bony or soft tissue abnormality.", ["No acute bony or soft tissue abnormality"]),
        ("No pleural or pericardial effusion.", ["No pleural or pericardial effusion"]),
        ("Pneumothorax and effusion are not seen.", ["No pneumothorax", "No effusion"]),
        ("No evidence of pneumonia.", ["No pneumonia"]),
        ("NO PNEUMOTHORAX.", ["No pneumothorax"]),
        ("There is mild cardiomegaly and a small left effusion.", ["Mild cardiomegaly", "Small left effusion"]),
        ("No pneumothorax, mild cardiomegaly.", ["No pneumothorax", "Mild cardiomegaly"]),
        ("Opacity may represent atelectasis or pneumonia.", ["Opacity may represent atelectasis or pneumonia"]),
        ("Opacities in the right and left bases are noted.", ["Opacities in the right and left bases"]),
        ("Stable cardiomegaly.", ["Cardiomegaly"]),
        ("Cardiomegaly is unchanged.", ["Cardiomegaly"]),
        ("FINDINGS: 1. Left effusion. 2. 1.3 cm nodule.", ["Left effusion", "1.3 cm nodule"]),
        ("Compared to the prior exam, effusion has increased.", []),
        ("Interval improvement of the effusion.", []),
        ("Small nodule, recommend CT follow-up.", ["Small nodule"]),
        ("Findings were discussed with Dr. Smith by telephone.", []),
        ("Electronically signed by A. Smith, MD.", []),
        ("PA and lateral views of the chest were obtained.", []),
        ("The XXXX is enlarged. Lungs are clear.", ["Lungs are clear"]),
        ("Measures 2.3 x 4 cm.", []),
        ("History of pneumonia. Effusion.", ["Effusion"]),
        ("INDICATION: Cough.\n\nFINDINGS: Tortuous aorta.", ["Tortuous aorta"]),
        ("Effusion. Effusion.", ["Effusion"]),
        ("This may be artifact.", []),
        ("This opacity may be artifact.", []),
        ("Stable. There is unchanged.", []),
        ("", []),
    ],
)
def test_a_report_in_observations(text, expected):
    assert observations(text) == expected


PARTS = (
    "No effusion",
    "and",
    "or",
    ",",
    ".",
    "XXXX",
    "Heart is normal",
    "1.",
    "stable",
    "there is",
    "without",
    "may be",
    "\n",
    ":",
)


@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=8), max_size=12))
def test_observations_of_any_text_are_short_statements(parts):
    made = observations(" ".join(parts))
    assert len(made) == len(set(made))
    assert all(each == each.strip() and each and "\n" not in each and "XXXX" not in each for each in made)


def test_a_long_text_takes_time_in_proportion():
    text = "The heart is enlarged. No effusion or pneumothorax, possible pneumonia. "
    short, long = (cpu_seconds(lambda count=count: observations(text * count)) for count in (200, 800))
    assert long < 10 * short


@pytest.mark.parametrize(
    "answer", ['["No pneumothorax", " Clear lungs "]', '\n["No pneumothorax","Clear lungs","No pneumothorax"] ']
)
def test_a_list_of_texts_is_taken(answer):
    assert parse_observations(answer) == ["No pneumothorax", "Clear lungs"]


def test_an_empty_list_is_an_answer():
    assert parse_observations("[]") == []


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "",
            "no findings",
            "null",
            '"No pneumothorax"',
            '{"observations": []}',
            '["a", 1]',
            '["a", null]',
            '[["a"]]',
            '["a", " "]',
        ),
        *('```json\n["a"]\n```', '["a"', '["a"] and more', '["\\ud800"]', "[" * 100_000, "NaN"),
    ],
)
def test_anything_else_is_rejected_without_its_words(answer):
    with pytest.raises(RowError) as refused:
        parse_observations(answer)
    assert str(refused.value) == "parse_error: observations: not a JSON list of texts"
    assert refused.value.__suppress_context__


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), min_size=1).filter(str.strip), unique_by=str.strip))
def test_what_json_writes_is_read(texts):
    assert parse_observations(json.dumps(texts)) == [each.strip() for each in texts]


def test_run_on_sentences_and_items_of_a_list_are_apart():
    assert observations("Lungs are clear.There is no effusion.") == ["Lungs are clear", "No effusion"]
    assert observations("1. Small left pleural effusion 2. Cardiomegaly") == ["Small left pleural effusion", "Cardiomegaly"]
    assert observations("A 1.3 cm nodule is present.") == ["1.3 cm nodule"]
