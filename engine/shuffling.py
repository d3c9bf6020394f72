"""The order of an epoch over examples that stand in shards: exact, seeded, and known at any place without holding it whole.

Shards are shuffled, a window takes several that then follow each other, and the members of a window are shuffled too. So whoever
reads in this order holds one window at a time, and where a step stands in an epoch says which examples it sees, in one process
or in many, resumed or not.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


class Shuffle:
    """Examples numbered shard by shard, in each shard the reports before the samples.

    Args:
        reports, samples: how many each shard has. ratio: samples for each report and epoch, drawn anew; negative: each of them
            once. window: shards that are shuffled among each other.
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
        # Where samples are drawn, all of them come `rounds` times and `drawn` of each shard once more.
        self.rounds, self.drawn = 1, np.zeros_like(shuffle.samples)
        known = int(shuffle.samples.sum())
        if shuffle.ratio >= 0 and known:
            self.rounds, rest = divmod(round(shuffle.ratio * int(shuffle.reports.sum())), known)
            self.drawn = rng.multivariate_hypergeometric(shuffle.samples, rest, method="marginals")
        sizes = (shuffle.reports + self.rounds * shuffle.samples + self.drawn)[self.shards]
        starts = np.arange(0, len(sizes), shuffle.window)
        counts = np.add.reduceat(sizes, starts) if len(sizes) else np.empty(0, np.int64)
        self.bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._held: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def windows(self) -> int:
        return len(self.bounds) - 1

    def window(self, number: int) -> NDArray[np.int64]:
        """The members of a window, in order; the last one asked for is held."""
        if self._held[0] != number:
            members = [self._members(int(shard)) for shard in self.shards_of(number)]
            found = np.concatenate(members) if members else np.empty(0, np.int64)
            self._held = (number, self._rng(1, number).permutation(found))
        return self._held[1]

    def shards_of(self, window: int) -> NDArray[np.int64]:
        """The shards that make up a window."""
        size = self.shuffle.window
        return self.shards[window * size : (window + 1) * size]

    def window_of(self, member: int) -> int:
        """The window in which an example stands, if it stands in the epoch at all."""
        return int(self._place[self.shuffle.shard_of(member)]) // self.shuffle.window

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        places = range(len(self))[index]
        return self._at(places) if isinstance(index, slice) else self._at(range(places, places + 1))[0]

    def __iter__(self) -> Iterator[int]:
        for number in range(self.windows):
            yield from self.window(number).tolist()

    def _at(self, places: range) -> list[int]:
        found: list[int] = []
        for place in places:
            window = int(np.searchsorted(self.bounds, place, side="right")) - 1
            found.append(int(self.window(window)[place - self.bounds[window]]))
        return found

    def _members(self, shard: int) -> NDArray[np.int64]:
        base, reports, samples = (int(each[shard]) for each in (self.shuffle.base, self.shuffle.reports, self.shuffle.samples))
        everyone = base + np.arange(reports + samples)
        again = self._rng(2, shard).choice(samples, int(self.drawn[shard]), replace=False) if self.drawn[shard] else []
        extra = np.asarray(again, np.int64) + base + reports
        return np.concatenate([everyone[:reports], np.repeat(everyone[reports:], self.rounds), extra])

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.shuffle.seed, self.number, *purpose])
