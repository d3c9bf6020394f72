"""Settings of methods and measures: plain values, recorded with every result."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.errors import ConfigError

# Every method by name: those of `methods.METHODS` and `fused`, which work for any model, and those that some models compute.
METHOD_NAMES = (
    "integrated_gradients",
    "gradient_x_input",
    "grad_l2",
    "attnlrp",
    "occlusion",
    "lime",
    "kernel_shap",
    "fused",
    "attention",
    "pooling",
    "global",
    "random",
)
OWN_METHODS = frozenset({"attention", "pooling", "global"})
# How a copy of a record is changed to measure stability, see `stability.perturbed`.
PERTURBS = ("mask", "replace", "noise", "edge", "truncate")
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Settings:
    """Settings of the methods.

    Args:
        tokens_per_pass: positions that go through the model at once; bounds memory, changes no value.
        residual: also score the record with everything erased, to report what the scores leave unexplained.
        seed: of every random draw, together with record, target and method.
        baseline: where gradients start: `mask` (the model's own blank), `zero`, or `default`, the method's own.
        steps: points of integrated gradients.
        samples: of LIME and KernelSHAP; 0 is four per unit and at least 64. The cost of their regressions grows with the
            square of the units: long reports are practical by sentence only.
        kernel_width: of LIME's exponential kernel, in cosine distance. ridge: its penalty.
        fuse: methods that `fused` joins, with `fuse_weights` for stability, boundary and faithfulness and the softmax's
            `fuse_temperature`.
        perturbations: copies for measuring stability. perturb: how they are changed, one of `PERTURBS`; with `mask` and `replace`
            `perturb_share` of the units in each.
    """

    tokens_per_pass: int = 16384
    residual: bool = True
    seed: int = 0
    baseline: str = "default"
    steps: int = 50
    samples: int = 0
    kernel_width: float = 0.25
    ridge: float = 0.01
    fuse: tuple[str, ...] = ("gradient_x_input", "attnlrp")
    fuse_weights: tuple[float, float, float] = (1.0, 1.0, 0.5)
    fuse_temperature: float = 0.25
    perturbations: int = 8
    perturb_share: float = 0.1
    perturb: str = "mask"

    def __post_init__(self) -> None:
        if self.tokens_per_pass < 1 or self.steps < 1 or self.samples < 0 or self.perturbations < 0:
            raise ConfigError("explain: tokens_per_pass and steps must be at least 1, samples and perturbations at least 0")
        if self.baseline not in {"default", "mask", "zero"}:
            raise ConfigError(f"explain.baseline: '{self.baseline}' is none of default, mask, zero")
        if self.perturb not in PERTURBS:
            raise ConfigError(f"explain.perturb: '{self.perturb}' is none of {', '.join(PERTURBS)}")
        if min(self.kernel_width, self.ridge, self.fuse_temperature) <= 0 or not 0 < self.perturb_share < 1:
            raise ConfigError("explain: kernel_width, ridge, fuse_temperature must be above 0, perturb_share between 0 and 1")
        if not self.fuse or "fused" in self.fuse:
            raise ConfigError("explain.fuse: name at least one method, and not 'fused' itself")

    def used_by(self, method: str) -> dict[str, Any]:
        """The settings that affect this method's values, as they are recorded."""
        methods = (method, *self.fuse) if method == "fused" else (method,)
        names = {name for each in methods for name in USED.get(each, ())}
        used = {field.name: getattr(self, field.name) for field in fields(self) if field.name in names}
        return used | ({"attention_rule": "constant"} if "attnlrp" in methods else {})


USED: Mapping[str, tuple[str, ...]] = {
    "gradient_x_input": ("baseline",),
    "integrated_gradients": ("baseline", "steps"),
    "attnlrp": ("baseline",),
    "lime": ("samples", "kernel_width", "ridge", "seed"),
    "kernel_shap": ("samples", "seed"),
    "random": ("seed",),
    "fused": ("fuse", "fuse_weights", "fuse_temperature", "perturbations", "perturb_share", "perturb", "seed"),
}


@dataclass(frozen=True)
class Measures:
    """Settings of the measures by erasure.

    Args:
        shares: of the units that speak most for the answer, which are erased or kept alone. draws: of the random control.
        erasure: `mask` replaces a position by the model's blank, `delete` removes it.
    """

    shares: tuple[float, ...] = SHARES
    draws: int = 5
    erasure: str = "mask"

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share <= 1 for share in self.shares) or self.draws < 0:
            raise ConfigError("explain.shares must lie above 0 and up to 1, explain.draws must be at least 0")
        if self.erasure not in {"mask", "delete"}:
            raise ConfigError(f"explain.erasure: '{self.erasure}' is none of mask, delete")
