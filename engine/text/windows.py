"""Windows over long documents: cut into nearly equal parts, without overlap, so that no window is mostly padding."""


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
