from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sources.synthetic.radiographs.study import Shares, Sign, Study, patient_of, study
from engine.text.chest import FINDINGS

SHARES = Shares(2.0, 1.0, None, 0.8, 0.05)


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return [study(7, number, SHARES) for number in range(6000)]


def share(studies: list[Study], name: str, given: str | None = None) -> float:
    states = [study.states[name] for study in studies if given is None or study.states[given]]
    return sum(states) / len(states)


@given(st.integers(0, 2**40), st.integers(0, 10**7), st.sampled_from([1.0, 1.5, 3.0, 20.0]))
def test_a_patients_records_are_one_stretch(seed, number, mean):
    first, count = patient_of(seed, number, mean)
    assert first <= number < first + count
    assert {patient_of(seed, each, mean) for each in range(first, first + count)} == {(first, count)}
    assert mean > 1 or count == 1


@pytest.mark.parametrize("mean", [1.0, 2.0, 3.5])
def test_patients_have_as_many_studies_as_asked_for(mean):
    patients = {patient_of(7, number, mean)[0] for number in range(20_000)}
    assert 20_000 / len(patients) == pytest.approx(mean, rel=0.05)


def test_states_follow_from_signs():
    states = Study("r", "p", "north", "PA", (Sign("Support Devices", kind="line"),), False).states
    assert tuple(states) == FINDINGS and {name for name, state in states.items() if state} == {"Support Devices", "No Finding"}
    states = Study("r", "p", "north", "PA", (Sign("Edema"),), False).states
    assert {name for name, state in states.items() if state} == {"Edema"}


def test_findings_go_together_as_in_hospitals(studies):
    assert all(0.02 < share(studies, name) < 0.3 for name in FINDINGS[:-1]), [share(studies, name) for name in FINDINGS]
    assert 0.3 < share(studies, "No Finding") < 0.5
    for implied in ("Consolidation", "Pneumonia"):
        assert share(studies, "Lung Opacity", implied) == 1
    assert share(studies, "Lung Opacity") > share(studies, "Consolidation") + 0.03
    for one, other in (("Edema", "Cardiomegaly"), ("Pleural Effusion", "Edema"), ("Atelectasis", "Pleural Effusion")):
        assert share(studies, one, other) > 2 * share(studies, one)
    assert share(studies, "Support Devices", "No Finding") > 0.02


def test_prevalence_is_a_factor():
    rare = [study(7, number, Shares(2.0, 0.0, None, 0, 0)) for number in range(200)]
    assert all(each.states["No Finding"] and not each.signs for each in rare)
    common = [study(7, number, Shares(2.0, 3.0, None, 0, 0)) for number in range(500)]
    assert share(common, "No Finding") < 0.1


def test_what_lasts_is_the_same_in_all_studies_of_a_patient(studies):
    lasting: dict[str, set] = {}
    for each in studies:
        shown = [sign for sign in each.signs if sign.name in ("Cardiomegaly", "Lung Lesion") or sign.kind == "pacemaker"]
        lasting.setdefault(each.patient_id, set()).add(tuple(shown))
    assert all(len(shown) == 1 for shown in lasting.values()) and 2000 < len(lasting) < 4000
    assert len({(each.patient_id, each.site) for each in studies}) == len(lasting)


def test_two_sites_and_two_views(studies):
    counts = Counter((each.site, each.view) for each in studies)
    assert len(counts) == 4 and min(counts.values()) > 500


@pytest.mark.parametrize("finding", ["Pneumothorax", "No Finding"])
def test_the_marker_goes_with_its_finding(finding):
    marked = [study(7, number, Shares(2.0, 1.0, finding, 0.8, 0.1)) for number in range(6000)]
    by_state = {state: [each.marker for each in marked if each.states[finding] == state] for state in (0, 1)}
    assert sum(by_state[1]) / len(by_state[1]) == pytest.approx(0.8, abs=0.06)
    assert sum(by_state[0]) / len(by_state[0]) == pytest.approx(0.1, abs=0.02)
    assert [each.signs for each in marked] == [study(7, number, SHARES).signs for number in range(6000)]
    assert not any(study(7, number, SHARES).marker for number in range(100))
