"""Whether a bank collapses to one matrix without loss, whether contributions add up to the answers, and what concepts cost.

A bank of more concepts than the real one is filled with synthetic ones: real concepts with noise, of length 1 again.
"""

import time
import tracemalloc
from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models.clear.bank import add, collapse, embedding, partial, top
from engine.models.clear.serving import Network
from engine.models.clear.space import Space as Served
from engine.models.clear.zero_shot import directions
from engine.studies.clear.folds import space_of
from engine.studies.clear.radiographs import Radiographs, in_space
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.text.chest import FINDINGS

_IMAGES, _NAIVE, _SHARDS, _REPEATS, _NOISE = 16, 4, 4, 7, 0.5


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """Relative errors, seconds, peak memory of the collapse, and milliseconds an image."""
    space = space_of(radiographs, None, task)
    count = int(task.settings["exact.concepts"] or len(space.t))
    t, llm = filled(space.t, count, 1), filled(space.bank.embeddings, count, 2)
    features = radiographs.nih.features[:_IMAGES]
    v = in_space(space.encoder, features).astype(np.float64)
    p = directions(FINDINGS, space.bank.embed).T
    tracemalloc.start()
    seconds, matrix = timed(lambda: collapse(t, llm))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sharded = reduce(add, (partial(t[rows::_SHARDS], llm[rows::_SHARDS]) for rows in range(_SHARDS)))
    z, norms = embedding(v, matrix)
    by_hand = naive(v[:_NAIVE], t, llm)
    weights = llm.astype(np.float64) @ p
    found = top(v, norms, t, weights)
    listed = found.scores.sum(2) + found.rest
    served = Served(t, matrix, np.zeros(v.shape[1]), p, np.zeros(len(FINDINGS)), weights)
    network = Network(_Width(features.shape[1]), v.shape[1], served).eval().requires_grad_(False)
    network.projection.load_state_dict(space.encoder.image.state_dict())
    batch = torch.from_numpy(features.astype(np.float32))
    with torch.inference_mode():
        forward = least(lambda: network.logits(batch))
    figures = {
        "error.z": relative(z[:_NAIVE], by_hand),
        "error.sum": relative(listed, z @ p),
        "error.shards": relative(sharded, matrix),
        "collapse.seconds": seconds,
        "collapse.mib": peak / 2**20,
        "forward.ms": 1000 * forward / _IMAGES,
        "top.ms": 1000 * least(lambda: top(v, norms, t, weights), 3) / _IMAGES,
    }
    return Measured([Row(name, float(value), n=count) for name, value in figures.items()])


class _Width(torch.nn.Module):
    """Stands for an image encoder, whose cost no bank changes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def filled(rows: NDArray, count: int, seed: int) -> NDArray:
    """The first `count` of rows [n, e], or more: noisy ones after the real ones, fp16 of length 1."""
    if count <= len(rows):
        return rows[:count]
    rng, made = np.random.default_rng(seed), [rows]
    for start in range(len(rows), count, len(rows)):
        part = rows[: count - start].astype(np.float32)
        part = part + _NOISE * rng.standard_normal(part.shape, np.float32) / np.sqrt(part.shape[1], dtype=np.float32)
        made.append((part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float16))
    return np.concatenate(made)


def naive(v: NDArray, t: NDArray, llm: NDArray) -> NDArray:
    """z [n, e] as it is defined: all cosines, then the sum over all concepts, in fp64."""
    raw = (v @ t.astype(np.float64).T) @ llm.astype(np.float64)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def relative(one: NDArray, other: NDArray) -> float:
    """The greatest difference, of the greatest value."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def timed(run: Callable[[], NDArray]) -> tuple[float, NDArray]:
    start = time.perf_counter()
    made = run()
    return time.perf_counter() - start, made


def least(run: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Seconds of the fastest of some runs, the one that others on the machine disturbed least."""
    return min(timed(run)[0] for _ in range(repeats))
