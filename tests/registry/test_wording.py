"""The signs of invented reports, of the corpus of unreportable texts, and of real reports."""

import base64
import random
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.records import REASONS
from engine.registry.wording import (
    METASTATIC,
    MISSING,
    NO_DIAGNOSIS,
    NO_TUMOUR,
    SEVERAL,
    SIGNS,
    UNREADABLE,
    section_missing,
    wording,
)
from engine.sources.synthetic.unreportable import generate
from tests.clock import cpu_seconds

WITHOUT_TUMOUR = (UNREADABLE, NO_DIAGNOSIS, NO_TUMOUR)


def signs(text):
    return list(wording(text).signs)


@pytest.mark.parametrize(
    "text",
    [
        "Liver, core biopsy:\n- Metastatic adenocarcinoma.",
        "Omentum: METASTATIC serous carcinoma, consistent with ovarian primary.",
        "Neck mass, squamous cell carcinoma, primary unknown.",
    ],
)
def test_a_specimen_that_is_a_metastasis(text):
    assert signs(text) == [METASTATIC]


def test_a_metastasis_without_a_tumour_that_is_stated():
    # A tumour of the past is no diagnosis, and the origin is unknown all the same.
    assert signs("History of carcinoma of unknown origin.") == [NO_DIAGNOSIS, METASTATIC]
    # "The tumour" names none.
    assert signs("Nodule in segment 4, compatible with a metastasis from the tumour of the colon.") == [METASTATIC]


@pytest.mark.parametrize(
    "text",
    [
        "Metastatic carcinoma in three of twelve lymph nodes.",
        "Carcinoma. No metastasis is seen. The primary tumor measures 3 cm.",
        "The carcinoma lies in the cecum, and its margins are free. The primary tumor measures 3 cm.",
        "Two carcinomas were suspected, one is seen; the nodule is separate from the primary tumor.",
        "Carcinoma. Dual/Synchronous Primary noted: yes no",
        "Carcinoma. TNM descriptors: m (multiple primary tumors).",
        "Carcinoma. The suffix m indicates the presence of multiple primary tumors at one site.",
    ],
)
def test_reports_of_one_primary_have_no_sign(text):
    assert signs(text) == []


def test_denials_and_other_languages():
    assert signs("Liver, biopsy: negative for metastatic carcinoma.") == [NO_TUMOUR]
    assert signs("Leber, Biopsie: Metastase eines Adenokarzinoms.") == [NO_DIAGNOSIS]


@pytest.mark.parametrize(
    "text",
    [
        "Two synchronous primaries of the lung, both adenocarcinoma.",
        "Synchronous serous carcinomas of ovary and endometrium.",
        "Carcinoma. This may be a second primary of the breast.",
        "A collision tumor of the stomach: carcinoma and lymphoma.",
        "A. Left breast, excision: invasive ductal carcinoma.\nB. Sigmoid colon, resection: adenocarcinoma.",
    ],
)
def test_several_primaries(text):
    assert signs(text) == [SEVERAL]


def test_a_report_without_its_conclusion():
    parts = "Clinical history: a lump.\nGross description: a tan nodule of 2 cm.\n"
    assert signs(parts) == [NO_DIAGNOSIS, MISSING]
    assert signs(parts + "Microscopic: carcinoma.") == [MISSING]
    assert signs(parts + "Final diagnosis: carcinoma.") == []
    assert not section_missing("gross description: a tan nodule of 2 cm.")
    assert not section_missing("gross description: a nodule. gross: another.")
    assert section_missing(parts.lower())


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("IIIIIIIIIIIIII", UNREADABLE),
        ("", UNREADABLE),
        ("1234 5678 9012", UNREADABLE),
        ("test test test", NO_DIAGNOSIS),
        ("TEST PATIENT - PLEASE IGNORE", NO_DIAGNOSIS),
        ("Patient: ____\nSpecimen: ____\nHistology: ____\nGrade: ____\nStage: ____\nSigned: ____", NO_DIAGNOSIS),
        ("Fibroadenoma. Negative for atypia and malignancy.", NO_TUMOUR),
        ("Sigmoid colon, polypectomy: tubular adenoma. No high grade dysplasia or carcinoma.", NO_TUMOUR),
        ("Skin of the nose: basal cell carcinoma, margins free.", NO_TUMOUR),
        ("TEST MESSAGE - PLEASE IGNORE: invasive ductal carcinoma.", NO_TUMOUR),
        ("EEG: normal background alpha rhythm of 10 Hz, no epileptiform discharges.", NO_DIAGNOSIS),
        ("Open repair of an infrarenal aortic aneurysm with a tube graft. No complications.", NO_DIAGNOSIS),
        ("Invasives duktales Karzinom der linken Brust, und mit Metastasen.", NO_DIAGNOSIS),
        ("Der Befund: carcinoma ductale, und keine Metastasen in den Lymphknoten.", NO_DIAGNOSIS),
    ],
)
def test_texts_without_a_reportable_tumour(text, sign):
    assert signs(text) == [sign]


@given(st.integers(60, 6000), st.integers(0, 2**32))
def test_an_encoded_document_is_unreadable_and_holds_no_phrase(size, seed):
    found = wording(base64.b64encode(random.Random(seed).randbytes(size)).decode())
    assert (found.signs, found.phrases) == ((UNREADABLE,), ())


def test_every_sign_is_a_reason():
    assert set(SIGNS) <= set(REASONS)


PIECES = [
    *("Invasive carcinoma.", "No melanoma.", "Fibroadenoma.", "Gross:", "Specimen:", "IIIIIII |||", "und der mit", "\n"),
    *("test only", "two primaries", "primary unknown", "[ ]", "____", "Liver, biopsy: metastatic", "History:", "Diagnosis:"),
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join)))
def test_one_of_the_signs_without_a_tumour_at_most(text):
    found = wording(text)
    assert sum(sign in found.signs for sign in WITHOUT_TUMOUR) <= 1
    assert [sign for sign in SIGNS if sign in found.signs] == list(found.signs)
    assert UNREADABLE not in found.signs or (found.signs == (UNREADABLE,) and found.phrases == ())


def test_texts_that_no_registry_codes():
    rows = generate(400, 11).to_pylist()
    missed = Counter(row["kind"] for row in rows if not set(signs(row["text"])) & set(WITHOUT_TUMOUR))
    assert missed.total() <= 0.025 * len(rows), missed
    assert not missed.keys() & {"scan_noise", "encoded_document", "interface_test"}, missed
    assert {"scan_noise", "encoded_document", "interface_test"} <= {row["kind"] for row in rows}


def test_real_reports_of_tumours(shared_data):
    """Reports of resected tumours, of which the patients have one each."""
    files = sorted((shared_data / "pathology_tcga").glob("*.parquet"))
    if not files:
        pytest.skip("needs the reports of TCGA beside the checkout")
    tables = [pq.read_table(file, columns=["split", "text"]) for file in files]
    texts = [row["text"] for table in tables for row in table.to_pylist() if row["split"] == "valid"]
    counts = Counter(sign for text in texts for sign in signs(text))
    assert len(texts) > 600
    assert counts[NO_TUMOUR] <= 0.003 * len(texts)
    assert counts[NO_DIAGNOSIS] <= 0.03 * len(texts) and counts[UNREADABLE] <= 0.005 * len(texts)
    assert counts[SEVERAL] <= 0.015 * len(texts)


_PARTS = [
    *("two ", "primary metastatic ", "metastatic consistent with ", "gross ", "liver biopsy ", "no carcinoma. ", "history\n"),
    *("[ ] carcinoma ", "A. Colon: carcinoma.\n", "carcinoma is not seen ", "ab-\n", "....", "\t", "IIII "),
]


@pytest.mark.parametrize("phrase", _PARTS)
def test_a_long_text_takes_time_in_proportion(phrase):
    def seconds(count):
        text = phrase * count
        return cpu_seconds(lambda: wording(text))

    assert seconds(12_000) < 12 * seconds(3_000) + 0.5
