"""Windows that are encoded once: changed copies of a report share most of them, and so do the tasks that read a copy."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from engine.models.tokens import Batch


class Remembered:
    """Token states of the windows that were asked for last.

    What a window's states are to the last bit hangs on the windows beside it: `forget` before records that must not depend on
    those before them.
    """

    def __init__(self, tokens: int = 0) -> None:
        """`tokens`: positions kept from one call to the next; with 0, equal windows of one call are still encoded once."""
        self._room = tokens
        self._states: OrderedDict[bytes, Tensor] = OrderedDict()
        self._held = 0

    def forget(self) -> None:
        """Keeps nothing of what was encoded so far."""
        self._states.clear()
        self._held = 0

    def states(self, windows: Batch, encode: Callable[[Batch], Tensor]) -> Tensor:
        """Token states [W, L, d]; `encode` gives those of windows that are not known, each different from the others."""
        keys = [row.tobytes() for row in torch.cat([windows.ids, windows.mask, windows.types], 1).cpu().numpy()]
        fresh: dict[bytes, int] = {}
        for number, key in enumerate(keys):
            if key not in self._states:
                fresh.setdefault(key, number)
        known = {key: self._states[key] for key in keys if key in self._states}
        if fresh:
            chosen = torch.tensor(list(fresh.values()), device=windows.ids.device)
            once = replace(windows, ids=windows.ids[chosen], mask=windows.mask[chosen], types=windows.types[chosen])
            known |= zip(fresh, encode(once), strict=True)
        for key in dict.fromkeys(keys):
            self._keep(key, known[key])
        return torch.stack([known[key] for key in keys])

    def _keep(self, key: bytes, states: Tensor) -> None:
        if key not in self._states:
            # A copy: a window's part would keep the whole call's states in memory.
            self._states[key] = states.clone() if self._room else states
            self._held += len(states)
        self._states.move_to_end(key)
        while self._held > self._room:
            self._held -= len(self._states.popitem(last=False)[1])
