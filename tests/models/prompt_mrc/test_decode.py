"""From logits to spans, with numbers worked by hand."""

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate, _runs, candidates, margins, settle
from engine.models.prompt_mrc.instances import windows
from engine.models.prompt_mrc.network import Contexts, Found

WORD = np.array([0, 1, 1, 2, 3])


class Heads:
    """A match head that reads its logits from a table [N, L, L]."""

    def __init__(self, table: torch.Tensor, longest: int = 30) -> None:
        self.match = lambda states, row, first, last: table[row, first, last]
        self.config = type("Config", (), {"max_words": longest})()


def asked(starts: dict, ends: dict, match: dict, longest: int = 30):
    """Two types over one window of five tokens; logits are -9 but where they are named by (type, token)."""
    (window,) = windows(7, np.arange(5), WORD, 9, 0)
    start, end, table = torch.full((2, 5), -9.0), torch.full((2, 5), -9.0), torch.full((2, 5, 5), -9.0)
    for values, into in ((starts, start), (ends, end), (match, table)):
        for at, value in values.items():
            into[at] = value
    flags = [torch.from_numpy(each).unsqueeze(0) for each in (window.starts, window.ends)]
    contexts = Contexts(torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5), *flags)
    return Heads(table, longest), Found(torch.zeros(2, 5, 4), start, end), contexts, [window], [0, 1]


def test_candidates_pass_three_thresholds_and_lie_on_whole_words():
    starts = {(0, 0): 2.0, (0, 2): 9.0, (1, 3): 1.0}  # token 2 is a word's second piece
    ends = {(0, 2): 1.0, (0, 1): 9.0, (0, 4): 2.0, (1, 4): 2.0}  # token 1 is no word's last piece
    match = {(0, 0, 2): 0.5, (0, 0, 4): -0.1, (1, 3, 4): 3.0}
    found, lost = candidates(*asked(starts, ends, match), Decoding())
    assert [(each.text, each.type, each.first, each.last) for each in found] == [(7, 0, 0, 1), (7, 1, 2, 3)]
    probs = [1 / (1 + np.exp(-value)) for value in (2.0, 1.0, 0.5)]
    assert found[0].score == pytest.approx(np.prod(probs) ** (1 / 3), rel=1e-5)
    assert (found[0].start_score, found[0].end_score, found[0].match_score) == pytest.approx(probs, rel=1e-5)
    assert lost == set()


def test_a_start_with_ends_before_it_only_is_counted_and_gives_nothing():
    found, lost = candidates(*asked({(0, 3): 5.0}, {(0, 0): 5.0}, {(0, 3, 0): 9.0, (0, 0, 3): 9.0}), Decoding())
    assert found == [] and lost == {(7, 2, 0)}


def test_spans_have_at_most_so_many_words():
    given = {(0, 0): 5.0}, {(0, 3): 5.0, (0, 4): 5.0}, {(0, 0, 3): 5.0, (0, 0, 4): 5.0}
    found, _ = candidates(*asked(*given, longest=3), Decoding())
    assert [(each.first, each.last) for each in found] == [(0, 2)]


def test_the_margin_is_the_sum_of_logits_less_that_of_the_best_other_type():
    heads, logits, contexts, shown, types = asked({(0, 0): 2.0, (1, 0): 1.0}, {(0, 4): 3.0}, {(0, 0, 4): 1.0})
    found, _ = candidates(heads, logits, contexts, shown, types, Decoding())
    (told,) = margins(heads, logits, found, types)
    assert told.margin == pytest.approx((2 + 3 + 1) - (1 - 9 - 9)) and told.rival == 1


def span(first, last, score, kind=0, window=0, edge=False):
    return Candidate(0, kind, first, last, score, score, score, score, 0, (0, 0), window, edge)


def test_nested_spans_stay_and_equal_ones_of_two_windows_are_one():
    found = settle([span(0, 4, 0.6), span(1, 2, 0.9), span(1, 2, 0.7, window=3), span(1, 2, 0.5, 1)], Decoding())
    assert [(each.first, each.last, each.type, each.score) for each in found] == [(0, 4, 0, 0.6), (1, 2, 0, 0.9), (1, 2, 1, 0.5)]


def test_flat_spans_of_a_type_do_not_overlap_and_the_better_stays():
    spans = [span(0, 2, 0.6), span(2, 3, 0.9), span(3, 5, 0.8), span(1, 3, 0.5, 1)]
    flat = settle(spans, Decoding(nested=False))
    assert [(each.first, each.last, each.type) for each in flat] == [(1, 3, 1), (2, 3, 0)]
    alone = settle(spans, Decoding(nested=False, flat_across_types=True))
    assert [(each.first, each.last, each.type) for each in alone] == [(2, 3, 0)]


def test_a_span_that_a_window_may_have_cut_gives_way():
    cut, whole = span(3, 4, 0.7, edge=True), span(3, 6, 0.9, window=2)
    assert settle([cut, whole], Decoding()) == [whole]
    # Within one window both were seen whole or not alike: nested spans stay.
    assert len(settle([cut, span(3, 6, 0.9)], Decoding())) == 2


def test_a_span_seen_whole_by_one_window_is_whole_whatever_the_other_says():
    # Words 0 to 10 of one type with 4 to 5 within: the first window ends with the outer one, the second holds both.
    outer = [span(0, 10, 0.95, edge=True), span(0, 10, 0.90, window=3)]
    inner = span(4, 5, 0.8, window=3)
    assert settle([*outer, inner], Decoding()) == [outer[1], inner]
    # What the first window cut goes, although it was scored better; it drives nothing out.
    cut, whole = span(1, 5, 0.95, edge=True), span(1, 10, 0.90, window=3)
    assert settle([cut, whole], Decoding()) == [whole]
    assert settle([cut, whole], Decoding(nested=False)) == [whole]
    # Of two that are both cut the better one stays, and one of another type is nobody's rival.
    other = span(3, 8, 0.7, window=3, edge=True)
    assert settle([cut, other], Decoding()) == [cut]
    assert len(settle([cut, span(1, 10, 0.2, kind=1, window=3)], Decoding())) == 2


def test_a_taggers_span_must_pass_one_threshold():
    (window,) = windows(7, np.arange(5), WORD, 9, 0)
    tags = torch.zeros(1, 5, 1, 3)
    tags[0, :, 0] = torch.tensor([4.0, 0.0, 0.0])
    tags[0, 0, 0] = torch.log(torch.tensor([0.2, 0.6, 0.2]))
    found = Found(torch.zeros(1, 5, 4), tags=tags)
    for least, count in ((0.55, 1), (0.65, 0)):
        given, _ = candidates(None, found, None, [window], [0], Decoding(match=least))
        assert [(each.first, each.last, each.score) for each in given] == [(0, 0, pytest.approx(0.6))][:count]


def test_what_is_taken_from_no_mention_lets_a_tagger_find_more():
    (window,) = windows(7, np.arange(5), WORD, 9, 0)
    tags = torch.zeros(1, 5, 1, 3)
    tags[0, :, 0] = torch.tensor([9.0, 0.0, 0.0])
    tags[0, 0, 0] = torch.tensor([1.0, 0.0, -9.0])
    found = Found(torch.zeros(1, 5, 4), tags=tags)
    for outside, count in ((0.0, 0), (2.0, 1)):
        given, _ = candidates(None, found, None, [window], [0], Decoding(outside=outside))
        # Logits of -1 and 0: a B with the probability e / (1 + e).
        assert [each.score for each in given] == [pytest.approx(0.7311, abs=1e-3)][:count]
    assert float(tags[0, 0, 0, 0]) == 1.0


def test_tags_to_spans():
    assert _runs(np.array([1, 2, 0, 2, 2, 1, 1])) == [(0, 1), (3, 4), (5, 5), (6, 6)]


def test_thresholds_and_modes_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Decoding(start=1.0)
    with pytest.raises(ConfigError, match="exclude each other"):
        Decoding(flat_across_types=True)
