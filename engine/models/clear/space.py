"""What the answers of a model are made of, as a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPACE = "space.safetensors"
# Sums over a bank lose their digits in single precision where large terms cancel; the concepts themselves need fewer.
_KINDS = {"t": np.float16, **dict.fromkeys(("matrix", "centre", "directions", "intercepts", "weights"), np.float64)}


@dataclass(frozen=True)
class Space:
    """What answers are made of: concepts t [C, d], the collapsed bank `matrix` [d, e], a direction [e] and an intercept for each
    of K findings, and `weights` [C, K], how much each concept counts for a finding. `centre` [d] is the mean of v / |v M| over
    the images that trained it: contributions are differences from it, since what all images share would drown them."""

    t: NDArray
    matrix: NDArray
    centre: NDArray
    directions: NDArray
    intercepts: NDArray
    weights: NDArray

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(getattr(self, name), kind) for name, kind in _KINDS.items()}, path)
        path.chmod(0o644)

    @classmethod
    def load(cls, folder: Path) -> "Space":
        from safetensors.numpy import load_file

        return cls(**load_file(folder / SPACE))
