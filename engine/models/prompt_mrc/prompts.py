"""Soft prompts: vectors of a domain and of each type, learned in place of words, kept as small files that can be exchanged.

In front of a text stands [CLS] H S [SEP]: the template's word pieces H, then the domain's vectors and the type's own as S (prompt
tuning, Lester et al. 2021, section 2, with the split into shared and own parts of this system). A vector starts as a word piece
of the type's definition, taken in turn, the domain's as the mean over types, each with seeded noise N(0, 0.02).
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
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class PromptModule:
    """What is learned for some types in one domain: `shared` [m, d], and `own` [k, d] of each type.

    `encoder` is the digest of the encoder that the vectors belong to.
    """

    domain: str
    encoder: str
    shared: Tensor
    own: Mapping[str, Tensor]

    def save(self, path: Path) -> None:
        """Writes a safetensors file that says what it is."""
        from safetensors.torch import save_file

        told = {"domain": self.domain, "encoder": self.encoder, "types": sorted(self.own)}
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
            return cls(told["domain"], told["encoder"], tensors["shared"], own)
        except (SafetensorError, KeyError):
            raise ConfigError(f"model.prompts: {path} is damaged") from None

    def check(self, config: MrcConfig, width: int) -> None:
        """Whether the vectors can stand in a model of that configuration, in place of its own of `width` numbers each.

        Raises:
            ConfigError: they are of another encoder or size, or have none of the types.
        """
        if self.encoder != config.encoder_digest:
            raise ConfigError(f"model.prompts: those of '{self.domain}' were learned with another encoder")
        owned = {tuple(value.shape) for value in self.own.values()}
        if tuple(self.shared.shape) != (config.shared_soft, width) or not owned <= {(config.type_soft, width)}:
            raise ConfigError(
                f"model.prompts: those of '{self.domain}' have other numbers of vectors than the model's "
                f"{config.shared_soft} and {config.type_soft}"
            )
        if not set(config.types) & set(self.own):
            raise ConfigError(f"model.prompts: those of '{self.domain}' know none of the types {', '.join(config.types)}")


def modules(folder: Path) -> list[dict[str, Any]]:
    """The prompt files of a folder, by name: `path`, `domain`, `types` and `encoder` of each. Other files are passed over."""
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
            return json.loads((file.metadata() or {})["prompts"])
    except (OSError, SafetensorError, KeyError, ValueError):
        raise ConfigError(f"model.prompts: {path} is no file with prompts of this system") from None


class SoftPrompts(nn.Module):
    """The vectors that are trained: `shared` [m, d] and `own` [types, k, d], in fp32."""

    def __init__(self, config: MrcConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Parameter(torch.zeros(config.shared_soft, width))
        self.own = nn.Parameter(torch.zeros(len(config.types), config.type_soft, width))

    @torch.no_grad()
    def start(self, definitions: Sequence[Tensor]) -> None:
        """Sets the vectors from the word embeddings [pieces, d] of each type's definition, and noise from the model's seed."""
        rng = torch.Generator().manual_seed(self.config.seed)
        mean = torch.stack([rows.float().cpu().mean(0) for rows in definitions]).mean(0)
        self.shared.copy_(mean + NOISE * torch.randn(self.shared.shape, generator=rng))
        for row, rows in zip(self.own, definitions, strict=True):
            taken = rows.float().cpu()[torch.arange(len(row)) % len(rows)]
            row.copy_(taken + NOISE * torch.randn(row.shape, generator=rng))

    def of(self, number: int) -> Tensor:
        """The vectors [m + k, d] of a type; beyond the known ones, as a new type has none, the mean of theirs."""
        own = self.own[number] if number < len(self.own) else self.own.mean(0)
        return torch.cat([self.shared, own])

    @torch.no_grad()
    def swap(self, module: PromptModule) -> None:
        """Puts a module's vectors in place of these; types that it does not have keep theirs.

        Raises:
            ConfigError: it is of another encoder or size, or has none of the types.
        """
        module.check(self.config, self.shared.shape[1])
        self.shared.copy_(module.shared)
        for name in (each for each in self.config.types if each in module.own):
            self.own[self.config.number(name)].copy_(module.own[name])
