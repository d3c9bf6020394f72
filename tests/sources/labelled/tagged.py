"""IOB2 backwards, from spans to tags: what a test needs to go there and back."""

from collections.abc import Sequence

from engine.errors import RowError
from engine.sources.labelled import Span


def tags(tokens: Sequence[str], spans: Sequence[Span]) -> list[str]:
    """The tags of tokens joined with one blank: `joined` backwards.

    Raises:
        RowError: spans overlap, or one does not begin and end with a token; IOB2 cannot say such things.
    """
    starts, ends, at = {}, {}, 0
    for number, token in enumerate(tokens):
        starts[at], ends[at + len(token)] = number, number
        at += len(token) + 1
    found = ["O"] * len(tokens)
    for span in spans:
        if span.start not in starts or span.end not in ends:
            raise RowError("parse_error", "iob2: a span does not begin and end with a token")
        first, last = starts[span.start], ends[span.end]
        if any(tag != "O" for tag in found[first : last + 1]):
            raise RowError("parse_error", "iob2: spans overlap")
        found[first : last + 1] = [f"B-{span.type}"] + [f"I-{span.type}"] * (last - first)
    return found
