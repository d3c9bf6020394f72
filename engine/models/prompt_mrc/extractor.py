"""The extractor as a system: prepared reports in, rows of the `entities` table out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import attention_for, file_digest
from engine.errors import ConfigError, RowError
from engine.models.entities.candidates import Start
from engine.models.entities.spans import Window
from engine.models.entities.system import Checkpoint, EntitySystem
from engine.models.prompt_mrc.checkpoint import PROMPTS, build_network, read_checkpoint, weights_digest
from engine.models.prompt_mrc.config import Candidate, Decoding
from engine.models.prompt_mrc.options import Options
from engine.models.prompt_mrc.templates import checked_questions

if TYPE_CHECKING:
    import torch

    from engine.models.prompt_mrc.network import Contexts, Logits, MrcNetwork, Prompts


class Extractor(EntitySystem):
    """See `engine.models.entities.system`. `names` are the model's types, then those of the user's questions alone."""

    Options, Candidate = Options, Candidate
    span_model_at = f"{__package__}.attributable:SpanModel"
    # A margin has six logits, and where a probability is one half, its logit changes by four times as much.
    margin_slope = 24.0
    hint = ". For another one give a question in entities.questions"

    def __init__(self, checkpoint: Checkpoint, options: Options, runtime: Mapping[str, Any]) -> None:
        self.questions = checked_questions(options.all_questions(), "entities.questions")
        super().__init__(checkpoint, options, runtime)
        if self.questions and not self.config.is_hard:
            raise ConfigError(f"entities.questions: a model of the mode '{self.config.mode}' reads no questions")
        for name, pieces in self._query_pieces.items():
            self.config.check_room(len(pieces), f"'{name}'", "entities.questions")
        if options.prompts is not None:
            path = self._check_prompts(Path(options.prompts).expanduser())
            self.digest = hashlib.sha256(f"{checkpoint.digest}\0{file_digest(path)}".encode()).hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.config.types, *self.questions)))

    def chosen(self, wanted: Sequence[str]) -> list[int]:
        """The numbers of the wanted types, and of those that a question asks for."""
        return super().chosen([*wanted, *self.questions] if wanted else ())

    def chosen_decoding(self) -> Decoding:
        trained, nested, flat = super().chosen_decoding(), self.options.nested, self.options.flat_across_types
        if nested and not trained.can_nest:
            raise ConfigError("entities.nested: a tagger has no nested spans; leave it out")
        if nested is None:
            nested = trained.nested and not flat
        if flat is None:
            # One entity a place, unless the checkpoint keeps its types independent.
            flat = trained.flat_across_types if nested == trained.nested else not nested
        return replace(trained, nested=nested, flat_across_types=flat)

    def _check_prompts(self, path: Path) -> Path:
        """The path of a file of prompts; ConfigError if it is none, or if they do not fit the model."""
        from engine.models.prompt_mrc.prompts import PromptModule, read_metadata

        if not self.config.is_soft:
            raise ConfigError(f"model.prompts: a model of the mode '{self.config.mode}' has no soft prompts to exchange")
        if path.is_dir():
            files = []
            for file in sorted(path.glob("*.safetensors")):
                try:
                    about = read_metadata(file)
                except ConfigError:
                    continue
                deep = ", deep" if about["deep"] else ""
                files.append(f"{file.name} ({about['domain']}{deep}: {', '.join(about['types'])})")
            raise ConfigError(f"model.prompts: {path} is a folder; name one of its files: {'; '.join(files) or 'it has none'}")
        if not path.is_file():
            raise ConfigError(f"model.prompts: there is no file {path}")
        width = PromptModule.read(self.checkpoint.folder / PROMPTS).shared.shape[1]
        PromptModule.read(path).check(self.config, width, weights_digest(self.checkpoint.folder, self.config))
        return path

    @classmethod
    def read(cls, path: str, options: Options) -> Checkpoint:
        return read_checkpoint(path)

    @cached_property
    def _query_pieces(self) -> dict[str, list[int]]:
        """The word pieces of the user's own questions, by type."""
        if not self.questions:
            return {}
        from engine.models.prompt_mrc.network import word_pieces

        return dict(zip(self.questions, word_pieces(self.tokenizer, list(self.questions.values())), strict=True))

    def build(self, dtype: "torch.dtype") -> "MrcNetwork":
        from engine.models.prompt_mrc.prompts import PromptModule

        network = build_network(self.checkpoint, dtype, attention_for(self.device))
        if self.options.prompts is not None:
            network.soft.replace(PromptModule.read(Path(self.options.prompts).expanduser()))
        for name, pieces in self._query_pieces.items():
            network.set_query(self.names.index(name), pieces)
        return network

    @cached_property
    def prompts(self) -> "Prompts":
        """The prompts of all types that are looked for, encoded once as far as that goes without a text."""
        import torch

        with torch.inference_mode():
            return self.network.encode_prompts(self.network.embed_prompts([0] if self.config.is_tagger else self.types))

    @property
    def beside(self) -> tuple[int, int]:
        prompts, width = self.prompts.mask.shape
        return prompts, width + 1

    def outputs(self, windows: Sequence[Window]) -> "tuple[Contexts, Logits]":
        """The windows as a batch, and the network's logits for them under all types."""
        from engine.models.prompt_mrc.network import all_pairs, collate

        contexts = collate(windows, self.config.special).to(self.device)
        window, prompt = all_pairs(len(windows), len(self.prompts), self.device)
        states = self.network.encode_contexts(contexts)
        logits = self.network.score(contexts, states, self.prompts, window, prompt)
        if (logits.start + logits.end if logits.tags is None else logits.tags).isnan().any():
            raise RowError("model_error", "NaN in the logits")
        return contexts, logits

    def decode(
        self, windows: Sequence[Window], outputs: "tuple[Contexts, Logits]", decoding: Decoding
    ) -> tuple[list[Candidate], set[Start]]:
        from engine.models.prompt_mrc.decode import window_candidates

        contexts, logits = outputs
        return window_candidates(self.network, logits, contexts, windows, self.types, decoding)
