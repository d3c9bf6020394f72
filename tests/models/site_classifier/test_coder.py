import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.models.code_decide import Answer
from engine.models.code_task import Task, TaskCalibration
from engine.models.columns import matrix
from engine.models.site_classifier import Options, SiteCoder
from engine.models.site_classifier.checkpoint import read_checkpoint
from engine.models.site_classifier.config import EVIDENCE_METHODS, HEADS
from engine.records import REASONS, text_digest
from engine.registry.wording import SIGNS
from tests.models.conftest import TASKS, TEXTS, coded, coder, records, revise, tiny_config, write_tiny

NAMES = {
    "C18": "colon",
    "C34": "lung and bronchus",
    "C50": "breast",
    "C61": "prostate",
    "8070/3": "squamous cell carcinoma",
    "8140/3": "adenocarcinoma",
    "8500/3": "invasive ductal carcinoma",
}


def test_each_record_gives_one_row_with_evidence_at_places_of_its_own_text(tiny):
    rows = coded(coder(tiny, checks=1.0), TEXTS)
    assert [row["row"] for row in rows] == list(range(len(TEXTS)))
    for text, row in zip(TEXTS, rows, strict=True):
        assert row["failure"] is None
        assert row["text_sha256"] == text_digest(text)
        assert row["truncated_chars"] == 0
        for task in ("site", "histology"):
            assert 0 < row[f"{task}_prob"] <= 1
            assert row[f"{task}_top"][0]["code"] == row[f"{task}_code"]
            assert row[f"{task}_name"] == NAMES[row[f"{task}_code"]]
            assert 1 <= len(row[f"{task}_evidence"]) <= 5
            for span in row[f"{task}_evidence"]:
                shown = text[span["start"] : span["end"]]
                assert shown == shown.strip() != ""
            assert sum(span["weight"] for span in row[f"{task}_evidence"]) <= 1 + 1e-6


def test_each_task_has_its_reasons_and_the_row_those_of_the_deciding_tasks(tmp_path):
    base = read_checkpoint(str(write_tiny(tmp_path / "model", threshold=0.0)))
    revise(base, tmp_path / "revised", {**base.calibration, "histology": TaskCalibration()})
    for row in coded(coder(tmp_path / "revised", min_support=0, method="none", rules=()), TEXTS[:3]):
        assert (row["site_decision"], row["site_reasons"]) == ("auto", [])
        assert row["histology_decision"] == "review" and "no_threshold" in row["histology_reasons"]
        assert (row["decision"], row["reasons"]) == ("auto", [])
    both = coder(tmp_path / "revised", min_support=0, method="none", rules=(), tasks=("site", "histology"))
    for row in coded(both, TEXTS[:3]):
        assert (row["decision"], row["reasons"]) == ("review", row["histology_reasons"])


def test_the_limits_count_the_codes_of_the_deciding_tasks(tmp_path, tiny):
    line = "3 of 4 site codes can be coded without review with this model (decision.min_support=10)."
    assert coder(tiny).limits() == {"rare_class_below_support": line, "no_threshold": line}
    both = coder(write_tiny(tmp_path / "m", threshold=1.01), tasks=("site", "histology"), thresholds={"site": 0.9}, min_support=0)
    assert both.limits()["no_threshold"] == (
        "4 of 4 site codes and 0 of 3 histology codes can be coded without review with this model (decision.min_support=0)."
    )
    assert coder(tiny, tasks=()).limits() == {}
    assert set(coder(tiny).limits()) <= set(REASONS)


def test_the_whole_report_is_read_and_characters_beyond_the_limit_are_counted(tiny):
    (short,) = coded(coder(tiny, max_tokens=20), [TEXTS[3]])
    assert short["n_tokens"] == 20
    assert short["truncated_chars"] > 0
    assert "text_truncated" in short["reasons"]
    (whole,) = coded(coder(tiny), [TEXTS[3]])
    assert whole["n_windows"] == -(-whole["n_tokens"] // 24)


@pytest.mark.parametrize("method", ["none", *EVIDENCE_METHODS])
def test_batches_change_nothing(tiny, method):
    apart = coded(coder(tiny, {"batch_tokens": 128}, method=method), TEXTS)
    together = coded(coder(tiny, {"batch_tokens": 100_000}, method=method), TEXTS[::-1])[::-1]
    for one, other in zip(apart, together, strict=True):
        assert one["site_code"] == other["site_code"]
        assert one["decision"] == other["decision"]
        assert one["site_prob"] == pytest.approx(other["site_prob"], abs=1e-5)
        spans = [[(s["start"], s["end"]) for s in row["site_evidence"] or []] for row in (one, other)]
        assert spans[0] == spans[1]


def test_deterministic_is_bit_for_bit(tiny):
    first = coded(coder(tiny, {"batch_tokens": 128}, deterministic=True), TEXTS)
    second = coded(coder(tiny, {"batch_tokens": 9999}, deterministic=True), TEXTS[2:])
    drop = {"row"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in first[2:]] == [
        {k: v for k, v in row.items() if k not in drop} for row in second
    ]


def test_deterministic_encodes_the_same_windows_together_whatever_the_batches(tiny, monkeypatch):
    """Looks at the batches, since on some machines the rows of a matrix product are the same in any batch."""
    seen = []
    for tokens in (64, 9999):
        system = coder(tiny, {"batch_tokens": tokens}, deterministic=True)
        passes, states = [], system.network._states
        monkeypatch.setattr(system.network, "_states", lambda *args, p=passes, s=states: p.append(args[0].shape) or s(*args))
        coded(system, TEXTS)
        seen.append(passes)
    assert seen[0] == seen[1] and max(shape[0] for shape in seen[0]) > 5


def test_the_method_none_gives_no_evidence(tiny):
    for row in coded(coder(tiny, method="none"), TEXTS):
        assert row["site_evidence"] is None and row["site_comprehensiveness"] is None


def test_the_same_share_of_ids_is_checked_whatever_the_batches(tiny):
    texts = ["carcinoma of the colon"] * 200
    first = [row["site_comprehensiveness"] for row in coded(coder(tiny, checks=0.2), texts)]
    assert 20 < sum(value is not None for value in first) < 60
    again = [row["site_comprehensiveness"] for row in coded(coder(tiny, {"batch_tokens": 64}, checks=0.2), texts)]
    assert [v is None for v in first] == [v is None for v in again]


def test_masking_all_evidence_of_a_one_word_text_is_as_masking_everything(tiny):
    (row,) = coded(coder(tiny, checks=1.0, method="grad_l2"), ["carcinoma"])
    assert row["site_comprehensiveness"] == pytest.approx(row["site_random_comprehensiveness"])
    assert row["site_sufficiency"] == pytest.approx(0, abs=1e-6)


def test_a_text_without_tokens_fails_alone(tiny):
    prepared = coder(tiny).prepare(records(["\x00\x01", "colon"]))
    assert [failure and failure["kind"] for failure in prepared["failure"].to_pylist()] == ["missing_text", None]


def test_an_empty_shard(tiny):
    system = coder(tiny)
    assert len(system.run(system.prepare(records([])))) == 0


def test_digits_only_go_to_review(tiny):
    (row,) = coded(coder(tiny), ["7" * 10_000])
    assert row["decision"] == "review" and "unreadable_text" in row["reasons"]
    assert row["phrases"] == []


def test_phrases_of_the_reportability_lists_where_they_stand(tiny):
    text = "😀 Colon, biopsy:\nADENO\u00adCARCINOMA. No lymphoma."
    (row,) = coded(coder(tiny), [text])
    shown = [(text[phrase["start"] : phrase["end"]], phrase["assertion"]) for phrase in row["phrases"]]
    assert shown == [("ADENO\u00adCARCINOMA", "affirmed"), ("lymphoma", "negated")]
    assert [phrase["kind"] for phrase in row["phrases"]] == ["statement", "statement"]
    assert row["phrases"][0]["phrase"] == "adenocarcinoma"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Tubular adenoma. Negative for carcinoma.", "no_reportable_tumour"),
        ("Invasives duktales Karzinom der Brust.", "no_diagnosis_text"),
        ("IIIIIIIIIIIIII |||| 0001", "unreadable_text"),
    ],
)
def test_a_text_without_a_reportable_tumour_goes_to_review(tmp_path, text, reason):
    folder = write_tiny(tmp_path / "model", threshold=0.0)
    (row,) = coded(coder(folder, min_support=0, method="none"), [text])
    assert (row["decision"], row["reasons"]) == ("review", [reason])
    # The codes are suggested all the same, and a rule may be switched off.
    assert row["site_decision"] == "auto" and row["site_code"]
    (row,) = coded(coder(folder, min_support=0, method="none", rules=("section_missing",)), [text])
    assert (row["decision"], row["reasons"]) == ("auto", [])


def test_logits_come_in_the_order_of_the_rows(tiny):
    system = coder(tiny)
    forward = matrix(system.scores(system.prepare(records(TEXTS)))["site_logits"])
    backward = matrix(system.scores(system.prepare(records(TEXTS[::-1])))["site_logits"])
    assert np.allclose(forward, backward[::-1], atol=1e-5)


def test_paired_input_changes_the_answer(tmp_path):
    folder = write_tiny(tmp_path / "model", tiny_config(paired=True))
    with pytest.raises(ConfigError, match=r"text\.pair"):
        coder(folder)
    system = coder(folder, pair="question")
    one = coded(system, TEXTS[:1], keep={"question": ["which organ"]})[0]
    other = coded(system, TEXTS[:1], keep={"question": ["is it benign or malignant, and how large"]})[0]
    assert one["site_prob"] != other["site_prob"]
    assert all(span["end"] <= len(TEXTS[0]) for span in one["site_evidence"])


def test_multi_label(tmp_path):
    task = Task("hallmark", ("a", "b", "c"), (20, 20, 20), multi_label=True)
    folder = write_tiny(tmp_path / "model", tiny_config(tasks=(task,)))
    rows = coded(coder(folder, tasks=["hallmark"], checks=1.0), TEXTS)
    assert all(set(filter(None, row["hallmark_code"].split(";"))) <= {"a", "b", "c"} for row in rows)


@pytest.mark.parametrize("name", ["config.json", "labels.json", "model.safetensors", "calibration.json", "tokenizer.json"])
def test_a_touched_file_is_refused(tmp_path, name):
    folder = write_tiny(tmp_path / "model")
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ConfigError, match=name):
        coder(folder)


def test_a_forged_digest_is_refused(tmp_path):
    folder = write_tiny(tmp_path / "model")
    digests = json.loads((folder / "digest.json").read_text())
    digests["digest"] = "0" * 64
    (folder / "digest.json").write_text(json.dumps(digests))
    with pytest.raises(ConfigError, match="does not match its files"):
        coder(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["grade"]}, "no task 'grade'"),
        ({"method": "magic"}, "explain.method"),
        ({"checks": 2.0}, "checks (explain.checks_fraction): 2.0 is not allowed; wants a number from 0 to 1"),
        ({"spans": "three"}, "spans (explain.spans): 'three' is not allowed; wants a whole number from 1 to 50"),
        ({"rules": ["no_rule"]}, "rules (decision.rules): 'no_rule' is not allowed"),
        ({"nonsense": 1}, "nonsense"),
        ({"thresold": {}}, "did you mean 'thresholds'?"),
    ],
)
def test_wrong_options_are_one_line(tiny, options, message):
    with pytest.raises(ConfigError) as error:
        coder(tiny, **options)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, "not json", "[]", "{}"])
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "digest.json").write_text(content)
    with pytest.raises(ConfigError, match="no checkpoint folder"):
        coder(tmp_path)


def test_a_file_in_place_of_the_checkpoint_is_refused(tmp_path):
    (tmp_path / "model").write_text("x")
    with pytest.raises(ConfigError, match="no checkpoint folder"):
        coder(tmp_path / "model")


@pytest.mark.parametrize("encoder", ["tiny:bert", "tiny:longformer"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_codes_and_explains_by_every_method_that_it_has(tmp_path, head, encoder):
    config = tiny_config(head=head, encoder=encoder)
    folder = write_tiny(tmp_path / "model", config)
    with pytest.raises(ConfigError, match="the head 'cls' has no 'pooling'") if head == "cls" else nullcontext():
        coder(folder, method="pooling")
    for method in config.evidence_methods:
        for row, text in zip(coded(coder(folder, method=method, checks=1.0), TEXTS[:3]), TEXTS, strict=False):
            assert row["site_evidence"] and all(0 <= span["start"] < span["end"] <= len(text) for span in row["site_evidence"])


def test_4096_tokens_are_read_at_once(tmp_path):
    text = "Specimen received in formalin. " * 700
    long = tiny_config(head="dpla", encoder="tiny:longformer", window=4094)
    row = coded(coder(write_tiny(tmp_path / "model", long), max_tokens=4094), [text])[0]
    assert row["n_windows"] == 1 and row["n_tokens"] == 4094 and row["truncated_chars"] > 0
    assert "text_truncated" in row["reasons"]


def sure(code, *reasons):
    return Answer(code, 0.9, "review" if reasons else "auto", [], reasons)


class RuleCoder(SiteCoder):
    def __init__(self, pairs=frozenset(), **options):
        self.options, self.config = Options(**options), SimpleNamespace(tasks=TASKS)
        self.checkpoint = SimpleNamespace(pairs=pairs)


def reasons_of(answers, signs=(), truncated_chars=0, **changes):
    """The reasons of a row, which is `auto` without any."""
    return RuleCoder(**changes).reasons({"signs": signs, "truncated_chars": truncated_chars}, answers)


def test_only_the_required_tasks_must_be_sure():
    assert reasons_of({"site": sure("C18"), "histology": sure("8140/3", "low_confidence")}) == set()
    assert reasons_of({"site": sure("C18", "low_confidence"), "histology": sure("8140/3")}) == {"low_confidence"}


def test_reasons_of_the_whole_report():
    answers = {"site": sure("C18"), "histology": sure("8041/3")}
    assert reasons_of(answers, truncated_chars=7) == {"text_truncated"}
    assert reasons_of(answers, pairs=frozenset({("C18", "8140/3")})) == {"unseen_code_pair"}
    assert reasons_of(answers, pairs=frozenset({("C18", "8041/3")})) == set()


def test_rules_send_to_review_unless_they_are_switched_off():
    answers = {"site": sure("C50"), "histology": sure("8140/3")}
    for sign in SIGNS:
        assert reasons_of(answers, signs=[sign]) == {sign}
        expected = set() if sign != "section_missing" else {sign}
        assert reasons_of(answers, signs=[sign], rules=("section_missing",)) == expected


def test_codes_that_contradict_each_other_need_both_to_be_more_sure_than_not():
    site, histology = sure("C50"), sure("8170/3")
    assert reasons_of({"site": site, "histology": histology}) == {"site_morphology_invalid"}
    doubtful = Answer("8170/3", 0.4, "review", [], ("low_confidence",))
    assert reasons_of({"site": site, "histology": doubtful}) == set()
