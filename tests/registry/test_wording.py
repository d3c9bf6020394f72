"""Invented sentences, and which of them speak of a metastasis, of several primaries, or lack their conclusion."""

import time

import pytest

from engine.records import REASONS
from engine.registry.wording import SIGNS, signs

METASTATIC, SEVERAL, MISSING = "metastatic_specimen", "multiple_primaries_suspected", "section_missing"


@pytest.mark.parametrize(
    "text",
    [
        "Liver, core biopsy:\n- Metastatic adenocarcinoma.",
        "Omentum: METASTATIC serous carcinoma, consistent with ovarian primary.",
        "Nodule in segment 4, compatible with a metastasis from the tumour of the colon.",
        "Neck mass, squamous cell carcinoma, primary unknown.",
        "History of carcinoma of unknown origin.",
    ],
)
def test_a_specimen_that_is_a_metastasis(text):
    assert signs(text) == [METASTATIC]


@pytest.mark.parametrize(
    "text",
    [
        "Metastatic carcinoma in three of twelve lymph nodes.",
        "No metastasis is seen. The primary tumor measures 3 cm.",
        "Liver, biopsy: negative for metastatic carcinoma.",
        "The primary tumor lies in the cecum, and its margins are free.",
        "Leber, Biopsie: Metastase eines Adenokarzinoms.",
    ],
)
def test_nodes_denials_and_other_languages_say_nothing(text):
    assert signs(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "The two nodules are likely separate primary tumours.",
        "Two synchronous primaries of the lung.",
        "Synchronous serous carcinomas of ovary and endometrium.",
        "This may be a second primary of the breast.",
        "A collision tumor of the stomach.",
    ],
)
def test_several_primaries(text):
    assert signs(text) == [SEVERAL]


@pytest.mark.parametrize(
    "text",
    [
        "Dual/Synchronous Primary noted: yes no",
        "TNM descriptors: m (multiple primary tumors).",
        "The suffix m indicates the presence of multiple primary tumors at one site.",
        "The nodule is separate from the primary tumor.",
    ],
)
def test_boxes_of_forms_are_not_taken_for_findings(text):
    assert signs(text) == []


def test_a_report_without_its_conclusion():
    parts = "Clinical history: a lump.\nGross description: a tan nodule of 2 cm.\n"
    assert signs(parts) == [MISSING]
    assert signs(parts + "Final diagnosis: carcinoma.") == []
    assert signs("Gross description: a tan nodule of 2 cm.") == []
    assert signs("Gross description: a nodule. Gross: another.") == []


def test_every_sign_is_a_reason():
    assert set(SIGNS) <= set(REASONS)


@pytest.mark.parametrize("phrase", ["two ", "primary metastatic ", "metastatic consistent with ", "gross ", "liver biopsy "])
def test_a_long_text_takes_time_in_proportion(phrase):
    def seconds(count):
        text = phrase * count
        began = time.process_time()
        signs(text)
        return time.process_time() - began

    assert seconds(40_000) < 12 * seconds(10_000) + 0.5
