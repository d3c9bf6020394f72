"""The table of candidates suffices to find thresholds and spans without the network."""

from dataclasses import replace

import pytest
import torch

from engine.models.base import ModelSpec
from engine.models.entities.candidates import OFFSETS
from engine.models.entities.scores import candidates_of
from engine.models.entities.tuning import select_all
from engine.models.prompt_mrc import load
from engine.models.run import records_of
from tests.models.prompt_mrc.conftest import World, tiny_config, tiny_learner, write

TEXTS = [*World.make(4, seed=3).texts, "the man", " ".join(World.make(4, seed=4).texts)]


@pytest.fixture(scope="module", params=["hybrid", "tagger"])
def system(request, tmp_path_factory):
    """An untrained extractor that finds many spans."""
    learner = tiny_learner(tiny_config(mode=request.param), World.make(2))
    folder = write(learner, tmp_path_factory.mktemp("m") / "model", nested=request.param != "tagger")
    extractor = load(ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32", "evidence": "none"}, {}))
    heads = {
        name: value for name, value in extractor.network.named_parameters() if name.startswith(("start.", "end.", "tagger."))
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for name, value in heads.items():
            value.copy_(torch.zeros_like(value) if name.endswith("bias") else 3 * torch.randn_like(value))
    return extractor


@pytest.fixture(scope="module")
def prepared(system):
    return system.prepare(records_of([f"r{number}" for number in range(len(TEXTS))], TEXTS))


def test_they_give_the_spans_under_any_thresholds(system, prepared):
    scores = system.scores(prepared)
    assert scores.column_names == ["row", "candidates"]
    trained, offsets = system.decoding, OFFSETS if system.config.is_tagger else OFFSETS[:1]
    all_spans = set()
    try:
        for offset in offsets:
            flat = {"nested": False, "flat_across_types": True}
            for change in ({}, {"match": 0.3}, {"match": 0.2, "start": 0.7, "end": 0.3}, flat, {**flat, "match": 0.2}):
                system.decoding = replace(trained, outside=offset, **change)
                candidates = candidates_of(scores, system.names, system.Candidate, system.decoding)
                selected = select_all(candidates, system.decoding)
                predicted = {(each.text, *each.key, each.score) for each in selected}
                rows = system.run(prepared).to_pylist()
                spans = {(row["row"], each["start"], each["end"], each["type"]) for row in rows for each in row["entities"]}
                assert len(predicted) == len(spans) == sum(len(row["entities"]) for row in rows)
                words = {row["row"]: (row["word_start"], row["word_end"]) for row in prepared.to_pylist()}
                assert spans == {
                    (row, words[row][0][first], words[row][1][last], system.names[kind])
                    for row, first, last, kind, _ in predicted
                }
                all_spans |= spans
    finally:
        system.decoding = trained
    assert len(all_spans) > 20


def test_offsets_lie_in_the_text_and_scores_are_not_rounded(system, prepared):
    for row in system.scores(prepared).to_pylist():
        text = TEXTS[row["row"]]
        for each in row["candidates"]:
            part = text[each["start"] : each["end"]]
            assert part and part == part.strip() and len(part.split()) == each["last"] - each["first"] + 1
            assert (each["match_score"] is None) == system.config.is_tagger
            parts = [each[name] for name in ("start_score", "end_score", "match_score") if each[name] is not None]
            assert each["score"] == pytest.approx(torch.tensor(parts, dtype=torch.float64).log().mean().exp().item(), rel=1e-12)
            assert min([each["score"]] if system.config.is_tagger else parts) > 0.09


def test_a_tagger_has_candidates_for_every_offset(system):
    variants = replace(system.decoding, outside=0.25).variants()
    assert [each.outside for each in variants] == ([0.25, *OFFSETS] if system.config.is_tagger else [0.25])
    assert all(each.floor().match < 0.1 for each in variants)
