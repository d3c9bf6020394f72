"""What the base gives a system of entities, by a toy that is none of the engine's own."""

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ConfigError, RowError
from engine.explain.settings import METHOD_NAMES, OWN_METHODS, Settings
from engine.models import explanations, run
from engine.models.base import ModelSpec, module_of, systems
from engine.models.entities.consult import answer
from engine.models.entities.scores import candidates_of
from engine.models.entities.tuning import select_all
from engine.models.explained import ASKED
from engine.models.rows import answers_schema
from engine.records import in_share
from tests.models.conftest import records
from tests.models.entities.conftest import PACKAGE, tagger, written
from tests.models.prompt_mrc.conftest import World
from tests.toys import tagged

TEXTS = [
    "today we saw  the\tman 😀 sell hill green pear tree",
    "x",
    " ".join(World.make(9, seed=4).texts),
    "no red\u00a0apple. A plum.",
]
IDS = records(TEXTS)["record_id"].to_pylist()


@pytest.fixture(scope="module")
def system(scattered):
    return tagger(scattered)


@pytest.fixture(scope="module")
def coded(system):
    return rows(system)


def rows(system, texts=TEXTS):
    return system.run(system.prepare(records(texts))).sort_by("row").to_pylist()


def places(row):
    return [(each["start"], each["end"], each["type"]) for each in row["entities"]]


def test_the_package_itself_is_no_system():
    assert "engine.models.entities" not in systems()


def test_entities_are_words_of_the_text_and_do_not_overlap(coded):
    assert coded[2]["n_windows"] > 3 and sum(len(row["entities"]) for row in coded) > 20
    for row, text in zip(coded, TEXTS, strict=True):
        assert row["decision"] == "auto" and row["n_tokens"] > 0 and row["invalid_start_gt_end"] == row["repaired_tags"] == 0
        assert places(row) == sorted(places(row))
        end = 0
        for each in row["entities"]:
            part = text[each["start"] : each["end"]]
            assert part and part == part.strip() and end <= each["start"]
            end = each["end"]
            assert each["score"] > 0.3 and each["zero_shot"] is False
            assert each["start_score"] is each["margin"] is each["confused_with"] is None
            assert each["assertion"] is not None


def test_what_the_text_says_of_an_entity(coded):
    said = {TEXTS[3][each["start"] : each["end"]]: each["assertion"] for each in coded[3]["entities"]}
    assert {kind for words, kind in said.items() if "apple" in words} == {"negated"}


def test_windows_batches_and_neighbours_do_not_change_rows(scattered, coded):
    for other in (tagger(scattered, {"batch_tokens": 64}), tagger(scattered, deterministic=True)):
        for one, row in zip(coded, rows(other), strict=True):
            assert places(one) == places(row)
            for a, b in zip(one["entities"], row["entities"], strict=True):
                assert a["score"] == pytest.approx(b["score"], abs=1e-5)


def test_answers_go_by_row(system, coded):
    prepared = system.prepare(records(TEXTS))
    backward = system.run(prepared.take([3, 2, 1, 0]))
    assert {row["row"]: places(row) for row in backward.to_pylist()} == {row["row"]: places(row) for row in coded}
    nothing = system.run(system.prepare(records([])))
    assert len(nothing) == 0 and nothing.schema.equals(backward.schema)
    backward.select(answers_schema(system.fields()).names).cast(answers_schema(system.fields()))


def test_evidence_is_of_the_text_alone_and_of_the_best_of_each_type(scattered, coded):
    for row in coded:
        explained = [each for each in row["entities"] if each["evidence"] is not None]
        best = {kind: max(each["score"] for each in row["entities"] if each["type"] == kind) for _, _, kind in places(row)}
        assert {each["type"]: each["score"] for each in explained} == best
        for each in explained:
            assert each["context_share"] == pytest.approx(1) and each["hard_share"] == each["soft_share"] == 0.0
    every = rows(tagger(scattered, every=True, evidence="gradient_x_input"))
    assert all(each["evidence"] is not None for row in every for each in row["entities"])
    assert not any(each["evidence"] for row in rows(tagger(scattered, evidence="none")) for each in row["entities"])


@pytest.mark.parametrize("method", ["attnlrp", "gradient_x_input"])
def test_how_stable_evidence_is_and_how_much_of_it_lies_at_the_ends(scattered, coded, tmp_path, method):
    drawn = [in_share(name, 0.5, "stability", 0) for name in IDS]
    assert 0 < sum(drawn) < len(drawn)
    found = rows(tagger(scattered, every=True, evidence=method, stability=0.5))
    answers = written(tmp_path / "a.parquet", TEXTS, found)
    options = {"run": "abc", "of": PACKAGE, "options": {}, "method": method, "faithfulness": 1.0, "stability": 0.5}
    explainer = explanations.load(ModelSpec("", str(scattered), options, {"answers": [answers], "threads": 1}))
    _, prepared = run.prepare(explainer, records(TEXTS))
    told = {row["row"]: row["targets"] for row in run.answer(explainer, prepared, pa.schema([])).to_pylist()}
    stable = 0
    for number, row in enumerate(found):
        # A run of jobs.explain draws the same reports and the same copies, so it says the same.
        for each, target in zip(row["entities"], told[number], strict=True):
            shares = ("boundary_mass", "boundary_lift")
            assert [each[name] for name in shares] == pytest.approx([target[f"m_{name}"] for name in shares], abs=1e-5)
            if drawn[number]:
                names = [name for name in ("stability", "shift_margin") if target[f"m_{name}"] is not None]
                assert [each[name] for name in names] == pytest.approx([target[f"m_{name}"] for name in names], abs=1e-4)
                stable += each["stability"] is not None
            else:
                assert each["stability"] is each["shift_margin"] is target["m_stability"] is None
    assert stable > 0


def test_no_evidence_has_no_stability(scattered, coded):
    for row in coded:
        for each in row["entities"]:
            assert each["stability"] is each["shift_margin"] is None
            assert (each["boundary_mass"] is None) == (each["evidence"] is None)
    with pytest.raises(ConfigError, match=r"^explain\.stability: with explain\.method=none there is no evidence; leave one"):
        tagger(scattered, stability=0.5, evidence="none")


def test_repaired_places_of_all_windows_are_counted_once(scattered):
    class Repairing(tagged.Tagged):
        def repaired_places(self, windows, outputs):
            assert len(windows) == len(outputs)
            return {(window.text, int(word), 0) for window in windows for word in window.word[:2]} | {(0, 1, 1)}

    plain = tagger(scattered)
    system = Repairing(plain.checkpoint, plain.options, {"threads": 1, "batch_tokens": 64})
    repaired = []
    for of_text in system.windows(system.prepare(records(TEXTS))):
        repaired.append(len({int(word) for window in of_text for word in window.word[:2]}))
    repaired[0] += 1
    assert [row["repaired_tags"] for row in rows(system)] == repaired and repaired[2] > 3


def test_a_text_in_another_language_is_reviewed(system):
    german, english = rows(system, ["Der Tumor ist im Gesunden entfernt.", "The tumour is removed."])
    assert (german["decision"], german["reasons"]) == ("review", ["other_language"])
    assert (english["decision"], english["reasons"]) == ("auto", [])


def test_types_are_chosen_and_a_text_that_is_cut_is_reviewed(scattered):
    system = tagger(scattered, types=["B"], max_tokens=16)
    assert system.known() == {"entities": ["B"]}
    cut = rows(system)[2]
    assert (cut["decision"], cut["reasons"]) == ("review", ["text_truncated"]) and {kind for *_, kind in places(cut)} <= {"B"}
    with pytest.raises(ConfigError, match=r"entities\.types: the model has no type 'C'; it has A, B$"):
        tagger(scattered, types=["C"])
    with pytest.raises(ConfigError, match=r"entities\.thresholds: the model has no 'start'; it has least$"):
        tagger(scattered, thresholds={"start": 0.5})
    with pytest.raises(ConfigError, match=r"entities\.thresholds: least must lie between 0 and 1, and is 1$"):
        tagger(scattered, thresholds={"least": 1.0})
    with pytest.raises(ConfigError, match=r"explain\.every: with explain\.method=none"):
        tagger(scattered, every=True, evidence="none")


def test_the_table_of_candidates_gives_the_spans_under_any_threshold(scattered):
    prepared = tagger(scattered).prepare(records(TEXTS))
    scores, counts = tagger(scattered).scores(prepared), []
    for least in (0.2, 0.4, 0.6):
        system = tagger(scattered, evidence="none", thresholds={"least": least})
        kept = select_all(candidates_of(scores, system.names, system.Candidate, system.decoding), system.decoding)
        found = system.run(prepared).to_pylist()
        words = {row["row"]: (row["word_start"], row["word_end"]) for row in prepared.to_pylist()}
        assert {(row["row"], *place) for row in found for place in places(row)} == {
            (span.text, words[span.text][0][span.first], words[span.text][1][span.last], system.names[span.type]) for span in kept
        }
        counts.append(len(kept))
    assert counts[0] > counts[1] > counts[2] > 0


def test_not_a_number_is_no_answer(scattered):
    system = tagger(scattered)
    system.network.head.bias.data.fill_(np.nan)
    with pytest.raises(RowError, match="NaN in the logits"):
        rows(system, TEXTS[:1])


@pytest.mark.parametrize("method", [name for name in METHOD_NAMES if name not in OWN_METHODS])
def test_every_method_explains_its_entities(scattered, coded, tmp_path, method):
    few = [row | {"entities": row["entities"][:2]} for row in coded]
    answers = written(tmp_path / "a.parquet", TEXTS, few)
    options = {"run": "abc", "of": PACKAGE, "options": {"every": True}, "method": method, "faithfulness": 1.0, "stability": 1.0}
    options |= {"steps": 4, "samples": 20, "perturbations": 1}
    explainer = explanations.load(ModelSpec("", str(scattered), options, {"answers": [answers], "threads": 1}))
    _, prepared = run.prepare(explainer, records(TEXTS))
    for row in run.answer(explainer, prepared, pa.schema([])).to_pylist():
        entities = few[row["row"]]["entities"]
        told = [(each["target_name"], each["target_start"], each["target_end"]) for each in row["targets"]]
        assert told == [(each["type"], each["start"], each["end"]) for each in entities]
        for target in row["targets"]:
            assert target["status"] == "ok" and all(unit["start"] is not None for unit in target["units"])


def test_the_probability_is_the_score_of_the_row(system, coded):
    explained = module_of(PACKAGE, "explained").load(
        ModelSpec(PACKAGE, str(system.checkpoint.folder), {"precision": "fp32"}), (), {}
    )
    asked = explained.asked(coded[0])
    prepared = system.prepare(records(TEXTS[:1])).append_column("asked", pa.array([asked], ASKED))
    (group,) = explained.groups(prepared, Settings())
    assert all(group.own) and len(group.own) == len(asked) > 1
    scores = group.model.probability(group.batch, group.targets).tolist()
    assert scores == pytest.approx([each["score"] for each in coded[0]["entities"]], abs=1e-5)


def test_the_gpu_check_knows_what_is_near_its_threshold(system):
    check, prepared = module_of(PACKAGE, "gpu_check"), system.prepare(records(TEXTS[:3]))
    never, always = (check.unsure(system, prepared, by) for by in (0.0, 0.999))
    assert not any(never.values()) and set(always) == {0, 1, 2} and any(always.values())
    assert check.extra(system, prepared) == {"evidence of every entity": True}


def test_a_text_is_asked(scattered):
    found = answer(tagger(scattered, evidence="none"), TEXTS[0])
    assert found and all(each["text"] == TEXTS[0][each["start"] : each["end"]] for each in found)
    with pytest.raises(ConfigError, match="empty"):
        answer(tagger(scattered), " ")
