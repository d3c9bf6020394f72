"""Invented sentences, and which of them speak of a metastasis or of several primaries."""

import csv
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.registry.primaries import metastatic_specimen, multiple_primaries_suspected
from engine.registry.reportability import screened
from engine.text.assertions import Asserted
from engine.text.phrases import Phrases, Reading

BREAST = "A. Left breast, excision: invasive ductal carcinoma.\n"


def several(text):
    reading = Reading(text)
    asserted = Asserted(reading)
    return multiple_primaries_suspected(reading, asserted, screened(reading, asserted).stated)


def metastatic(text):
    reading = Reading(text)
    return metastatic_specimen(reading, Asserted(reading))


@pytest.mark.parametrize(
    "text",
    [
        "Liver, core biopsy:\n- Metastatic adenocarcinoma.",
        "Omentum: METASTATIC serous carcinoma, consistent with ovarian primary.",
        "Nodule in segment 4, compatible with a metastasis from the tumour of the colon.",
        "Neck mass, squamous cell carcinoma, primary unknown.",
        "History of carcinoma of unknown origin.",
        "Adenocarcinoma; the primary site is undetermined.",
        # What nobody sees does not hide it.
        "Liver, core biopsy:\n- Meta\u00adstatic adenocarcinoma.",
    ],
)
def test_a_specimen_that_is_a_metastasis(text):
    assert metastatic(text) and not several(text)


@pytest.mark.parametrize(
    "text",
    [
        "Metastatic carcinoma in three of twelve lymph nodes.",
        "No metastasis is seen. The primary tumor measures 3 cm.",
        "Liver, biopsy: negative for metastatic carcinoma.",
        "No evidence of metastatic carcinoma consistent with a colonic primary.",
        "Mother had carcinoma of unknown origin.",
        "The primary tumor lies in the cecum, and its margins are free.",
        "Leber, Biopsie: Metastase eines Adenokarzinoms.",
    ],
)
def test_nodes_denials_and_other_languages_say_nothing(text):
    assert not metastatic(text) and not several(text)


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
    assert several(text) and several(text.upper())


@pytest.mark.parametrize(
    "text",
    [
        "Dual/Synchronous Primary noted: yes no",
        "TNM descriptors: m (multiple primary tumors).",
        "The suffix m indicates the presence of multiple primary tumors at one site.",
        "The nodule is separate from the primary tumor.",
        "There is no second primary.",
        "Mother had two primary tumors.",
    ],
)
def test_boxes_of_forms_and_denials_are_not_taken_for_findings(text):
    assert not several(text)


@pytest.mark.parametrize(
    "text",
    [
        BREAST + "B. Sigmoid colon, resection: adenocarcinoma.",
        BREAST + "B. Colon, biopsy:\n- Adenocarcinoma.",
        BREAST + "B. Colon, biopsy: suspicious for adenocarcinoma.",
        "LEFT BREAST, EXCISION:\n- INVASIVE DUCTAL CARCINOMA\n\nCOLON, RESECTION:\n- ADENOCARCINOMA",
        "A. Kidney, left: renal cell carcinoma.\nB. Lung, right upper lobe: squamous cell carcinoma.",
        "Part 1: Prostate, needle biopsy: adenocarcinoma. Part 2: Colon, polypectomy: carcinoma in situ.",
        # The second of three specimens is benign.
        BREAST + "B. Skin, biopsy: seborrheic keratosis.\nC. Thyroid, lobectomy: papillary carcinoma.",
    ],
)
def test_a_tumour_in_each_of_two_specimens_that_lie_apart(text):
    assert several(text)


@pytest.mark.parametrize(
    "text",
    [
        BREAST,
        # A node, a metastasis, spread, another kind of finding.
        BREAST + "B. Lymph node, axillary: metastatic carcinoma.",
        BREAST + "B. Axillary node: carcinoma.",
        BREAST + "B. Liver, biopsy: metastatic carcinoma.",
        BREAST + "B. Skin of chest: involved by carcinoma.",
        BREAST + "B. Skin of arm, biopsy: carcinoma, consistent with spread.",
        BREAST + "B. Colon, biopsy: tubular adenoma.",
        BREAST + "B. Colon, biopsy: no evidence of carcinoma.",
        BREAST + "B. Colon, biopsy: cannot exclude carcinoma.",
        # The same region, though another organ or side.
        BREAST + "B. Right breast, excision: invasive lobular carcinoma.",
        "A. Bladder, cystectomy: urothelial carcinoma.\nB. Prostate: adenocarcinoma.",
        # Serous, squamous and other tumours grow from organ to organ.
        "A. Ovary, right: high grade serous carcinoma.\nB. Omentum and colon, excision: high grade serous carcinoma.",
        "A. Lung, right: squamous cell carcinoma.\nB. Larynx, biopsy: squamous cell carcinoma.",
        # A tumour far below its title is another's.
        "A. Breast, left: fibroadenoma. " + "The tissue is tan, " * 8 + "carcinoma.\nB. Colon, biopsy: adenocarcinoma.",
    ],
)
def test_near_misses(text):
    assert not several(text)


@given(st.text())
def test_any_text(text):
    assert several(text) in (True, False) and metastatic(text) in (True, False)


@given(st.permutations(["Breast, left", "Colon, biopsy", "Thyroid, right", "Larynx, biopsy"]))
def test_the_order_of_specimens_does_not_matter(titles):
    text = "\n".join(f"{letter}. {title}: carcinoma." for letter, title in zip("ABCD", titles, strict=True))
    assert several(text)
    same = "\n".join(f"{letter}. {title}: squamous carcinoma." for letter, title in zip("ABCD", titles, strict=True))
    assert not several(same)


@pytest.fixture(scope="module")
def organs():
    with resources.files("engine.registry").joinpath("organs.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_organs_stand_once_and_match_themselves(organs):
    assert all(list(row) == ["phrase", "region"] and row["phrase"] and row["region"] for row in organs)
    words = [tuple(Reading(row["phrase"]).words) for row in organs]
    assert len(words) == len(set(words))
    listed = Phrases((row["phrase"], row["region"]) for row in organs)
    for row in organs:
        (match,) = listed.find(Reading(row["phrase"]))
        assert match.value == row["region"]


def test_the_regions(organs):
    assert {row["region"] for row in organs} == {
        *("adrenal", "bladder and prostate", "brain", "breast", "female genital", "head and neck", "kidney", "lower digestive"),
        *("lung", "node", "skin", "thymus", "thyroid", "upper digestive"),
    }
