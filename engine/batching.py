"""Token-budget batches: records of similar length together, for little padding and bounded memory."""

from collections.abc import Sequence

import numpy as np

_OFF_CPU = 8192


def micro_batch(tokens: int, device: str, on_cpu: int) -> int:
    """Padded tokens of a training's micro-batch: `tokens`, or for 0 the device's default, smaller on a CPU for its caches."""
    return tokens or (on_cpu if device == "cpu" else _OFF_CPU)


def token_budget_batches(windows: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups records into batches of at most `budget` padded tokens.

    Args:
        windows: windows of each record.
        lengths: tokens of each record's longest window, to which its batch is padded.
        budget: padded tokens of a batch; a larger record has a batch of its own.
    Returns:
        Positions into `windows`, each exactly once, the costliest batch first, so that a lack of memory shows at once.
    """
    windows, lengths = np.asarray(windows), np.asarray(lengths)
    order = np.lexsort((-windows, -lengths))
    batches: list[list[int]] = []
    count = width = 0
    for position in order.tolist():
        count += int(windows[position])
        if batches and count * width <= budget:
            batches[-1].append(position)
        else:
            batches.append([position])
            count, width = int(windows[position]), int(lengths[position])
    return batches
