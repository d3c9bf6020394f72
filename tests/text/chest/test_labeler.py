"""What invented sentences of reports say of the findings, worked by hand."""

import csv
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.assertions import cues
from engine.text.chest import FINDINGS
from engine.text.chest.labeler import FROM_ALL, FROM_OPACITIES, STATED, Mention, implied, label
from tests.clock import cpu_seconds

FAMILY = {"Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"}
HEART_AND_MEDIASTINUM = {"Enlarged Cardiomediastinum": 0, "Cardiomegaly": 0}
EFFUSION_AND_AIR = {"Pleural Effusion": 0, "Pneumothorax": 0}


def states(text, rules=False):
    """The stated findings of a text, without those that follow from others unless `rules`."""
    return {name: mention.state for name, mention in label(text).items() if rules or mention.rule == STATED}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Heart size is normal.", {"Cardiomegaly": 0}),
        ("The heart is not enlarged.", {"Cardiomegaly": 0}),
        ("Heart size is upper limits of normal.", {"Cardiomegaly": 0}),
        ("The cardiac silhouette is markedly enlarged.", {"Cardiomegaly": 1}),
        ("Borderline cardiomegaly.", {"Cardiomegaly": -1}),
        ("The heart may be enlarged.", {"Cardiomegaly": -1}),
        ("Normal heart size and mediastinal contours.", HEART_AND_MEDIASTINUM),
        ("Cardiomediastinal silhouette is normal.", HEART_AND_MEDIASTINUM),
        ("Heart, pulmonary XXXX and mediastinum are within normal limits.", HEART_AND_MEDIASTINUM),
        (
            "The heart is mildly enlarged and the mediastinum is unremarkable.",
            {"Cardiomegaly": 1, "Enlarged Cardiomediastinum": 0},
        ),
        ("Widened mediastinum.", {"Enlarged Cardiomediastinum": 1}),
        ("The lungs are hyperexpanded, heart size is normal.", {"Cardiomegaly": 0}),
        ("Lungs are clear.", dict.fromkeys(FAMILY, 0)),
        ("Clear lungs without effusion.", {**dict.fromkeys(FAMILY, 0), "Pleural Effusion": 0}),
        ("The right lung is clear.", {}),
        ("No pneumothorax or pleural effusion.", EFFUSION_AND_AIR),
        ("There is no large effusion or XXXX pneumothorax is seen.", EFFUSION_AND_AIR),
        ("No pneumothorax. Small effusion.", {"Pneumothorax": 0, "Pleural Effusion": 1}),
        ("Pneumothorax is not visualized.", {"Pneumothorax": 0}),
        ("Interval resolution of the left pleural effusion.", {"Pleural Effusion": 0}),
        ("The pneumonia has resolved.", {"Pneumonia": 0}),
        ("Removal of the chest tube.", {"Support Devices": 0}),
        ("Cannot exclude pneumonia.", {"Pneumonia": -1}),
        ("Left base opacity, may represent pneumonia.", {"Lung Opacity": 1, "Pneumonia": -1}),
        ("Atelectasis versus consolidation.", {"Atelectasis": -1, "Consolidation": -1}),
        ("Findings consistent with pulmonary edema.", {"Edema": 1}),
        ("Opacities suspicious for pneumonia.", {"Lung Opacity": 1, "Pneumonia": -1}),
        ("History of pneumonia.", {}),
        ("Old healed rib fractures.", {"Fracture": 1}),
        ("No focal consolidation, stable cardiomegaly.", {"Consolidation": 0, "Cardiomegaly": 1}),
        ("Compared to the prior exam, effusion has increased.", {"Pleural Effusion": 1}),
        ("No change in right effusion.", {"Pleural Effusion": 1}),
        ("No acute osseous abnormality.", {"Fracture": 0}),
        ("Blunting of the left costophrenic angle.", {"Pleural Effusion": -1}),
        ("Pericardial effusion.", {}),
        ("Hydropneumothorax on the right.", {"Pleural Effusion": 1, "Pneumothorax": 1}),
        ("INDICATION: Pneumonia? Effusion.\n\nFINDINGS: Left apical pneumothorax.", {"Pneumothorax": 1}),
        ("Mother has lung cancer.", {}),
        ("", {}),
        (" \n", {}),
    ],
)
def test_what_a_sentence_states(text, expected):
    assert states(text) == expected


def test_no_acute_abnormality_denies_acute_findings_alone():
    for text in ("No acute cardiopulmonary abnormality.", "No acute cardiopulmonary XXXX."):
        assert states(text) == dict.fromkeys(("Edema", "Consolidation", "Pneumonia", "Pneumothorax", "Pleural Effusion"), 0)
    assert states("Acute cardiopulmonary process.") == {}


def test_a_normal_chest_denies_all():
    assert states("Normal chest x-XXXX.") == dict.fromkeys(FINDINGS[:-2], 0)


def test_positive_wins_over_uncertain_over_negative():
    assert states("No effusion. Possible effusion.") == {"Pleural Effusion": -1}
    assert states("Possible effusion. Small effusion. No effusion.") == {"Pleural Effusion": 1}


def test_spans_are_those_of_the_winning_state():
    text = "Possible effusion. Effusion on the left, small effusion right."
    spans = label(text)["Pleural Effusion"].spans
    assert [text[start:end] for start, end in spans] == ["Effusion", "effusion"]
    assert spans[0][0] > 10
    text = "The heart size is normal."
    assert label(text)["Cardiomegaly"] == Mention(0, ((4, 24),))


def test_lung_opacity_follows_from_its_kinds():
    text = "Mild edema. Possible pneumonia."
    assert label(text)["Lung Opacity"] == Mention(1, ((5, 10),), FROM_OPACITIES)
    assert label("Possible pneumonia. No opacity.")["Lung Opacity"].state == -1
    assert label("Opacity. Possible pneumonia.")["Lung Opacity"].rule == STATED
    assert "Lung Opacity" not in label("No pneumonia.")


def test_no_finding_is_that_no_other_is_stated_or_uncertain():
    assert label("Lungs are clear. Pacemaker.")["No Finding"] == Mention(1, (), FROM_ALL)
    assert label("Scoliosis.") == {"No Finding": Mention(1, (), FROM_ALL)}
    text = "Possible fracture."
    assert label(text)["No Finding"] == Mention(0, ((9, 17),), FROM_ALL)
    assert implied({})["No Finding"][0] == 1 and implied({"Support Devices": 1})["No Finding"][0] == 1


def test_findings_have_the_order_of_the_constant():
    names = list(label("No finding of pneumothorax. Cardiomegaly. Edema. Pacemaker. Widened mediastinum."))
    assert names == [name for name in FINDINGS if name in names] and names[-1] == "No Finding"


def rows(name):
    with resources.files("engine.text.chest").joinpath(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_lists_name_findings_structures_and_states_that_exist():
    structures = rows("structures.csv")
    known, kinds = {row["structure"] for row in structures}, {row["state"] for row in structures}
    assert {name for row in structures for name in row["findings"].split(";")} <= set(FINDINGS[:-1])
    allowed = {"finding": set(FINDINGS[:-1]), "hint": set(FINDINGS[:-1]), "general": known, "structure": known, "state": kinds}
    phrases = [row["phrase"] for row in rows("lexicon.csv")]
    assert len(phrases) == len(set(phrases))
    for row in rows("lexicon.csv"):
        assert row["kind"] == "other" or set(row["names"].split(";")) <= allowed[row["kind"]], row


def test_every_finding_has_phrases():
    named = {name for row in rows("lexicon.csv") if row["kind"] == "finding" for name in row["names"].split(";")}
    assert named == set(FINDINGS[:-1])


def test_a_kind_of_report_changes_the_cues_of_its_language():
    assert "consistent with" in cues("en", "uncertain") and "consistent with" not in cues("en-chest", "uncertain")
    assert "no evidence of" in cues("en-chest", "negated")


SENTENCES = (
    "Heart size is normal.",
    "No effusion.",
    "XXXX",
    "Possible pneumonia",
    "lungs are clear",
    "\n",
    "IMPRESSION:",
    "no",
    "1.",
)


@given(st.lists(st.sampled_from(SENTENCES) | st.text(max_size=12), max_size=12))
def test_spans_lie_in_any_text(parts):
    text = " ".join(parts)
    for mention in label(text).values():
        assert mention.state in (-1, 0, 1)
        assert all(0 <= start < end <= len(text) for start, end in mention.spans)
        assert list(mention.spans) == sorted(set(mention.spans))


def test_a_long_text_takes_linear_time():
    text = "The heart is enlarged. No effusion or pneumothorax, possible pneumonia. " * 2_000
    label(text[:1_000])
    assert cpu_seconds(lambda: label(text)) < 10
