"""The cost of a document, by numbers that follow from the network's sizes."""

import pytest

from engine.errors import ContractError
from engine.experiments.mrc_cost import cost
from engine.models.base import ModelSpec
from engine.models.prompt_mrc import load
from tests.models.prompt_mrc.conftest import World, tiny_config, tiny_learner, write

TEXTS = ["the old man sells bread near a river", "red apple"]


def measured(tmp_path, separate=False, **changes):
    folder = tmp_path / f"{sorted(changes.items())}"
    if not folder.exists():
        write(tiny_learner(tiny_config(**changes), World.make(2)), folder)
    extractor = load(ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32"}, {"threads": 1}))
    return cost(extractor, TEXTS, separate=separate, repeats=2)


def test_one_pass_for_all_types_costs_less_than_one_each_where_layers_are_shared(tmp_path):
    whole, each = (measured(tmp_path, separate, mode="soft") for separate in (False, True))
    assert whole.flops == each.flops and whole.types == each.types == 2
    shared, apart = (measured(tmp_path, separate, mode="soft", share_layers=1) for separate in (False, True))
    # The second type is spared the lower layer over the texts' 9 and 3 tokens: in each 2 x (4 x 32 x 32 + 2 x 32 x 64) a token,
    # and 2 x 2 x 32 a pair of tokens; told is the mean of the two texts.
    assert apart.flops - shared.flops == (16384 * (9 + 3) + 128 * (9 * 9 + 3 * 3)) / 2
    assert apart.flops <= whole.flops
    tagger = measured(tmp_path, mode="tagger")
    assert tagger.flops < 0.5 * shared.flops
    assert 0 < shared.p50 <= shared.p95 and shared.peak >= 0
    # Soft vectors, heads of 32 + 1 each, and the match head of 2 x 32 x 32 + 32 + 32 + 1.
    assert shared.parameters - tagger.parameters == 8 * 32 + 66 + 2113 - 33 * 6


def test_what_a_document_costs_does_not_hang_on_the_others(tmp_path):
    folder = tmp_path / "m"
    write(tiny_learner(tiny_config(mode="soft"), World.make(2)), folder)
    runtime = {"threads": 1, "batch_tokens": 10**9}
    extractor = load(ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32"}, runtime))
    each = [cost(extractor, [text], repeats=1).flops for text in TEXTS]
    assert cost(extractor, TEXTS, repeats=1).flops == sum(each) / 2
    # Together the short text is padded to the long one's length.
    assert cost(extractor, TEXTS, repeats=1, at_once=2).flops == max(each)


def test_nothing_to_measure_is_refused(tmp_path):
    with pytest.raises(ContractError):
        cost(None, [])
    with pytest.raises(ContractError):
        cost(None, TEXTS, at_once=0)
