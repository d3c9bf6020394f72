"""Every name that a table can hold has words for a person, and no others."""

from engine import records
from engine.pages import words


def test_all_names_have_words():
    assert tuple(words.DECISIONS) == records.DECISIONS
    assert tuple(words.REASONS) == records.REASONS
    assert tuple(words.FAILURES) == records.FAILURE_KINDS
