"""Noise of a finished draft (capitals, misread letters, double blanks, symbols), and the offsets of its marks.

Noise changes only pieces without a mark, so that evidence stays a term of the vocabulary, in upper or lower case. Lengths may
change, so offsets are counted afterwards.
"""

import random

# How a scanner misreads worn print.
_MISREAD = (
    *(("O", "0"), ("I", "l"), ("S", "5"), ("E", "F"), ("M", "N")),
    *((" ", "  "), (", ", " ."), ("B", "8"), ("RN", "M"), ("T", "")),
)
_SYMBOLS = ((" x ", " × "), ("less than ", "< "), ("+", "⁺"), ("-year-old", "‐year‐old"), ("'", "’"), (" cm", "\u00a0cm"))

Spans = list[tuple[int, int]]


def apply(kind: str, pieces: list[str], marked: set[int], rng: random.Random) -> list[str]:
    """The pieces with one kind of noise: `dot_matrix`, `lower`, `double_blanks`, `symbols`, or empty for none."""
    if not kind:
        return pieces
    if kind == "lower":
        return [piece.lower() for piece in pieces]
    if kind == "dot_matrix":
        return [piece.upper() if at in marked else _worn(piece.upper(), rng) for at, piece in enumerate(pieces)]
    change = _double_blanks if kind == "double_blanks" else _symbols
    return [piece if at in marked else change(piece) for at, piece in enumerate(pieces)]


def join(pieces: list[str], *marks: list[int]) -> tuple[str, list[Spans]]:
    """The text, and for each list of marked pieces its half-open spans in code points of the text."""
    starts, at = [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece)
    return "".join(pieces), [[(starts[m], starts[m] + len(pieces[m])) for m in numbers] for numbers in marks]


def _worn(piece: str, rng: random.Random) -> str:
    draw = rng.random()
    if draw > 0.45 or len(piece) < 3:
        return piece
    old, new = _MISREAD[int(draw / 0.45 * len(_MISREAD))]
    return piece.replace(old, new, 1 + int(rng.random() * 3))


def _double_blanks(piece: str) -> str:
    return piece.replace(". ", ".  ").replace(", ", ",  ").replace(": ", ":  ")


def _symbols(piece: str) -> str:
    for old, new in _SYMBOLS:
        piece = piece.replace(old, new)
    return piece
