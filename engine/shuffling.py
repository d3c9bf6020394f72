"""The order of an epoch over examples in shards: exact, seeded, and known at any position without holding it whole.

Shards are shuffled, every few of them form a window, and the examples of a window are shuffled too. So a reader holds one window
at a time, and a step's position in the epoch determines its examples, in one process or many, resumed or not.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


class Shuffle:
    """Examples numbered shard by shard, in each shard reports before samples.

    Args:
        reports, samples: how many each shard has. ratio: samples per report, drawn anew each epoch; negative: each sample once.
            window: shards that are shuffled together.
    """

    def __init__(self, reports: Sequence[int], samples: Sequence[int], ratio: float, seed: int, window: int) -> None:
        self.reports, self.samples = np.asarray(reports, np.int64), np.asarray(samples, np.int64)
        self.ratio, self.seed, self.window = ratio, seed, window
        self.base = np.concatenate([[0], np.cumsum(self.reports + self.samples)]).astype(np.int64)

    def shard_of(self, number: int) -> int:
        """The shard that holds an example."""
        return int(np.searchsorted(self.base, number, side="right")) - 1

    def epoch(self, epoch: int) -> "Epoch":
        return Epoch(self, epoch)


class Epoch(Sequence[int]):
    """The order of one epoch, as a sequence of example numbers."""

    def __init__(self, shuffle: Shuffle, epoch: int) -> None:
        self.shuffle, self.number = shuffle, epoch
        rng = self._rng(0)
        self.shards: NDArray[np.int64] = rng.permutation(len(shuffle.reports))
        self._place = np.argsort(self.shards)
        # Drawn samples: all of them `rounds` times, and `drawn` of each shard once more.
        self.rounds, self.drawn = 1, np.zeros_like(shuffle.samples)
        total = int(shuffle.samples.sum())
        if shuffle.ratio >= 0 and total:
            self.rounds, rest = divmod(round(shuffle.ratio * int(shuffle.reports.sum())), total)
            self.drawn = rng.multivariate_hypergeometric(shuffle.samples, rest, method="marginals")
        sizes = (shuffle.reports + self.rounds * shuffle.samples + self.drawn)[self.shards]
        starts = np.arange(0, len(sizes), shuffle.window)
        counts = np.add.reduceat(sizes, starts) if len(sizes) else np.empty(0, np.int64)
        self.bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._cached: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def windows(self) -> int:
        return len(self.bounds) - 1

    def window(self, number: int) -> NDArray[np.int64]:
        """The examples of a window, in order; the last window is cached."""
        if self._cached[0] != number:
            members = [self._members(int(shard)) for shard in self.shards_of(number)]
            examples = np.concatenate(members) if members else np.empty(0, np.int64)
            self._cached = (number, self._rng(1, number).permutation(examples))
        return self._cached[1]

    def shards_of(self, window: int) -> NDArray[np.int64]:
        """The shards that make up a window."""
        size = self.shuffle.window
        return self.shards[window * size : (window + 1) * size]

    def window_of(self, member: int) -> int:
        """The window that an example is in, if the epoch has it."""
        return int(self._place[self.shuffle.shard_of(member)]) // self.shuffle.window

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        positions = range(len(self))[index]
        return [self._example(position) for position in positions] if isinstance(index, slice) else self._example(positions)

    def __iter__(self) -> Iterator[int]:
        for number in range(self.windows):
            yield from self.window(number).tolist()

    def _example(self, position: int) -> int:
        window = int(np.searchsorted(self.bounds, position, side="right")) - 1
        return int(self.window(window)[position - self.bounds[window]])

    def _members(self, shard: int) -> NDArray[np.int64]:
        base, reports, samples = (int(each[shard]) for each in (self.shuffle.base, self.shuffle.reports, self.shuffle.samples))
        examples, count = base + np.arange(reports + samples), int(self.drawn[shard])
        drawn = self._rng(2, shard).choice(samples, count, replace=False) if count else np.empty(0, np.int64)
        return np.concatenate([examples[:reports], np.repeat(examples[reports:], self.rounds), examples[reports:][drawn]])

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.shuffle.seed, self.number, *purpose])
