"""Windows over long documents: of nearly equal length without overlap, or overlapping and cut between words."""

from itertools import accumulate, pairwise

import numpy as np


def window_count(tokens: int, size: int) -> int:
    """How many windows of at most `size` tokens `tokens` tokens need."""
    return -(-tokens // size)


def window_bounds(tokens: int, size: int) -> list[tuple[int, int]]:
    """Half-open token ranges that cover `tokens` tokens in order, each at most `size` long, lengths differing by at most one."""
    base, longer = divmod(tokens, window_count(tokens, size) or 1)
    sizes = [base + (index < longer) for index in range(window_count(tokens, size))]
    return list(pairwise(accumulate(sizes, initial=0)))


def overlapping_bounds(word_of_token: np.ndarray, size: int, overlap: int) -> list[tuple[int, int]]:
    """Half-open token ranges that cover all tokens in order, each at most `size` long; neighbours share about `overlap`.

    They are cut between words, unless a word is longer than a window.

    Args:
        word_of_token: rising number of the word of each token [n].
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
