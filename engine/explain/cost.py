"""About how much work explanations are, counted in passes of a record through the model; a way back counts as two."""

from engine.explain.settings import Measures, Settings

# Of a report of some 3,500 characters.
_UNITS = {"word": 700, "sentence": 60}
# Leaving out a word changes one window of the report, so that a hundred of them are about as much as one pass a window.
_WORDS_A_PASS = 7
_ONE_WAY, _BOTH_WAYS = 1, 3
# A shard is about so many seconds of work, for bytes of text that go through the encoder once a second, in fp32 on one core; a
# GPU is some fifty times as fast. What a sample leaves out is read all the same.
_SECONDS, _RATE, _GPU, _READING = 20, 8 * 2**10, 50, 0.2


def passes(
    method: str,
    settings: Settings,
    measures: Measures,
    targets: int,
    units: str = "word",
    faithfulness: float = 0.0,
    stability: float = 0.0,
) -> float:
    """Passes a record to explain so many targets of it, the shares of the records that are measured reckoned in."""
    one, copies = _method(method, settings, units), 2 * len(measures.shares)
    again = settings.perturbations * (one + _ONE_WAY)
    # The copies with random units erased are the same for all targets.
    shared = 2 + faithfulness * copies * measures.draws
    return shared + targets * (one + faithfulness * copies + stability * again)


def usual_bytes(passes: float, gpu: bool) -> int:
    """Text of a shard whose records take so many passes each, so that progress shows, all actors have work, and a lost shard
    costs seconds."""
    rate = _RATE * (_GPU if gpu else 1)
    return max(1, min(2**20, int(_SECONDS * rate / (_READING + passes))))


def _method(method: str, settings: Settings, units: str) -> float:
    if method == "integrated_gradients":
        return _BOTH_WAYS * settings.steps
    if method in ("gradient_x_input", "grad_l2", "attnlrp"):
        return _BOTH_WAYS
    if method == "occlusion":
        return _UNITS[units] / _WORDS_A_PASS
    if method in ("lime", "kernel_shap"):
        return settings.samples or max(64, 4 * _UNITS[units])
    if method == "fused":
        return sum(_method(part, settings, units) * (1 + settings.perturbations) + 2 for part in settings.fuse)
    return _ONE_WAY
