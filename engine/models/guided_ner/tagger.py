"""The tagger as a system: prepared texts in, rows of the `entities` table out."""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from engine.encoders import attention_for
from engine.models.entities.candidates import Start
from engine.models.entities.spans import Window
from engine.models.entities.system import Checkpoint, EntitySystem
from engine.models.guided_ner import config
from engine.models.guided_ner.checkpoint import build_network, read_checkpoint
from engine.models.guided_ner.config import Decoding
from engine.models.guided_ner.vocabulary import Vocabulary, vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engine.models.entities.candidates import Candidate
    from engine.models.guided_ner.network import Network

Options = config.Options


class Tagger(EntitySystem):
    """See `engine.models.entities.system`."""

    Options = Options
    perturbs = (*EntitySystem.perturbs, "replace")
    span_model_at = f"{__package__}.attributable:SpanModel"

    @classmethod
    def read(cls, path: str, options: Any) -> Checkpoint:
        return read_checkpoint(path)

    def build(self, dtype: "torch.dtype") -> "Network":
        return build_network(self.checkpoint, dtype, attention_for(self.device))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return vocabulary(self.tokenizer, self.config.language)

    def decode(self, windows: Sequence[Window], outputs: "Tensor", decoding: Decoding) -> "tuple[list[Candidate], set[Start]]":
        from engine.models.guided_ner.decode import by_window

        return list(chain.from_iterable(by_window(self.network, windows, outputs, self.types, decoding))), set()

    def repaired_places(self, windows: Sequence[Window], outputs: "Tensor") -> set[Start]:
        from engine.models.guided_ner.decode import repaired

        return repaired(self.network, windows, outputs, self.types, self.decoding.outside)
