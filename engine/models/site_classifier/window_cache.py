"""A cache of encoded windows: the changed copies of a report share most of them, and so do the tasks that read a copy."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from engine.models.tokens import Batch


class WindowCache:
    """Token states of the windows that were used last.

    The last bits of a window's states depend on the windows beside it in the batch. So `clear` the cache before records whose
    figures must not depend on the records before them.
    """

    def __init__(self, tokens: int = 0) -> None:
        """`tokens`: positions kept from one call to the next. With 0, equal windows of one call are still encoded once."""
        self._limit = tokens
        self._states: OrderedDict[bytes, Tensor] = OrderedDict()
        self._tokens = 0

    def clear(self) -> None:
        self._states.clear()
        self._tokens = 0

    def states(self, windows: Batch, encode: Callable[[Batch], Tensor]) -> Tensor:
        """Token states [W, L, d]; `encode` gives those of windows that are not cached, no two of them equal."""
        keys = [row.tobytes() for row in torch.cat([windows.ids, windows.mask, windows.types], 1).cpu().numpy()]
        fresh: dict[bytes, int] = {}
        for number, key in enumerate(keys):
            if key not in self._states:
                fresh.setdefault(key, number)
        states = {key: self._states[key] for key in keys if key in self._states}
        if fresh:
            chosen = torch.tensor(list(fresh.values()), device=windows.ids.device)
            once = replace(windows, ids=windows.ids[chosen], mask=windows.mask[chosen], types=windows.types[chosen])
            states |= zip(fresh, encode(once), strict=True)
        for key in dict.fromkeys(keys):
            self._keep(key, states[key])
        return torch.stack([states[key] for key in keys])

    def _keep(self, key: bytes, states: Tensor) -> None:
        if key not in self._states:
            # A copy, since a view of one window would keep the states of the whole call in memory.
            self._states[key] = states.clone() if self._limit else states
            self._tokens += len(states)
        self._states.move_to_end(key)
        while self._tokens > self._limit:
            self._tokens -= len(self._states.popitem(last=False)[1])
