"""A system that answers a number with a number: what two phases and the table between them have learned, made one by `settle`."""

from collections.abc import Sequence

from engine.models.base import ModelSpec
from engine.models.checkpoint import read

FILES = ("settled.json",)


class Line:
    table = "numbers"

    def __init__(self, spec: ModelSpec) -> None:
        from safetensors.torch import load_file

        found = read(spec.path, __package__, FILES)
        self.digest = found.digest
        self._weights = {name: float(value) for name, value in load_file(found.folder / "model.safetensors").items()}
        self._offset = found.values("settled.json")["offset"]

    def scores(self, numbers: Sequence[float]) -> list[float]:
        """Before anything is settled."""
        return [self._weights["w"] * x + self._weights["b"] + self._weights["c"] for x in numbers]

    def run(self, numbers: Sequence[float]) -> list[float]:
        return [score + self._offset for score in self.scores(numbers)]


def load(spec: ModelSpec) -> Line:
    return Line(spec)
