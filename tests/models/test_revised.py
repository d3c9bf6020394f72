"""What new decisions do to labelled records, and the words for it, by hand."""

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.evaluation.calibration import Promise
from engine.models.revised import Effect, card, refitted, require, sure_from

RIGHT = [(True, True, 1.0)]


def test_an_effect_by_hand():
    found = Effect.of([(True, True, 0.9), (True, False, 0.9), (False, True, 0.5)])
    assert (found.n, found.kept, found.right) == (3, 2, 1)
    assert found.error == pytest.approx((0.1 + 0.9 + 0.5) / 3)
    # The lower bound of one of two is where two tries bring none with 95 %: 1 - sqrt(0.95).
    assert found.told(0.95) == "coded  66.7 %, 50.0 % of it right (at least 2.5 %); calibration error 0.500"


def test_what_is_fitted_on_all_is_shown_without_each_group():
    groups = [str(row // 2) for row in range(20)]
    found = refitted(
        lambda rows: set(rows.tolist()), lambda fitted, rows: [(row in fitted, True, 1.0) for row in rows], {0}, groups, 5
    )
    assert found.fitted == set(range(20)) and (found.before.kept, found.after.kept, found.folds) == (1, 0, 5)
    assert found.told("site", Promise(0.8, 0.95))[2:] == [
        "  after, cross-fitted coded   0.0 %; calibration error 0.000",
        "    in 5 parts, so that 16 reports must do for each, and 19 without an error are the least:",
        "    from 24 reports on there is something to see here",
    ]
    alone = refitted(np.size, lambda _, rows: RIGHT * len(rows), 0, ["p"] * 4, 5)
    assert alone.after is None and alone.told("site", Promise(), "more")[2:] == [
        "  after: cannot be shown on reports of one group alone",
        "  more",
    ]


def test_labels_must_be_as_many_as_a_threshold_takes():
    promise = Promise(0.98, 0.95)
    require(promise, 5, {"site": 203, "histology": 0})
    with pytest.raises(ConfigError, match=r"^data\.path: 202 reports .*, 0 reports .* at the least 203 .*, and 254 to show its"):
        require(promise, 5, {"site": 202, "histology": 0})
    with pytest.raises(ConfigError, match=r"149 reports of one code without an error, and 187 to show its effect$"):
        require(Promise(0.98, 0.95, 1, " of one code"), 5, {"site": 0})


def test_what_a_threshold_lets_through_in_words():
    promise = Promise(0.9, 0.95)
    assert sure_from(0.75, 40, promise) == "sure from a probability of 0.7500 on, for 90 % right with 95 % confidence"
    told = "reports do not show 90 % right with 95 % confidence"
    assert sure_from(1.01, 39, promise) == f"39 {told}: nothing will be coded without a person"
    assert sure_from(1.01, 38, promise).startswith(f"38 {told}; 39 reports without an error are the least: ")


def test_the_card_says_what_holds_no_longer_and_keeps_the_rest(tmp_path):
    found = card("ab12", tmp_path, "thresholds", "for 90 % right", ["a line"])
    assert "weights are those of ab12,\nwhose card follows; what that says of thresholds is replaced by this:\nfor 90 %" in found
    (tmp_path / "README.md").write_text("the old card\n")
    assert card("ab12", tmp_path, "thresholds", "for 90 % right", ["a line"]) == found + "the old card\n"
