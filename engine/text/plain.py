"""When two texts are the same."""


def plain(text: str | None) -> str:
    """A text without what does not tell two apart: its case, and which blanks stand between its words."""
    return " ".join((text or "").casefold().split())
