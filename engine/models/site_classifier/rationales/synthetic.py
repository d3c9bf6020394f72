"""Rationales that no person wrote, behind one interface, and what becomes of a proposal before anyone trains on it.

An extractive proposal counts only where its words stand verbatim in the report, as a span like a person's; an abstractive one is
a text of its own, which counts only if the classifier gives the report's label from it alone (`score.py`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from engine.encoders import encoder_digest, encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models.site_classifier.rationales.silver import Span, Terms, site_terms
from engine.records import seed_of
from engine.text.units import sentences

MODES = ("extractive", "abstractive")
_ASKS = {
    "extractive": "Report:\n{text}\n\nThe words of the report that show that its label is {label}:\n",
    "abstractive": "Report:\n{text}\n\nIn one sentence, why its label is {label}:\n",
}
SITE_WAYS = ("Tumor of the {name}.", "The findings point to the {name} as primary site.", "Primary tumor arising in the {name}.")


class Generator(Protocol):
    """What writes rationales. `name` and `digest` say who, `mode` of `MODES` what its words are."""

    name: str
    digest: str
    mode: str

    def propose(self, record_id: str, text: str, label: str) -> str:
        """Words for a report and its label; empty where it has none."""


@dataclass(frozen=True)
class Proposed:
    """A proposal: where it stands in the report, or as a text of its own; `flaw` says why it counts for nothing."""

    text: str
    spans: tuple[Span, ...] = ()
    flaw: str | None = None


@dataclass(frozen=True)
class Templates:
    """Words from the terms of a label: the first sentence that has one, or a sentence made around one in one of `ways`.

    The terms of a label that `terms` does not know are a site's names where it is a topography category, and else itself.
    """

    mode: str = "extractive"
    name: str = "template"
    terms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ways: tuple[str, ...] = SITE_WAYS

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.mode, self.ways, sorted(self.terms.items()))).encode()).hexdigest()

    def propose(self, record_id: str, text: str, label: str) -> str:
        terms = self.terms.get(label) or site_terms(label) or (label,)
        if self.mode == "abstractive":
            draw = seed_of(record_id, "template rationale")
            return self.ways[draw % len(self.ways)].format(name=terms[draw // len(self.ways) % len(terms)])
        places = Terms(terms).spans(text)
        if not places:
            return ""
        begin = places[0][0]
        return next((text[a:b] for a, b in zip(*sentences(text), strict=True) if a <= begin < b), "")


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model, asked greedily. `name` is `hub:<id>@<revision>` or `path:<folder>`, safetensors only.

    Of a long report the model reads the first `max_tokens`; its answer ends after `new_tokens` or at the first line break.
    """

    name: str
    mode: str = "extractive"
    max_tokens: int = 768
    new_tokens: int = 48

    def __post_init__(self) -> None:
        if not self.name.startswith(("hub:", "path:")):
            raise ConfigError(f"generator: '{self.name}' is none of template, hub:<id>@<revision>, path:<folder>")

    @cached_property
    def digest(self) -> str:
        values = (encoder_digest(self.name), self.mode, self.max_tokens, self.new_tokens, _ASKS[self.mode])
        return hashlib.sha256(repr(values).encode()).hexdigest()

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForCausalLM

        encoder_digest(self.name)
        return AutoModelForCausalLM.from_pretrained(encoder_folder(self.name), local_files_only=True, use_safetensors=True).eval()

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(encoder_folder(self.name))

    def propose(self, record_id: str, text: str, label: str) -> str:
        import torch

        head = self._tokenizer.encode(text, add_special_tokens=False)
        cut = head.offsets[self.max_tokens - 1][1] if len(head.ids) > self.max_tokens else len(text)
        ids = self._tokenizer.encode(_ASKS[self.mode].format(text=text[:cut], label=label)).ids
        asked = torch.tensor([ids])
        with torch.inference_mode():
            answer = self._model.generate(
                asked, attention_mask=torch.ones_like(asked), max_new_tokens=self.new_tokens, do_sample=False, pad_token_id=0
            )
        return self._tokenizer.decode(answer[0, len(ids) :].tolist()).strip().partition("\n")[0].strip()


def generator(name: str, mode: str) -> Generator:
    """The generator of that name: `template`, or a language model's.

    Raises:
        ConfigError: there is none.
    """
    if mode not in MODES:
        raise ConfigError(f"generator_mode: '{mode}' is none of {', '.join(MODES)}")
    return Templates(mode) if name == "template" else LanguageModel(name, mode)


def proposed(by: Generator, record_id: str, text: str, label: str) -> Proposed:
    """A proposal for a report, looked for in it where it is extractive."""
    words = by.propose(record_id, text, label).strip()
    if not words:
        return Proposed("", flaw="empty")
    if by.mode == "abstractive":
        return Proposed(words)
    start = text.find(words)
    if start < 0:
        return Proposed(words, flaw="not_verbatim")
    return Proposed(words, ((start, start + len(words)),))


def covered(human: tuple[Span, ...], made: tuple[Span, ...]) -> float:
    """The share of the characters that people marked which lie in the made spans; both without overlap among themselves."""
    total = sum(end - start for start, end in human)
    common = sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in human for b in made)
    return common / total if total else float("nan")
