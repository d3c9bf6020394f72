"""Explaining a finished run of entities: rows of `explanations`, with a target for each entity."""

import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.explain.explanation import OTHER_ANSWER
from engine.explain.settings import METHOD_NAMES, OWN_METHODS
from engine.models import run
from engine.models.base import ModelSpec
from engine.models.explanations import load
from engine.records import AUTO, REVIEW
from engine.text.units import UNIT_KINDS
from tests.models.conftest import records
from tests.models.entities.conftest import written
from tests.models.prompt_mrc.conftest import World, scattered, tiny_config, tiny_learner, write
from tests.models.prompt_mrc.test_attributable import ANYTHING
from tests.models.prompt_mrc.test_extractor import extractor, rows

TEXTS = ["we saw  a red apple", "hill green pear tree", "x", " ".join(["the old man"] * 9)]
# With fewer copies two words may occur in the same ones, and the order of their equal scores would depend on the last bits.
QUICK = {"steps": 6, "samples": 40, "perturbations": 2}
NO_KEEP = pa.schema([])
SHARES = {"word": "context_share", "prompt": "hard_share", "soft_prompt": "soft_share"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    learner = tiny_learner(tiny_config(), World.make(2))
    scattered(learner.network)
    return write(learner, tmp_path_factory.mktemp("model") / "m", **ANYTHING)


@pytest.fixture(scope="module")
def coded(folder):
    """The run's rows, with only the first and the last of the many entities of each text."""
    run_rows = rows(extractor(folder, every=True, runtime={"threads": 1}), TEXTS)
    return [row | {"entities": row["entities"][:1] + row["entities"][-1:]} for row in run_rows]


@pytest.fixture(scope="module")
def answers(coded, tmp_path_factory):
    return written(tmp_path_factory.mktemp("answers") / "a.parquet", TEXTS, coded)


def system(folder, answers, runtime=None, run_options=None, **options):
    """The system that explains the answers of a run; `run_options` are the run's."""
    values = {
        "run": "abc",
        "of": "engine.models.prompt_mrc",
        "options": {"evidence": "attnlrp", "every": True, **(run_options or {})},
        "faithfulness": 0.0,
        "stability": 0.0,
        **QUICK,
        **options,
    }
    return load(ModelSpec("", str(folder), values, {"answers": [answers], "threads": 1, **(runtime or {})}))


def explained(explainer, texts=TEXTS, table=None):
    """Failures and explanations by row."""
    meta, prepared = run.prepare(explainer, records(texts) if table is None else table)
    failures = {row["row"]: row["failure"] for row in meta.to_pylist() if row["failure"]}
    return failures, {row["row"]: row for row in run.answer(explainer, prepared, NO_KEEP).to_pylist()}


@pytest.mark.parametrize("method", [name for name in METHOD_NAMES if name not in OWN_METHODS])
def test_every_method_explains_each_entity(folder, answers, coded, method):
    failures, explanations = explained(system(folder, answers, method=method, faithfulness=1.0, stability=1.0))
    assert failures == {} and sorted(explanations) == [0, 1, 2, 3]
    for index, text in enumerate(TEXTS):
        row, entities = explanations[index], coded[index]["entities"]
        assert (row["failure"], row["method"], row["coded_run"]) == (None, method, "abc")
        assert row["text_sha256"] == coded[index]["text_sha256"] and row["faithfulness_sampled"] and row["stability_sampled"]
        assert [row[name] for name in ("n_tokens", "n_windows")] == [coded[index][name] for name in ("n_tokens", "n_windows")]
        spans = [(t["target_name"], t["target_start"], t["target_end"]) for t in row["targets"]]
        assert spans == [(each["type"], each["start"], each["end"]) for each in entities] and spans
        assert row["decision"] == (AUTO if all(t["status"] == "ok" for t in row["targets"]) else REVIEW)
        assert len({t["explanation_id"] for t in row["targets"]}) == len(row["targets"])
        for target in row["targets"]:
            assert (target["target_kind"], target["target_source"], target["unit_kind"]) == ("span", "predicted", "word")
            words = [unit for unit in target["units"] if UNIT_KINDS[unit["kind"]] == "word"]
            assert all(text[u["start"] : u["end"]].strip() == text[u["start"] : u["end"]] != "" for u in words)
            assert all(unit["text"] is None for unit in words)
            beside = [UNIT_KINDS[unit["kind"]] for unit in target["units"] if unit["start"] is None]
            assert beside.count("soft_prompt") == 6 and beside.count("prompt") == len(beside) - 6 > 0
            assert target["n_perturb"] == 2
            if target["status"] == "ok":
                assert sum(u["weight"] for u in target["units"]) == pytest.approx(1, abs=1e-5)
                measures = ("comp_aopc", "suff_aopc", "random_comp", "flip_rate", "boundary_mass", "boundary_lift")
                assert all(target[f"m_{name}"] is not None for name in measures)
                assert all(text[s["start"] : s["end"]].strip() for s in target["selected_spans"])
                assert target["m_shift_margin"] is not None or len(words) == 1


def test_gradients_give_the_shares_of_the_run_s_rows(folder, answers, coded):
    _, explanations = explained(system(folder, answers, method="attnlrp"))
    for index, row in explanations.items():
        for target, entity in zip(row["targets"], coded[index]["entities"], strict=True):
            for kind, column in SHARES.items():
                share = sum(unit["weight"] for unit in target["units"] if UNIT_KINDS[unit["kind"]] == kind)
                assert share == pytest.approx(entity[column], abs=1e-5)
            assert target["m_boundary_mass"] is None and target["m_shift_margin"] is None


@pytest.mark.parametrize("method", ["attnlrp", "fused", "lime"])
def test_a_record_is_explained_the_same_whatever_stands_beside_it(folder, answers, method):
    options = {"method": method, "faithfulness": 1.0, "stability": 1.0}
    _, together = explained(system(folder, answers, **options))
    single = system(folder, answers, {"batch_tokens": 60}, **options)
    for index, row in together.items():
        _, alone = explained(single, table=records(TEXTS).slice(index, 1))
        for one, other in zip(row["targets"], alone[index]["targets"], strict=True):
            assert one["explanation_id"] == other["explanation_id"] and one["seed"] == other["seed"]
            scores = [[unit["score"] for unit in each["units"]] for each in (one, other)]
            assert scores[0] == pytest.approx(scores[1], rel=1e-3, abs=1e-4)
            for name in ("m_comp_aopc", "m_random_comp", "m_boundary_mass", "m_shift_margin"):
                assert one[name] == pytest.approx(other[name], abs=1e-4)


def test_deterministic_is_bit_for_bit_whatever_the_batches(folder, answers):
    options = {"method": "attnlrp", "faithfulness": 1.0, "deterministic": True}
    _, one = explained(system(folder, answers, {"batch_tokens": 128}, **options))
    _, other = explained(system(folder, answers, {"batch_tokens": 9999}, **options))
    assert one == other


def test_an_entity_is_explained_in_the_window_that_gave_it(folder, answers, coded):
    explainer = system(folder, answers, method="attnlrp")
    _, explanations = explained(explainer, table=records(TEXTS).slice(3, 1))
    assert coded[3]["n_windows"] > 1
    for target in explanations[3]["targets"]:
        starts = [unit["start"] for unit in target["units"] if unit["start"] is not None]
        assert min(starts) <= target["target_start"] and target["status"] == "ok"


def test_types_are_chosen_and_a_record_without_any_has_no_targets(folder, coded, tmp_path):
    none = written(tmp_path / "a.parquet", TEXTS, coded, entities={2: []})
    _, explanations = explained(system(folder, none, method="attnlrp", tasks=("B",)))
    assert explanations[2]["targets"] == [] and explanations[2]["decision"] == AUTO
    for index in (0, 1):
        assert {target["target_name"] for target in explanations[index]["targets"]} == {"B"}
    nothing = written(tmp_path / "b.parquet", TEXTS, coded, entities={row: [] for row in range(4)})
    _, explanations = explained(system(folder, nothing, method="fused", faithfulness=1.0, stability=1.0))
    assert all(row["targets"] == [] for row in explanations.values())


def test_an_entity_that_the_model_no_longer_finds_is_flagged(folder, answers):
    strict = {"thresholds": {"start": 0.999999, "end": 0.999999, "match": 0.999999}}
    _, explanations = explained(system(folder, answers, run_options=strict, method="attnlrp"))
    assert {target["status"] for row in explanations.values() for target in row["targets"]} == {OTHER_ANSWER}
    assert {row["decision"] for row in explanations.values()} == {REVIEW}


def test_records_that_do_not_match_the_run_fail(folder, coded, tmp_path):
    entity = {**coded[0]["entities"][0], "start": 1, "end": 4}
    changes = {"decision": {1: "failed"}, "text_sha256": {1: None, 2: b"x" * 32}, "entities": {0: [entity], 1: None}}
    answers = written(tmp_path / "a.parquet", TEXTS, coded, **changes)
    failures, explanations = explained(system(folder, answers, method="attnlrp"))
    assert {row: failure["kind"] for row, failure in failures.items()} == {1: "not_coded", 2: "text_changed"}
    assert explanations[0]["failure"] == {"kind": "not_coded", "detail": "an entity of the run is no run of the text's words"}
    assert explanations[3]["failure"] is None


def test_sentences_as_units_leave_the_prompt_as_it_is(folder, answers):
    _, explanations = explained(system(folder, answers, method="occlusion", units="sentence"))
    for target in explanations[0]["targets"]:
        kinds = [UNIT_KINDS[unit["kind"]] for unit in target["units"]]
        assert kinds.count("sentence") == 1 and kinds.count("soft_prompt") == 6 and target["unit_kind"] == "sentence"


def test_a_users_own_questions_are_explained(folder, tmp_path):
    question = {"questions": {"C": "which fruit is named"}, "types": ["C"]}
    coded = rows(extractor(folder, **question), TEXTS)
    answers = written(tmp_path / "a.parquet", TEXTS, coded)
    _, explanations = explained(system(folder, answers, run_options=question, method="attnlrp"))
    (target, *_) = explanations[0]["targets"]
    words = [unit["text"] for unit in target["units"] if UNIT_KINDS[unit["kind"]] == "prompt"]
    assert target["target_name"] == "C" and words == ["which", "fruit", "is", "named"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("Z",)}, r"explain\.tasks: the run looked for no type 'Z'; it did for A, B"),
        ({"targets": {"A": "B"}}, r"explain\.targets: entities have no codes"),
        ({"method": "pooling"}, r"explain\.method: an extractor of entities has no 'pooling'; it has integrated_gradients"),
        ({"erasure": "delete"}, r"explain\.erasure: an extractor of entities has no 'delete'; it has mask"),
        ({"of": "engine.models.explanations"}, "gives no answers that can be explained"),
    ],
)
def test_impossible_options_are_refused_before_any_work(folder, answers, options, message):
    with pytest.raises(ConfigError, match=message):
        system(folder, answers, **options)
