"""From logits to spans, with numbers worked by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.models.entities.candidates import select
from engine.models.entities.spans import windows
from engine.models.prompt_mrc.config import Decoding, TagDecoding
from engine.models.prompt_mrc.decode import window_candidates
from engine.models.prompt_mrc.network import Contexts, Logits

WORD = np.array([0, 1, 1, 2, 3])


class Heads:
    """A match head that reads its logits from a table [N, L, L], of a model with two types."""

    config = SimpleNamespace(types=("A", "B"))

    def __init__(self, table: torch.Tensor) -> None:
        self.match = lambda states, row, first, last: table[row, first, last]


def batch(starts: dict, ends: dict, match: dict, parts=None, types=2):
    """Some types over one window of five tokens; logits are -9 except those given by (type, token)."""
    (window,) = windows(7, np.arange(5), WORD, 9, 0, None if parts is None else np.array(parts))
    start, end, table = torch.full((types, 5), -9.0), torch.full((types, 5), -9.0), torch.full((types, 5, 5), -9.0)
    for values, into in ((starts, start), (ends, end), (match, table)):
        for at, value in values.items():
            into[at] = value
    flags = [torch.from_numpy(each).unsqueeze(0) for each in (window.starts, window.ends)]
    contexts = Contexts(torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5), *flags)
    return Heads(table), Logits(torch.zeros(types, 5, 4), start, end), contexts, [window], list(range(types))


def test_candidates_pass_three_thresholds_and_lie_on_whole_words():
    starts = {(0, 0): 2.0, (0, 2): 9.0, (1, 3): 1.0}  # token 2 is a word's second piece
    ends = {(0, 2): 1.0, (0, 1): 9.0, (0, 4): 2.0, (1, 4): 2.0}  # token 1 is no word's last piece
    match = {(0, 0, 2): 0.5, (0, 0, 4): -0.1, (1, 3, 4): 3.0}
    spans, lost = window_candidates(*batch(starts, ends, match), Decoding())
    assert [(each.text, each.type, each.first, each.last) for each in spans] == [(7, 0, 0, 1), (7, 1, 2, 3)]
    probs = [1 / (1 + np.exp(-value)) for value in (2.0, 1.0, 0.5)]
    assert spans[0].score == pytest.approx(np.prod(probs) ** (1 / 3), rel=1e-5)
    assert (spans[0].start_score, spans[0].end_score, spans[0].match_score) == pytest.approx(probs, rel=1e-5)
    assert lost == set()


def test_a_start_with_ends_only_before_it_is_counted_and_gives_no_span():
    spans, lost = window_candidates(*batch({(0, 3): 5.0}, {(0, 0): 5.0}, {(0, 3, 0): 9.0, (0, 0, 3): 9.0}), Decoding())
    assert spans == [] and lost == {(7, 2, 0)}


def test_a_start_with_ends_before_it_in_its_part_only_is_counted():
    match = {(0, 0, 2): 9.0}
    # Words 0 and 1, and words 2 and 3. The only end after the start at word 1 lies in the other part, as does the one before 2.
    _, lost = window_candidates(*batch({(0, 1): 5.0, (0, 3): 5.0}, {(0, 0): 5.0, (0, 4): 5.0}, match, [0, 0, 1, 1]), Decoding())
    assert lost == {(7, 1, 0)}
    _, lost = window_candidates(*batch({(0, 3): 5.0}, {(0, 0): 5.0}, match, [0, 0, 1, 1]), Decoding())
    assert lost == set()


def test_a_start_whose_only_end_is_too_far_is_not_counted():
    logits = {(0, 0): 5.0, (0, 1): 5.0}, {(0, 0): -9.0, (0, 4): 5.0}, {(0, 0, 4): 5.0, (0, 1, 4): 5.0}
    spans, lost = window_candidates(*batch(*logits), Decoding(longest=3))
    assert [(each.first, each.last) for each in spans] == [(1, 3)] and lost == set()


def test_the_length_of_spans_is_limited():
    logits = {(0, 0): 5.0}, {(0, 3): 5.0, (0, 4): 5.0}, {(0, 0, 3): 5.0, (0, 0, 4): 5.0}
    spans, _ = window_candidates(*batch(*logits), Decoding(longest=3))
    assert [(each.first, each.last) for each in spans] == [(0, 2)]


def test_no_span_lies_in_two_parts_of_a_text():
    logits = {(0, 0): 5.0, (0, 3): 5.0}, {(0, 2): 5.0, (0, 4): 5.0}, {(0, 0, 2): 5.0, (0, 0, 4): 5.0, (0, 3, 4): 5.0}
    for parts, found in ((None, [(0, 1), (0, 3), (2, 3)]), ([4, 4, 5, 5], [(0, 1), (2, 3)]), ([0, 1, 1, 1], [(2, 3)])):
        spans, _ = window_candidates(*batch(*logits, parts), Decoding())
        assert [(each.first, each.last) for each in spans] == found


def test_the_margin_is_the_sum_of_logits_less_that_of_the_best_other_type():
    (span,), _ = window_candidates(*batch({(0, 0): 2.0, (1, 0): 1.0}, {(0, 4): 3.0}, {(0, 0, 4): 1.0}), Decoding())
    assert span.margin == pytest.approx((2 + 3 + 1) - (1 - 9 - 9)) and span.rival == 1
    (span,), _ = window_candidates(*batch({(0, 0): 2.0}, {(0, 4): 3.0}, {(0, 0, 4): 1.0}, types=1), Decoding())
    assert span.margin is None and span.rival is None


def test_types_that_were_not_trained_compete_among_themselves():
    def everywhere(types):
        return batch(*({(kind, *place): 1.0 + kind for kind in range(types)} for place in ((0,), (4,), (0, 4))), types=types)

    spans, _ = window_candidates(*everywhere(4), Decoding())
    assert [(each.type, each.zero_shot, each.margin, each.rival) for each in spans] == [
        (0, False, -3.0, 1),
        (1, False, 3.0, 0),
        (2, True, -3.0, 3),
        (3, True, 3.0, 2),
    ]
    flat = Decoding(nested=False, flat_across_types=True)
    assert [each.type for each in select(spans, flat)] == [1, 3]
    # A single new type has no rival.
    spans, _ = window_candidates(*everywhere(3), Decoding())
    assert [each.margin for each in spans] == [-3.0, 3.0, None] and [each.type for each in select(spans, flat)] == [1, 2]


def test_a_taggers_span_must_pass_one_threshold():
    (window,) = windows(7, np.arange(5), WORD, 9, 0)
    tags = torch.zeros(1, 5, 1, 3)
    tags[0, :, 0] = torch.tensor([4.0, 0.0, 0.0])
    tags[0, 0, 0] = torch.log(torch.tensor([0.2, 0.6, 0.2]))
    logits = Logits(torch.zeros(1, 5, 4), tags=tags)
    for threshold, count in ((0.55, 1), (0.65, 0)):
        spans, _ = window_candidates(None, logits, None, [window], [0], TagDecoding(match=threshold))
        assert [(each.first, each.last, each.score) for each in spans] == [(0, 0, pytest.approx(0.6))][:count]


def test_a_tagger_finds_more_with_less_weight_on_no_mention():
    (window,) = windows(7, np.arange(5), WORD, 9, 0)
    tags = torch.zeros(1, 5, 1, 3)
    tags[0, :, 0] = torch.tensor([9.0, 0.0, 0.0])
    tags[0, 0, 0] = torch.tensor([1.0, 0.0, -9.0])
    logits = Logits(torch.zeros(1, 5, 4), tags=tags)
    for outside, count in ((0.0, 0), (2.0, 1)):
        spans, _ = window_candidates(None, logits, None, [window], [0], TagDecoding(outside=outside))
        # Logits of -1 and 0: a B with the probability e / (1 + e).
        assert [each.score for each in spans] == [pytest.approx(0.7311, abs=1e-3)][:count]
    assert float(tags[0, 0, 0, 0]) == 1.0
