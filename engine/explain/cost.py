"""Rough cost of explanations, in forward passes of a record through the model; a backward pass counts as two."""

from engine.explain.settings import Measures, Settings
from engine.records import IMAGES, TEXT

# In a report of about 3,500 characters.
_UNITS = {"word": 700, "sentence": 60}
# Erasing a word changes one window of the report only, so several words cost about as much as one pass.
_WORDS_PER_PASS = 7
_FORWARD, _WITH_BACKWARD = 1, 3
# A shard is about 20 seconds of work. In fp32 on one core 8 KiB of text pass the encoder per second; a GPU is about fifty times
# as fast. Records outside the sample are read all the same. An image file is larger than a report, and its bytes say less: some
# ten radiographs of 100 KiB a second are a guess on the low side.
_SECONDS, _GPU, _READING = 20, 50, 0.2
_RATE, _MOST = {TEXT: 8 * 2**10, IMAGES: 2**20}, {TEXT: 2**20, IMAGES: 2**26}


def passes(
    method: str,
    settings: Settings,
    measures: Measures,
    targets: int,
    units: str = "word",
    faithfulness: float = 0.0,
    stability: float = 0.0,
) -> float:
    """Passes per record to explain this many targets of it; `faithfulness` and `stability` are the shares of records measured."""
    once, copies = _method(method, settings, units), 2 * len(measures.shares)
    repeated = settings.perturbations * (once + _FORWARD)
    # The copies with random units erased are the same for all targets.
    shared = 2 + faithfulness * copies * measures.draws
    return shared + targets * (once + faithfulness * copies + stability * repeated)


def usual_bytes(passes: float, gpu: bool, reads: str = TEXT) -> int:
    """Bytes of text or image files in a shard whose records take this many passes: small enough to show progress, to keep all
    actors busy, and to lose only seconds with it."""
    rate = _RATE[reads] * (_GPU if gpu else 1)
    return max(1, min(_MOST[reads], int(_SECONDS * rate / (_READING + passes))))


def _method(method: str, settings: Settings, units: str) -> float:
    if method == "integrated_gradients":
        return _WITH_BACKWARD * settings.steps
    if method in ("gradient_x_input", "grad_l2", "attnlrp"):
        return _WITH_BACKWARD
    if method == "occlusion":
        return _UNITS[units] / _WORDS_PER_PASS
    if method in ("lime", "kernel_shap"):
        return settings.samples or max(64, 4 * _UNITS[units])
    if method == "fused":
        return sum(_method(part, settings, units) * (1 + settings.perturbations) + 2 for part in settings.fuse)
    return _FORWARD
