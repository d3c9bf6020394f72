import re

import pytest

from engine.sources.synthetic.radiographs import reports
from engine.sources.synthetic.radiographs.reports import Noise, write
from engine.sources.synthetic.radiographs.study import Shares, Sign, Study, study
from engine.text.chest import FINDINGS

CLEAN = Noise(0.0, 0.0)
# What names a finding in the sentences of both sites.
WORDS = {
    "Enlarged Cardiomediastinum": "mediastin",
    "Cardiomegaly": "cardiomegaly|heart|cardiac silhouette",
    "Lung Opacity": "opacity",
    "Lung Lesion": "nodule",
    "Edema": "edema",
    "Consolidation": "consolidat",
    "Pneumonia": "pneumonia",
    "Atelectasis": "atelectasis",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "effusion",
    "Pleural Other": "pleural thickening",
    "Fracture": "fracture",
    "Support Devices": "pacemaker|tube|catheter|central line",
}
ABSENT = re.compile(r"\b(no|not|normal)\b", re.I)


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return [study(7, number, Shares(2.0, 1.5, "Edema", 0.8, 0.05)) for number in range(1500)]


def sentences(report: str) -> list[str]:
    text = re.sub(r"^(CHEST \w+|FINDINGS:|IMPRESSION:|Findings:|Impression:|- |\d\. )", "", report, flags=re.M)
    return [sentence for line in text.split("\n") for sentence in re.split(r"(?<=[a-z])\. ?", line) if sentence.strip()]


def said(report: str) -> dict[str, set[str]]:
    """What a report says of each finding: present, possible or absent."""
    kinds: dict[str, set[str]] = {}
    for sentence in sentences(report):
        kind = "absent" if ABSENT.search(sentence) else "possible" if "possible" in sentence.lower() else "present"
        for name, words in WORDS.items():
            if re.search(words, sentence, re.I):
                kinds.setdefault(name, set()).add(kind)
    return kinds


def test_a_clean_report_says_what_is_there_and_nothing_else(studies):
    for each in studies:
        report, noise = write(each, CLEAN)
        kinds = said(report)
        assert noise == []
        for name in FINDINGS[:-1]:
            allowed = [{"present"}] if each.states[name] else [{"absent"}, set()]
            assert kinds.get(name, set()) in allowed, (name, report)
        assert bool(re.search("normal chest|no acute (cardio|findings)", report, re.I)) == bool(each.states["No Finding"])
        assert ("letter L" in report) == each.marker


def test_side_and_lobe_are_those_of_the_sign():
    shown = Study("r", "p", "north", "PA", (Sign("Consolidation", "left", "lower"), Sign("Fracture", "right")), False)
    report = write(shown, CLEAN)[0]
    assert "left lower lobe" in report and re.search("right( posterior)? rib", report)


def test_findings_are_left_out_as_often_as_asked_for(studies):
    present = left_out = 0
    for each in studies:
        report, noise = write(each, Noise(0.3, 0.0))
        kinds, names = said(report), [name for name in FINDINGS[:-1] if each.states[name]]
        missing = [name for name in names if name not in kinds]
        present, left_out = present + len(names), left_out + len(missing)
        assert noise == ([reports.LEFT_OUT] if missing else [])
        assert all("absent" not in kinds.get(name, ()) for name in names)
    assert left_out / present == pytest.approx(0.3, abs=0.03)


def test_findings_are_hedged_as_often_as_asked_for(studies):
    hedged = mentioned = 0
    for each in studies:
        report, noise = write(each, Noise(0.2, 0.4))
        kinds = [kind for name, kind in said(report).items() if each.states[name]]
        assert all(kind in ({"present"}, {"possible"}) for kind in kinds), report
        hedged, mentioned = hedged + kinds.count({"possible"}), mentioned + len(kinds)
        assert (reports.HEDGED in noise) == ({"possible"} in kinds)
    assert hedged / mentioned == pytest.approx(0.4, abs=0.03)


def test_nothing_left_reads_like_a_normal_report():
    shown = Study("r", "p", "south", "PA", (Sign("Edema", "bilateral"),), False)
    report, noise = write(shown, Noise(1.0, 1.0))
    assert "dema" not in report and re.search("Normal chest|No acute", report) and noise == [reports.LEFT_OUT]


def test_sites_write_differently(studies):
    for each in studies[:200]:
        report = write(each, CLEAN)[0]
        assert report == write(each, CLEAN)[0]
        assert report.startswith("FINDINGS: ") if each.site == "north" else report.startswith(f"CHEST {each.view}\nFindings:\n- ")
        assert re.search("\nIMPRESSION: [A-Z]" if each.site == "north" else "\nImpression:\n1. [A-Z]", report)
        assert not re.search(r"[{}]|\s\s|\. *\.|: *$", report), report


def test_both_sites_have_the_same_symbols():
    north, south = (reports._symbols(site) for site in ("north", "south"))
    assert set(north) == set(south)
    assert {f"{name}{part}" for name in FINDINGS[:-2] for part in ("", " noun", " absent")} <= set(north)
