"""Windows over long documents: without overlap and of nearly equal length, or overlapping and cut between words."""

import numpy as np


def window_count(tokens: int, size: int) -> int:
    """How many windows of at most `size` tokens hold `tokens` tokens (none for none)."""
    return -(-tokens // size)


def window_bounds(tokens: int, size: int) -> list[tuple[int, int]]:
    """Half-open token ranges that cover `tokens` tokens in order, each at most `size` long, lengths differing by at most one."""
    count = window_count(tokens, size)
    if not count:
        return []
    base, longer = divmod(tokens, count)
    bounds, start = [], 0
    for index in range(count):
        stop = start + base + (index < longer)
        bounds.append((start, stop))
        start = stop
    return bounds


def overlapping_bounds(word_of_token: np.ndarray, size: int, overlap: int) -> list[tuple[int, int]]:
    """Half-open token ranges that cover all tokens in order, each at most `size` long; neighbours share about `overlap`.

    They are cut between words; only a word that is longer than a window is cut itself.

    Args:
        word_of_token: the word's number of each token [n], rising.
    """
    count = len(word_of_token)
    if not count:
        return []
    starts = np.r_[0, np.flatnonzero(np.diff(word_of_token)) + 1]
    bounds, begin = [], 0
    while True:
        stop = min(begin + size, count)
        if stop < count:
            before = int(starts[np.searchsorted(starts, stop, side="right") - 1])
            stop = before if before > begin else stop
        bounds.append((begin, stop))
        if stop == count:
            return bounds
        back = int(starts[np.searchsorted(starts, stop - overlap, side="right") - 1]) if stop > overlap else 0
        if back <= begin:
            later = starts[np.searchsorted(starts, begin, side="right") :]
            back = min(int(later[0]), stop) if len(later) else stop
        begin = back
