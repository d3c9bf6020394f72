"""Soft prompts: vectors of a domain and of each type that are trained in place of words, and their small interchangeable files.

The prompt of a type is [CLS] H S [SEP]: the template's word pieces H, then S, the domain's vectors and the type's own (prompt
tuning, Lester et al. 2021, section 2, here with shared and type-specific vectors). A type's vectors start as the word pieces of
its definition, repeated in turn, and the domain's as the mean over types, each with seeded noise N(0, 0.02).

A deep vector has a part for every layer of the encoder, side by side, and starts as what the layers read of such a piece
(prefixes start best from activations of real words, Li and Liang 2021, section 7.4).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.models.prompt_mrc.config import MrcConfig

NOISE = 0.02
VECTORS = ("soft.shared", "soft.own")
"""Names of a network's soft vectors among its tensors."""


@dataclass(frozen=True)
class PromptModule:
    """Soft vectors for types of one domain: `shared` [m, d], and `own` [k, d] of each type; deep ones are [.., layers * d].

    `encoder` is the digest of the pretrained encoder that the vectors belong to, and `weights` that of everything else that they
    were trained with (`checkpoint.weights_digest`), None where there are no vectors.
    """

    domain: str
    encoder: str
    shared: Tensor
    own: Mapping[str, Tensor]
    deep: bool = False
    weights: str | None = None

    def save(self, path: Path) -> None:
        """Writes a safetensors file with the metadata that `read_metadata` returns."""
        from safetensors.torch import save_file

        about = {name: getattr(self, name) for name in ("domain", "encoder", "deep", "weights")} | {"types": sorted(self.own)}
        tensors = {f"own/{name}": value for name, value in self.own.items()} | {"shared": self.shared}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.detach().float().cpu().contiguous() for name, value in tensors.items()},
            path,
            metadata={"prompts": json.dumps(about)},
        )
        path.chmod(0o644)

    @classmethod
    def read(cls, path: Path) -> "PromptModule":
        """The inverse of `save`.

        Raises:
            ConfigError: the file is missing, damaged, or holds no prompts.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        about = read_metadata(path)
        try:
            tensors = load_file(path)
            own = {name: tensors[f"own/{name}"] for name in about["types"]}
            return cls(about["domain"], about["encoder"], tensors["shared"], own, about["deep"], about["weights"])
        except (SafetensorError, KeyError):
            raise ConfigError(f"model.prompts: {path} is damaged") from None

    def check(self, config: MrcConfig, width: int, weights: str | None = None) -> None:
        """Checks that the vectors fit a model, in place of its own of `width` numbers each.

        Args:
            weights: digest of the model's weights, as `self.weights`; None if it is not known, and then not checked.
        Raises:
            ConfigError: they belong to another encoder or model, differ in kind or size, or have none of the types.
        """
        those = f"model.prompts: those of '{self.domain}'"
        if self.encoder != config.encoder_digest:
            raise ConfigError(f"{those} were learned with another encoder")
        if weights is not None and self.weights != weights:
            raise ConfigError(f"{those} were learned with another model; take others, or learn them with this one as model.base")
        if self.deep != config.deep:
            kinds = ("deep", "not") if self.deep else ("not deep", "deep")
            needed = f"train a model with model.deep={str(self.deep).lower()}"
            raise ConfigError(f"{those} are {kinds[0]}, the model's are {kinds[1]}; take others, or {needed}")
        shapes = {tuple(value.shape) for value in self.own.values()}
        if tuple(self.shared.shape) != (config.shared_soft, width) or not shapes <= {(config.type_soft, width)}:
            raise ConfigError(
                f"{those} have other numbers of vectors, or of layers, than the model's {config.shared_soft} and "
                f"{config.type_soft}"
            )
        if not set(config.types) & set(self.own):
            raise ConfigError(f"{those} have none of the types {', '.join(config.types)}")


def read_metadata(path: Path) -> dict[str, Any]:
    """`domain`, `types`, `encoder`, `weights` and `deep` of a file of prompts.

    Raises:
        ConfigError: it is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["prompts"])
            return {name: about[name] for name in ("domain", "encoder", "types", "deep", "weights")}
    except (OSError, SafetensorError, KeyError, ValueError):
        raise ConfigError(f"model.prompts: {path} is no file with prompts of this system") from None


class SoftPrompts(nn.Module):
    """The trained vectors: `shared` [m, layers * d] and `own` [types, k, layers * d], in fp32."""

    def __init__(self, config: MrcConfig, width: int, layers: int = 1) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Parameter(torch.zeros(config.shared_soft, layers * width))
        self.own = nn.Parameter(torch.zeros(len(config.types), config.type_soft, layers * width))

    @torch.no_grad()
    def start(self, definitions: Sequence[Tensor]) -> None:
        """Initialises the vectors from those of each type's definition [pieces, layers * d], with noise from the model's seed."""
        rng = torch.Generator().manual_seed(self.config.seed)
        definitions = [pieces.float().cpu() for pieces in definitions]
        mean = torch.stack([pieces.mean(0) for pieces in definitions]).mean(0)
        self.shared.copy_(mean + NOISE * torch.randn(self.shared.shape, generator=rng))
        for own, pieces in zip(self.own, definitions, strict=True):
            repeated = pieces[torch.arange(len(own)) % len(pieces)]
            own.copy_(repeated + NOISE * torch.randn(own.shape, generator=rng))

    def of(self, number: int) -> Tensor:
        """The vectors [m + k, layers * d] of a type; a new type, numbered beyond the trained ones, has the mean of their own."""
        return torch.cat([self.shared, self.own[number] if number < len(self.own) else self.own.mean(0)])

    @torch.no_grad()
    def replace(self, module: PromptModule) -> None:
        """Replaces the vectors by a module's; types that it lacks keep theirs.

        Raises:
            ConfigError: see `PromptModule.check`.
        """
        module.check(self.config, self.shared.shape[1])
        self.shared.copy_(module.shared)
        for number, name in enumerate(self.config.types):
            if name in module.own:
                self.own[number].copy_(module.own[name])
