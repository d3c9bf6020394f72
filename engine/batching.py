"""Token-budget batches: records of like length together, so that little is padding and memory is bounded."""

from collections.abc import Sequence

import numpy as np

_OFF_CPU = 8192


def micro_batch(asked: int, device: str, on_cpu: int) -> int:
    """Padded tokens a micro-batch of a training holds: those asked for; 0 stands for 8,192, and on a CPU, where more leave its
    caches, for `on_cpu`."""
    return asked or (on_cpu if device == "cpu" else _OFF_CPU)


def token_budget_batches(windows: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups records into batches of at most `budget` padded tokens.

    Args:
        windows: windows of each record.
        lengths: tokens of each record's longest window, padding to which the batch is counted.
        budget: padded tokens a batch may hold; a record that is larger alone has a batch of its own.
    Returns:
        Positions into `windows`, every one exactly once, the costliest batch first, so that what does not fit shows at once.
    """
    windows, lengths = np.asarray(windows), np.asarray(lengths)
    order = np.lexsort((-windows, -lengths))
    batches: list[list[int]] = []
    held = width = 0
    for position in order.tolist():
        count = int(windows[position])
        if batches and (held + count) * width <= budget:
            batches[-1].append(position)
            held += count
        else:
            batches.append([position])
            held, width = count, int(lengths[position])
    return batches
