"""The CRF against a sum over every path, and a span's probability against both."""

import itertools

import numpy as np
import pytest
import torch

from engine.models.guided_ner.crf import Crf
from engine.models.guided_ner.network import Words, log_odds
from tests.models.guided_ner.conftest import scattered, tiny_config, window_of

TAGS, LENGTHS = 5, (4, 2, 3)


def is_legal(path):
    """Tags 2 and 4 continue 1 or 2, and 3 or 4."""
    return all(tag not in (2, 4) or before in (tag - 1, tag) for before, tag in itertools.pairwise((0, *path)))


def random_crf(seed=0):
    torch.manual_seed(seed)
    crf = Crf(2).double()
    for value in crf.parameters():
        torch.nn.init.normal_(value)
    return crf


def scores(crf, emissions):
    """The score of every legal path of the emissions [N, K]."""
    found = {}
    for path in filter(is_legal, itertools.product(range(TAGS), repeat=len(emissions))):
        score = crf.first[path[0]] + crf.last[path[-1]] + sum(emissions[at, tag] for at, tag in enumerate(path))
        found[path] = (score + sum(crf.steps[pair] for pair in itertools.pairwise(path))).item()
    return found


@pytest.fixture(scope="module")
def case():
    crf = random_crf()
    emissions = torch.randn(len(LENGTHS), max(LENGTHS), TAGS, dtype=torch.double)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    return crf, emissions, mask, [scores(crf, emissions[row, :length]) for row, length in enumerate(LENGTHS)]


def total(values):
    return float(np.logaddexp.reduce(list(values)))


def test_the_partition_is_the_sum_over_all_paths(case):
    crf, emissions, mask, paths = case
    with torch.no_grad():
        found = crf.log_partition(crf.alphas(emissions, mask)).tolist()
        # Backwards it is the same.
        ahead = (crf.transitions[1] + emissions[:, 0] + crf.betas(emissions, mask)[:, 0]).logsumexp(-1).tolist()
    assert found == pytest.approx([total(each.values()) for each in paths], abs=1e-9)
    assert ahead == pytest.approx(found, abs=1e-9)


def test_the_loss_is_the_share_of_the_marked_path(case):
    crf, emissions, mask, paths = case
    gold = [(1, 2, 0, 3), (3, 4), (0, 1, 1)]
    tags = torch.full(mask.shape, -1)
    for row, path in enumerate(gold):
        tags[row, : len(path)] = torch.tensor(path)
    expected = [total(each.values()) - each[path] for each, path in zip(paths, gold, strict=True)]
    assert crf.loss(emissions, tags, mask).tolist() == pytest.approx(expected, abs=1e-9)


def test_the_best_path_is_the_best_of_all(case):
    crf, emissions, mask, paths = case
    best = crf.best(emissions, mask)
    for row, (length, each) in enumerate(zip(LENGTHS, paths, strict=True)):
        assert tuple(best[row, :length]) == max(each, key=each.get) and not best[row, length:].any()


def test_what_stands_behind_the_last_word_changes_nothing(case):
    crf, emissions, mask, _ = case
    wider, longer = torch.full((3, 6, TAGS), 9.0, dtype=torch.double), torch.zeros(3, 6, dtype=torch.bool)
    wider[:, :4], longer[:, :4] = torch.where(mask.unsqueeze(-1), emissions, -7.0), mask
    with torch.no_grad():
        partitions = [crf.log_partition(crf.alphas(*each)) for each in ((emissions, mask), (wider, longer))]
    assert torch.allclose(*partitions, atol=1e-12)
    assert (crf.best(wider, longer)[:, :4] == crf.best(emissions, mask)).all()


def test_an_impossible_step_is_never_chosen_however_much_speaks_for_it():
    crf, mask = Crf(2), torch.ones(1, 4, dtype=torch.bool)
    emissions = torch.zeros(1, 4, TAGS)
    # I of the first type everywhere but at the second word, where I of the other type seems sure.
    emissions[..., 2], emissions[0, 1, 4] = 50.0, 150.0
    (best,) = crf.best(emissions, mask).tolist()
    assert is_legal(best) and best[:2] == [3, 4] and best[2:] == [1, 2]
    emissions.requires_grad_()
    crf.loss(emissions, torch.tensor([[1, 2, 2, 0]]), mask).sum().backward()
    assert emissions.grad.isfinite().all() and all(value.grad.isfinite().all() for value in crf.parameters())


def all_spans(lengths):
    """Row, first and last word, and type of every span."""
    return [
        (row, first, last, kind)
        for row, length in enumerate(lengths)
        for first in range(length)
        for last in range(first, length)
        for kind in (0, 1)
    ]


def holds(path, first, last, kind):
    """Whether a path tags exactly these words as one span."""
    begin, inside = 1 + 2 * kind, 2 + 2 * kind
    tagged = path[first] == begin and all(tag == inside for tag in path[first + 1 : last + 1])
    return tagged and (last + 1 == len(path) or path[last + 1] != inside)


def spans_of(network, emissions, lengths):
    words = Words([window_of("患" * length)[0] for length in lengths], "cpu")
    columns = torch.tensor(all_spans(lengths)).unbind(-1)
    with torch.no_grad():
        return network.spans(emissions, words, *columns)


def test_a_spans_probability_is_the_share_of_the_paths_that_tag_it(case):
    crf, emissions, _, paths = case
    network = scattered(tiny_config("crf"))
    network.crf = crf
    found = spans_of(network, emissions, LENGTHS).tolist()
    expected = []
    for row, *span in all_spans(LENGTHS):
        share = total(score for path, score in paths[row].items() if holds(path, *span)) - total(paths[row].values())
        expected.append(share)
    assert found == pytest.approx(expected, abs=1e-9) and max(found) < 0


def test_a_spans_probability_under_softmax_by_hand():
    network, half = scattered(tiny_config("softmax")), np.log(0.5)
    # Over five tags: even, and at the first two words half for B and for I of the first type.
    emissions = torch.zeros(1, 3, TAGS, dtype=torch.double)
    emissions[0, 0, 1] = emissions[0, 1, 2] = np.log(4)
    found = dict(zip(all_spans((3,)), spans_of(network, emissions, (3,)).tolist(), strict=True))
    assert found[0, 0, 0, 0] == pytest.approx(half + np.log(1 - 0.5))
    assert found[0, 0, 1, 0] == pytest.approx(half + half + np.log(1 - 0.2))
    assert found[0, 0, 2, 0] == pytest.approx(half + half + np.log(0.2))
    assert found[0, 1, 1, 1] == pytest.approx(np.log(0.125) + np.log(1 - 0.2))
    assert found[0, 2, 2, 1] == pytest.approx(np.log(0.2))


def test_log_odds_are_finite_for_impossible_and_sure_spans():
    log_probability = torch.tensor([-1e5, np.log(0.25), -1e-9, 0.0], requires_grad=True)
    odds = log_odds(log_probability)
    odds.sum().backward()
    assert odds.isfinite().all() and log_probability.grad.isfinite().all()
    assert odds[1].item() == pytest.approx(np.log(1 / 3)) and (odds.diff() >= 0).all()
