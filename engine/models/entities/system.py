"""The base of systems that find entities in texts, window by window."""

import pkgutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from engine.errors import ConfigError, ContractError, RowError
from engine.models.columns import list_values
from engine.models.entities import candidates
from engine.models.entities.candidates import Decoding, Start, select
from engine.models.entities.prepare import with_parts
from engine.models.entities.scores import candidate_table
from engine.models.entities.settings import EntityOptions
from engine.models.entities.spans import Window, collate, windows
from engine.models.token_system import TokenSystem
from engine.models.tokens import WORDS
from engine.records import AUTO, ENTITIES, REVIEW, entities_fields, in_share
from engine.text.assertions import Scope, Scopes

if TYPE_CHECKING:
    from engine.models.entities.candidates import Candidate
    from engine.models.entities.explainable import SpanModel

DECODING = "decoding.json"


def entity_id(record_id: str, start: int | None, end: int | None, kind: str) -> str:
    """The id of an entity when it is explained, which seeds every random draw: the same wherever that happens."""
    return f"{record_id} {start}-{end} {kind}"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint of entities, weights not yet loaded. Its file `DECODING` has the `decoding`, and the figures that it
    was tuned for."""

    folder: Path
    digest: str
    config: Any
    decoding: Decoding


class EntitySystem(TokenSystem):
    """See `engine.models.base.System`.

    A subclass implements `read` (a `Checkpoint`), `build` and `decode`. `span_model_at` is the `module:class` of its `SpanModel`,
    `Candidate` the kind of its candidates. `names` are its types, `types` the numbers of those that are looked for. The config
    has `types`, `window` and `overlap` in tokens, `special`, and the `language` of assertions.

    Unless `outputs` is overridden, the network has `embed(ids)` and the call `network(batch, embeds=None)`, which returns an
    output [W, L, ...] for each token of a batch from `spans.collate`, those of [CLS] and [SEP] included.
    """

    table, Options, Candidate = ENTITIES, EntityOptions, candidates.Candidate
    span_model_at: ClassVar[str]
    # How far a margin can move, in multiples of a small change of the probabilities.
    margin_slope: ClassVar[float] = 0.0
    # How copies of its texts can be changed when stability is measured, see `engine.explain.stability.perturbed`.
    perturbs: ClassVar[tuple[str, ...]] = ("mask", "noise", "edge", "truncate")
    # What the message about an unknown type adds.
    hint: ClassVar[str] = ""

    def __init__(self, checkpoint: Any, options: Any, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
        self.types = self.chosen(options.types)
        self.decoding = self.chosen_decoding()

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.config.types)

    def chosen(self, wanted: Sequence[str]) -> list[int]:
        """The numbers of the wanted types, of all if none is named.

        Raises:
            ConfigError: there is no such type.
        """
        for name in wanted:
            if name not in self.names:
                has = ", ".join(self.config.types)
                raise ConfigError(f"entities.types: the model has no type '{name}'; it has {has}{self.hint}")
        return [number for number, name in enumerate(self.names) if not wanted or name in wanted]

    def chosen_decoding(self) -> Decoding:
        """The checkpoint's decoding with what the options change of it.

        Raises:
            ConfigError: there is no such threshold.
        """
        trained, given = self.checkpoint.decoding, self.options.thresholds
        for name in given:
            if name not in trained.thresholds:
                has = ", ".join(trained.thresholds)
                raise ConfigError(f"entities.thresholds: the model has no '{name}'; it has {has}")
        return replace(trained, **given)

    def decode(self, windows: Sequence[Window], outputs: Any, decoding: Decoding) -> tuple[list["Candidate"], set[Start]]:
        """The candidates in some windows by the network's outputs for them, and the places where an entity of a type seems to
        begin, but no end follows."""
        raise NotImplementedError

    def repaired_places(self, windows: Sequence[Window], outputs: Any) -> set[Start]:
        """The places in some windows whose tag stands where none of its kind can, and was read as another one."""
        return set()

    @cached_property
    def span_model(self) -> "SpanModel":
        """The model as it is explained."""
        return pkgutil.resolve_name(self.span_model_at)(self)

    def reasons(self, report: Mapping[str, Any], spans: Sequence["Candidate"]) -> list[str]:
        """The reasons to review a report with these entities."""
        reasons = {"text_truncated": report["truncated_chars"] > 0, "other_language": not report["in_language"]}
        return [reason for reason, holds in reasons.items() if holds]

    @property
    def beside(self) -> tuple[int, int]:
        """The number of sequences in which the network reads a window, and of tokens beside it in each."""
        return 1, 2

    def outputs(self, windows: Sequence[Window]) -> Any:
        """The network's outputs for some windows: [W, L, ...], for each token.

        Raises:
            RowError: one is NaN, which no threshold would distinguish from "no entities".
        """
        outputs = self.network(collate(windows, self.config.special).to(self.device))[:, 1:]
        if outputs.isnan().any():
            raise RowError("model_error", "NaN in the logits")
        return outputs

    def fields(self) -> list[pa.Field]:
        return entities_fields()

    def known(self) -> dict[str, list[str]]:
        return {ENTITIES: [self.names[number] for number in self.types]}

    def prepare(self, records: pa.Table) -> pa.Table:
        return with_parts(super().prepare(records), records, self.config.language)

    def windows(self, prepared: pa.Table) -> list[list[Window]]:
        """The windows of each prepared text."""
        texts = zip(*(list_values(prepared[name]) for name in ("input_ids", "word_of_token", "word_part")), strict=True)
        size, overlap = self.config.window, self.config.overlap
        return [windows(number, ids, words, size, overlap, parts) for number, (ids, words, parts) in enumerate(texts)]

    def scores(self, prepared: pa.Table) -> pa.Table:
        """`row` and `candidates`, see `engine.models.entities.scores`."""
        found = self.candidates(prepared, [each.floor() for each in self.decoding.variants()])
        return candidate_table(prepared, found, self.names, self.Candidate)

    def candidates(self, prepared: pa.Table, decodings: Sequence[Decoding]) -> "list[list[Candidate]]":
        """The candidates of each prepared text under each of some decodings."""
        return self._candidates(self.windows(prepared), decodings, repairs=False)[0]

    def rows(self, prepared: pa.Table) -> Iterator[dict[str, Any]]:
        """See `TokenSystem`.

        Raises:
            ContractError: an entity does not lie in its text.
        """
        words = {name: list_values(prepared[name]) for name in WORDS}
        windows, scopes = self.windows(prepared), prepared["scopes"].to_pylist()
        reports = prepared.select(["row", "record_id", "text_sha256", "text_chars", "truncated_chars", "in_language"]).to_pylist()
        spans, lost, repaired = self._spans(windows)
        ids = [report["record_id"] for report in reports]
        evidence = self._evidence(spans, windows, words, ids) if self.options.evidence != "none" else {}
        for number, report in enumerate(reports):
            said = None if scopes[number] is None else Scopes(Scope(**scope) for scope in scopes[number])
            reasons = self.reasons(report, spans[number])
            yield {
                "row": report["row"],
                "decision": REVIEW if reasons else AUTO,
                "reasons": reasons,
                "entities": [
                    self._entity(span, words, said, evidence.get(span, {}), report["text_chars"]) for span in spans[number]
                ],
                "invalid_start_gt_end": lost[number],
                "repaired_tags": repaired[number],
                "text_sha256": report["text_sha256"],
                "n_tokens": len(words["input_ids"][number]),
                "n_windows": len(windows[number]),
                "truncated_chars": report["truncated_chars"],
            }

    def _spans(self, windows: Sequence[Sequence[Window]]) -> "tuple[list[list[Candidate]], Counter[int], Counter[int]]":
        """The spans of each report, how many starts have ends only before them in every window that contains them, and how many
        tags were repaired."""
        per_text, lost, repaired = self._candidates(windows, [self.decoding], repairs=True)
        # A window may end within an entity that another one holds whole.
        lost -= {(span.text, span.first, span.type) for spans in per_text for span in spans}
        counts = (Counter(text for text, _, _ in starts) for starts in (lost, repaired))
        return [select(spans, self.decoding) for spans in per_text], *counts

    def _candidates(
        self, windows: Sequence[Sequence[Window]], decodings: Sequence[Decoding], repairs: bool
    ) -> "tuple[list[list[Candidate]], set[Start], set[Start]]":
        """The candidates of each text under each of some decodings, the starts without an end (see `decode`), and with `repairs`
        the repaired places."""
        import torch

        per_text: list[list[Candidate]] = [[] for _ in windows]
        lost: set[Start] = set()
        repaired: set[Start] = set()
        with torch.inference_mode():
            for shown in self._batches(windows):
                outputs = self.outputs(shown)
                repaired |= self.repaired_places(shown, outputs) if repairs else set()
                for decoding in decodings:
                    spans, starts = self.decode(shown, outputs, decoding)
                    for span in spans:
                        per_text[span.text].append(span)
                    lost |= starts
        return per_text, lost, repaired

    def _batches(self, windows: Sequence[Sequence[Window]]) -> Iterator[list[Window]]:
        """All windows in batches of similar length; with `deterministic` each alone, so that neither other windows nor the length
        of its report matter."""
        flat = [window for of_text in windows for window in of_text]
        sequences, more = self.beside
        for batch in self.together([sequences] * len(flat), [len(window) + more for window in flat]):
            yield [flat[at] for at in batch]

    def _evidence(
        self,
        spans: Sequence[Sequence["Candidate"]],
        windows: Sequence[Sequence[Window]],
        words: Mapping[str, Sequence[Any]],
        ids: Sequence[str],
    ) -> dict["Candidate", dict[str, Any]]:
        """Evidence of all spans, or of the best one of each type in each report, whose ids are given."""
        from engine.models.entities.explainable import Place, evidence

        chosen = [span for of_text in spans for span in of_text]
        if not self.options.every:
            best: dict[tuple[int, int], Candidate] = {}
            for span in chosen:
                key = (span.text, span.type)
                if key not in best or span.score > best[key].score:
                    best[key] = span
            chosen = list(best.values())
        window_at = {(window.text, window.start): window for of_text in windows for window in of_text}
        places = [
            Place(window_at[span.text, span.window], span.type, *(words[name][span.text] for name in WORDS[2:]))
            for span in chosen
        ]
        names = []
        for span, place in zip(chosen, places, strict=True):
            first, last = (place.window.word[token] for token in span.tokens)
            names.append(entity_id(ids[span.text], place.word_start[first], place.word_end[last], self.names[span.type]))
        drawn = [in_share(ids[span.text], self.options.stability, "stability", 0) for span in chosen]
        lengths = [len(place.window) + self.beside[1] for place in places]
        rows: dict[Candidate, dict[str, Any]] = {}
        # A backward pass takes about twice the memory of a forward pass.
        for batch in self.together([1] * len(chosen), lengths, max(1, self.budget // 2)):
            members, shown, named, measured = ([column[at] for at in batch] for column in (chosen, places, names, drawn))
            together, tokens = self.span_model.spans(shown, named), [span.tokens for span in members]
            explained = evidence(self.span_model, together, tokens, self.options.evidence, self.options.spans, measured)
            rows |= dict(zip(members, explained, strict=True))
        return rows

    def _entity(
        self,
        span: "Candidate",
        words: Mapping[str, Sequence[Any]],
        said: Scopes | None,
        evidence: Mapping[str, Any],
        chars: int,
    ) -> dict[str, Any]:
        """The row of an entity, checked against its text of `chars` characters with the assertions `said`.

        Raises:
            ContractError: it is not a run of the text's words, or it or its evidence does not lie in the text.
        """
        starts, ends = (words[name][span.text] for name in ("word_start", "word_end"))
        in_words = 0 <= span.first <= span.last < len(starts)
        start, end = (int(starts[span.first]), int(ends[span.last])) if in_words else (-1, -1)
        if not 0 <= start < end <= chars:
            place = f"words {span.first} to {span.last} of {len(starts)} ({start} to {end})"
            raise ContractError(f"an entity of {place} does not lie in its text of {chars} characters")
        for run in evidence.get("evidence") or ():
            if not 0 <= run["start"] < run["end"] <= chars:
                place = f"{run['start']} to {run['end']}"
                raise ContractError(f"evidence from {place} does not lie in its text of {chars} characters")
        return {
            "type": self.names[span.type],
            "start": start,
            "end": end,
            **({} if said is None else said.columns(start, end)),
            "score": span.score,
            "zero_shot": span.zero_shot,
            "margin": span.margin,
            "confused_with": None if span.rival is None else self.names[span.rival],
            **{name: getattr(span, name) for name in span.further},
            **evidence,
        }
