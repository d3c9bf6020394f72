"""Which invented sentences state a tumour that a registry must have, and the phrases that show it."""

import csv
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.registry.reportability import (
    ADMINISTRATIVE,
    BENIGN,
    NEGATIVE,
    OTHER,
    SHOWN,
    STATEMENT,
    phrases,
    screened,
)
from engine.text.assertions import KINDS, Asserted
from engine.text.phrases import Phrases, Reading


def screen(text):
    reading = Reading(text)
    return screened(reading, Asserted(reading))


def shown(text):
    """What is shown of a text: the words as they stand, kind and assertion."""
    return [(text[each.start : each.end], each.kind, each.assertion) for each in screen(text).phrases]


@pytest.mark.parametrize(
    "text",
    [
        "Breast, left, biopsy: invasive ductal carcinoma.",
        "LYMPH NODE: DIFFUSE LARGE B-CELL LYMPHOMA",
        "Bone marrow: acute myeloid leukaemia.",
        "Skin: melanoma in situ.",
        "Breast: DCIS.",
        "Malignant spindle cell tumour.",
        "Lung: carcinoid tumour.",
        "Stomach: GIST.",
        "Colon: adenoca.",
        # Tumours of the brain, benign ones too.
        "Meningioma, WHO grade 1.",
        "Vestibular schwannoma.",
        "Pituitary adenoma.",
        # A primary is not needed.
        "Liver: metastatic carcinoma.",
        # Words of doubt that registries count as a diagnosis.
        "Changes consistent with melanoma.",
        "Findings are most consistent with carcinoma.",
        "Suspicious for adenocarcinoma.",
        "Highly suspicious for carcinoma.",
        "Probable carcinoma.",
        "We favor a lymphoma.",
        "Most likely carcinoma.",
        "Carcinoma is suspected.",
        # A basal cell carcinoma beside another tumour, a benign finding, another tumour denied.
        "Basal cell carcinoma and melanoma.",
        "Adenocarcinoma arising in a tubular adenoma.",
        "Carcinoma. Negative for lymphoma.",
        "History of melanoma. Now carcinoma of the lung.",
        "Mother had breast cancer. The patient has invasive carcinoma.",
        "Smith Cancer Center. Diagnosis: carcinoma.",
    ],
)
def test_a_reportable_tumour(text):
    screening = screen(text)
    assert screening.reportable and screening.stated and screening.diagnosis


@pytest.mark.parametrize(
    ("text", "diagnosis"),
    [
        # Denied.
        ("Negative for malignancy.", True),
        ("No evidence of carcinoma.", True),
        ("Carcinoma is not identified.", True),
        ("Carcinoma: absent.", True),
        ("Fibroadenoma. Negative for atypia and malignancy.", True),
        ("Tubular adenoma without high grade dysplasia or carcinoma.", True),
        # Once, a relative's, not sure: no diagnosis.
        ("History of melanoma.", False),
        ("Mother had breast cancer.", False),
        ("Family history: colon cancer.", False),
        ("Cannot exclude carcinoma.", False),
        ("Rule out carcinoma.", False),
        ("R/O lymphoma", False),
        ("Possible melanoma.", False),
        ("Carcinoma cannot be excluded.", False),
        ("Carcinoma?", False),
        ("? lymphoma", False),
        ("Rule out carcinoma. Chronic gastritis.", True),
        # Not reportable.
        ("Basal cell carcinoma of the nose.", True),
        ("Basal-cell carcinomas of the nose.", True),
        ("Lipoma, hemangioma and schwannoma of the arm.", True),
        ("Actinic keratosis.", True),
        ("Cervix: CIN 1.", True),
        ("Colon: tubular adenoma with low grade dysplasia.", True),
        ("Cervix: high grade dysplasia.", False),
        ("Ovary: mucinous borderline tumor.", False),
        ("Ovary: serous tumor of low malignant potential.", False),
        # Names, programmes, markers, codes, operations.
        ("Smith Cancer Center. Chronic cholecystitis.", True),
        ("Comprehensive Cancer Centre", False),
        ("Cervical cancer screening", False),
        ("Carcinoembryonic antigen 3.1 ng/ml, CA 19-9 normal.", False),
        ("Lumpectomy, C50.9, chemotherapy.", False),
        ("", False),
    ],
)
def test_no_reportable_tumour(text, diagnosis):
    screening = screen(text)
    assert not screening.reportable
    assert screening.stated == ()
    assert screening.diagnosis == diagnosis


@pytest.mark.parametrize(
    ("text", "assertions"),
    [
        ("[ ] carcinoma [ ] lymphoma", ["uncertain", "uncertain"]),
        ("[x] carcinoma [ ] lymphoma", ["affirmed", "uncertain"]),
        ("[ ] carcinoma [X] lymphoma", ["uncertain", "affirmed"]),
        ("( ) carcinoma (x) lymphoma", ["uncertain", "affirmed"]),
        ("☐ carcinoma ☒ lymphoma", ["uncertain", "affirmed"]),
        ("[ ] invasive ductal carcinoma", ["uncertain"]),
        ("[x] invasive ductal carcinoma", ["affirmed"]),
        ("carcinoma [ ] lymphoma [ ]", ["uncertain", "uncertain"]),
        ("carcinoma [x] lymphoma [ ]", ["affirmed", "uncertain"]),
        ("carcinoma [ ] lymphoma [x]", ["uncertain", "affirmed"]),
        ("[ ] carcinoma\n[x] lymphoma\n[ ] sarcoma\n", ["uncertain", "affirmed", "uncertain"]),
        ("____ carcinoma", ["uncertain"]),
        ("carcinoma: ____", ["uncertain"]),
        ("carcinoma: [ ]", ["uncertain"]),
        ("carcinoma:", ["uncertain"]),
        ("carcinoma:\nlymphoma", ["uncertain", "affirmed"]),
        ("carcinoma: yes", ["affirmed"]),
    ],
)
def test_boxes_and_fields(text, assertions):
    assert [assertion for _, kind, assertion in shown(text)] == assertions
    assert screen(text).reportable == ("affirmed" in assertions)


FORM = "Patient: ____\nDiagnosis: ____\nGrade: ____\nMargins: [ ] free [ ] other\n"


def test_a_blank_form_states_nothing():
    assert not screen(FORM + "This form is for carcinoma of the breast.").reportable
    # With a tick, or with a text of some length, it is no blank one.
    assert screen(FORM + "[x] carcinoma").reportable
    assert screen(FORM + "Invasive carcinoma. " + "The tumour lies in the upper half and its margins are free. " * 6).reportable


@pytest.mark.parametrize(
    "text",
    ["test test test", "TEST PATIENT - PLEASE IGNORE", "Test message", "This is a test.", "Lorem ipsum dolor sit amet"],
)
def test_a_test_message_is_no_diagnosis(text):
    screening = screen(text)
    assert not screening.reportable and not screening.diagnosis
    assert {each.kind for each in screening.phrases} == {ADMINISTRATIVE}


def test_a_test_message_with_a_tumour_is_not_reportable():
    screening = screen("TEST MESSAGE, PLEASE IGNORE: invasive ductal carcinoma.")
    assert screening.stated and screening.diagnosis and not screening.reportable


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("adenocarcinmoa", "adenocarcinoma"),
        ("adenocarclnorna", "adenocarcinoma"),
        ("adenocarc1n0ma", "adenocarcinoma"),
        ("adeno carci noma", "adenocarcinoma"),
        ("ADENOCARC INOMA", "adenocarcinoma"),
        ("meningiorna", "meningioma"),
    ],
)
def test_misspelt_and_torn_names(written, name):
    text = f"Biopsy: {written}, grade 2."
    (phrase,) = screen(text).phrases
    assert (text[phrase.start : phrase.end], phrase.phrase, phrase.kind) == (written, name, STATEMENT)
    assert screen(text).reportable
    assert not screen(f"No evidence of {written}.").reportable
    # A text that states a tumour is not searched for such.
    assert [each.phrase for each in screen(f"Melanoma. {written}").phrases] == ["melanoma"]


@pytest.mark.parametrize("word", ["carbohydrate", "administration", "adenomatous", "laminectomy", "lymphocytes", "menorrhagia"])
def test_other_long_words_are_no_misspelt_names(word):
    assert not screen(f"The {word} was seen.").reportable


def test_phrases_are_shown_in_the_order_of_the_text():
    text = "Fibroadenoma. Negative for malignancy. History of mel\u00adanoma. No lymphoma."
    assert shown(text) == [
        ("Fibroadenoma", BENIGN, "affirmed"),
        ("Negative for malignancy", NEGATIVE, "affirmed"),
        ("mel\u00adanoma", STATEMENT, "historical"),
        ("lymphoma", STATEMENT, "negated"),
    ]


def test_a_phrase_is_shown_once_for_each_assertion():
    assert shown("Melanoma. melanoma. No melanoma.") == [("Melanoma", STATEMENT, "affirmed"), ("melanoma", STATEMENT, "negated")]


def test_of_many_phrases_those_that_state_a_tumour_are_shown_first():
    benign = ("lipoma", "nevus", "fibroma", "hernia sac", "gastritis", "colitis", "cystitis", "cervicitis", "keloid", "goiter")
    text = ". ".join([*benign, "scar", "abscess", "hepatitis", "osteoma", "No sarcoma", "melanoma"])
    kept = shown(text)
    assert len(kept) == SHOWN
    assert kept[0][0] == "lipoma" and kept[-2:] == [("sarcoma", STATEMENT, "negated"), ("melanoma", STATEMENT, "affirmed")]


def test_the_words_at_which_a_tumour_is_stated():
    assert screen("No melanoma. Carcinoma and lymphoma.").stated == (3, 5)


@given(st.text())
def test_any_text(text):
    screening = screen(text)
    assert len(screening.phrases) <= SHOWN
    for each in screening.phrases:
        assert 0 <= each.start < each.end <= len(text)
        assert each.kind in (STATEMENT, NEGATIVE, BENIGN, ADMINISTRATIVE) and each.assertion in KINDS
    assert not screening.reportable or (screening.stated and screening.diagnosis)


PIECES = [
    "invasive carcinoma",
    "melanoma",
    "no",
    "history of",
    "fibroadenoma",
    "negative for malignancy",
    ".",
    ",",
    "suspicious for",
]


@given(st.lists(st.sampled_from(PIECES), max_size=15), st.sampled_from(["\x00", "\u00ad", "\u200b"]))
def test_what_is_stated_does_not_depend_on_case_and_what_nobody_sees(pieces, unseen):
    text = " ".join(pieces)
    other = unseen.join(text.upper())
    one, two = screen(text), screen(other)
    assert (one.stated, one.reportable, one.diagnosis) == (two.stated, two.reportable, two.diagnosis)
    assert [(text[each.start : each.end].upper(), each.assertion) for each in one.phrases] == [
        (other[each.start : each.end].replace(unseen, ""), each.assertion) for each in two.phrases
    ]


@pytest.fixture(scope="module")
def rows():
    with resources.files("engine.registry").joinpath("reportability.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_of_the_list_has_a_known_kind_and_stands_once(rows):
    assert len(rows) > 800
    assert {row["kind"] for row in rows} == {STATEMENT, BENIGN, ADMINISTRATIVE, OTHER}
    assert all(list(row) == ["phrase", "kind"] and row["phrase"] == row["phrase"].strip() for row in rows)
    # Words decide, not the hyphens between them.
    kinds = {}
    for row in rows:
        # A `*` is no word of its own.
        key = tuple(Reading(row["phrase"].replace("*", "\ue000")).words) or row["phrase"]
        assert kinds.setdefault((key, "*" in row["phrase"]), row["kind"]) == row["kind"], row
    lower = [row["phrase"].lower() for row in rows]
    assert len(lower) == len(set(lower))


def test_every_phrase_of_the_list_matches_itself(rows):
    kinds = {row["phrase"]: row["kind"] for row in rows}
    for phrase, kind in kinds.items():
        text = phrase.replace("*", "")
        reading = Reading(text)
        (match,) = Phrases([(phrase, kind)]).find(reading)
        assert (match.first, match.stop) == (0, len(reading)), phrase
        # In the whole list there is one that reaches as far, and what ours says of it has the last word.
        (match, *_) = phrases().find(reading)
        assert (match.first, match.stop) == (0, len(reading)), phrase
        assert "*" in phrase or match.value == kind, phrase


def test_the_public_list_has_one_phrase_and_kind_a_line():
    with resources.files("engine.registry").joinpath("reportability_keywords.txt").open(encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip()]
    assert len(lines) > 2000
    for line in lines:
        phrase, _, kind = line.rpartition("|")
        assert phrase and kind in ("Positive", "Negative", "Other"), line
