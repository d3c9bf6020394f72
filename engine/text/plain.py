"""When two texts are the same."""


def plain(text: str | None) -> str:
    """The text in one case and with single blanks, for comparison."""
    return " ".join((text or "").casefold().split())
