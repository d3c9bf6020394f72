"""Soft prompts: vectors of a domain and of each type, learned in place of words, kept as small files that can be exchanged.

In front of a text stands [CLS] H S [SEP]: the template's word pieces H, then the domain's vectors and the type's own as S (prompt
tuning, Lester et al. 2021, section 2, with the split into shared and own parts of this system). A vector starts as a word piece
of the type's definition, taken in turn, the domain's as the mean over types, each with seeded noise N(0, 0.02).

A deep vector is one for every layer of the encoder, side by side, and starts as what the layers read of such a piece (prefixes
start best from activations of real words, Li and Liang 2021, section 7.4).
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
"""What a checkpoint keeps of a network's soft vectors, as the network's tensors are called."""

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class PromptModule:
    """What is learned for some types in one domain: `shared` [m, d], and `own` [k, d] of each type; `deep` ones [.., layers * d].

    `encoder` is the digest of the pretrained encoder that the vectors belong to, and `weights` that of all else that they were
    learned with (`checkpoint.weights_digest`), None where there are no vectors.
    """

    domain: str
    encoder: str
    shared: Tensor
    own: Mapping[str, Tensor]
    deep: bool = False
    weights: str | None = None

    def save(self, path: Path) -> None:
        """Writes a safetensors file that says what it is."""
        from safetensors.torch import save_file

        told = {name: getattr(self, name) for name in ("domain", "encoder", "deep", "weights")} | {"types": sorted(self.own)}
        tensors = {f"own/{name}": value for name, value in self.own.items()} | {"shared": self.shared}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.detach().float().cpu().contiguous() for name, value in tensors.items()},
            path,
            metadata={"prompts": json.dumps(told)},
        )
        path.chmod(0o644)

    @classmethod
    def read(cls, path: Path) -> "PromptModule":
        """The inverse of `save`.

        Raises:
            ConfigError: the file is missing or holds no prompts.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        told = _told(path)
        try:
            tensors = load_file(path)
            own = {name: tensors[f"own/{name}"] for name in told["types"]}
            return cls(told["domain"], told["encoder"], tensors["shared"], own, told["deep"], told["weights"])
        except (SafetensorError, KeyError):
            raise ConfigError(f"model.prompts: {path} is damaged") from None

    def check(self, config: MrcConfig, width: int, weights: str | None = None) -> None:
        """Whether the vectors can stand in a model of that configuration, in place of its own of `width` numbers each.

        Args:
            weights: as this module's, of the model; None where they are not known, and then nothing is said of them.
        Raises:
            ConfigError: they are of another encoder or model, kind or size, or have none of the types.
        """
        if self.encoder != config.encoder_digest:
            raise ConfigError(f"model.prompts: those of '{self.domain}' were learned with another encoder")
        if weights is not None and self.weights != weights:
            raise ConfigError(
                f"model.prompts: those of '{self.domain}' were learned with another model, whose trained weights or layers "
                "differ; take others, or learn them with this model as model.base, its encoder and heads frozen"
            )
        if self.deep != config.deep:
            raise ConfigError(
                f"model.prompts: those of '{self.domain}' are {'' if self.deep else 'not '}deep, the model's are"
                f"{' not' if self.deep else ''}; take others, or a model trained with model.deep={str(self.deep).lower()}"
            )
        owned = {tuple(value.shape) for value in self.own.values()}
        if tuple(self.shared.shape) != (config.shared_soft, width) or not owned <= {(config.type_soft, width)}:
            raise ConfigError(
                f"model.prompts: those of '{self.domain}' have other numbers of vectors, or of layers, than the model's "
                f"{config.shared_soft} and {config.type_soft}"
            )
        if not set(config.types) & set(self.own):
            raise ConfigError(f"model.prompts: those of '{self.domain}' know none of the types {', '.join(config.types)}")


def modules(folder: Path) -> list[dict[str, Any]]:
    """The prompt files of a folder, by name: `path`, `domain`, `types`, `encoder`, `weights` and `deep` of each, no others."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found.append({"path": path, **_told(path)})
        except ConfigError:
            continue
    return found


def _told(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})["prompts"])
            return {name: told[name] for name in ("domain", "encoder", "types", "deep", "weights")}
    except (OSError, SafetensorError, KeyError, ValueError):
        raise ConfigError(f"model.prompts: {path} is no file with prompts of this system") from None


class SoftPrompts(nn.Module):
    """The vectors that are trained: `shared` [m, layers * d] and `own` [types, k, layers * d], in fp32."""

    def __init__(self, config: MrcConfig, width: int, layers: int = 1) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Parameter(torch.zeros(config.shared_soft, layers * width))
        self.own = nn.Parameter(torch.zeros(len(config.types), config.type_soft, layers * width))

    @torch.no_grad()
    def start(self, definitions: Sequence[Tensor]) -> None:
        """Sets the vectors from those [pieces, layers * d] of each type's definition, and noise from the model's seed."""
        rng = torch.Generator().manual_seed(self.config.seed)
        mean = torch.stack([rows.float().cpu().mean(0) for rows in definitions]).mean(0)
        self.shared.copy_(mean + NOISE * torch.randn(self.shared.shape, generator=rng))
        for row, rows in zip(self.own, definitions, strict=True):
            taken = rows.float().cpu()[torch.arange(len(row)) % len(rows)]
            row.copy_(taken + NOISE * torch.randn(row.shape, generator=rng))

    def of(self, number: int) -> Tensor:
        """The vectors [m + k, layers * d] of a type; beyond the known ones, as a new type has none, the mean of theirs."""
        return torch.cat([self.shared, self.own[number] if number < len(self.own) else self.own.mean(0)])

    @torch.no_grad()
    def swap(self, module: PromptModule) -> None:
        """Puts a module's vectors in place of these; types that it does not have keep theirs.

        Raises:
            ConfigError: it is of another encoder, kind or size, or has none of the types.
        """
        module.check(self.config, self.shared.shape[1])
        self.shared.copy_(module.shared)
        for name in (each for each in self.config.types if each in module.own):
            self.own[self.config.number(name)].copy_(module.own[name])
