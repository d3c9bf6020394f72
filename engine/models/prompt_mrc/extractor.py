"""The extractor as a system: prepared reports in, rows of the `entities` table out."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.encoders import attention_for, file_digest
from engine.errors import ConfigError, ContractError, RowError
from engine.models import tokens
from engine.models.columns import list_values, lists
from engine.models.prompt_mrc.checkpoint import PROMPTS, Checkpoint, build_network, read_checkpoint, weights_digest
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.instances import Window, windows
from engine.models.prompt_mrc.options import Options
from engine.models.prompt_mrc.templates import checked_questions
from engine.models.token_system import TokenSystem
from engine.models.tokens import WORDS
from engine.records import AUTO, REVIEW, entities_fields
from engine.text.assertions import Asserted, Scope, Scopes, has_lexicon
from engine.text.phrases import Reading
from engine.text.sentences import parts

if TYPE_CHECKING:
    import torch

    from engine.models.prompt_mrc.decode import Candidate, Start
    from engine.models.prompt_mrc.network import Contexts, Logits, MrcNetwork, Prompts

TABLE = "entities"
# See `engine.text.assertions.Scope`, in characters.
SCOPE = pa.struct(
    [("start", pa.int32()), ("end", pa.int32()), ("kind", pa.string()), ("cue_start", pa.int32()), ("cue_end", pa.int32())]
)
PREPARED = pa.schema(
    [
        *tokens.PREPARED,
        pa.field("text_chars", pa.int32()),
        pa.field("word_part", tokens.INTS),
        pa.field("scopes", pa.list_(SCOPE)),
    ]
)


class Extractor(TokenSystem):
    """See `engine.models.base.System`. `names` are the model's types, then those of the user's questions alone; `types` are the
    numbers of those that are looked for."""

    table, Options = TABLE, Options

    def __init__(self, checkpoint: Checkpoint, options: Options, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
        self.questions = checked_questions(options.all_questions(), "entities.questions")
        if self.questions and not self.config.is_hard:
            raise ConfigError(f"entities.questions: a model of the mode '{self.config.mode}' reads no questions")
        for name, pieces in self._query_pieces.items():
            self.config.check_room(len(pieces), f"'{name}'", "entities.questions")
        self.names = tuple(dict.fromkeys((*self.config.types, *self.questions)))
        for name in options.types:
            if name not in self.names:
                raise ConfigError(
                    f"entities.types: the model has no type '{name}'; it has {', '.join(self.config.types)}. "
                    "For another one give a question in entities.questions"
                )
        wanted = {*options.types, *self.questions} if options.types else set(self.names)
        self.types = [number for number, name in enumerate(self.names) if name in wanted]
        self.decoding = self._decoding()
        self.asserts = has_lexicon(self.config.language)
        if options.prompts is not None:
            path = self._check_prompts(Path(options.prompts).expanduser())
            self.digest = hashlib.sha256(f"{checkpoint.digest}\0{file_digest(path)}".encode()).hexdigest()

    def _decoding(self) -> Decoding:
        options = self.options
        useless = [name for name in ("start", "end") if name in options.thresholds]
        if self.config.is_tagger and (useless or options.nested):
            key = "entities.nested" if options.nested else f"entities.thresholds.{useless[0]}"
            raise ConfigError(f"{key}: a tagger has one threshold, match, and no nested spans; leave it out")
        trained, nested, flat = self.checkpoint.decoding, options.nested, options.flat_across_types
        if nested is None:
            nested = trained.nested and not flat
        if flat is None:
            # One entity a place, unless the checkpoint keeps its types independent.
            flat = trained.flat_across_types if nested == trained.nested else not nested
        return replace(trained, **options.thresholds, nested=nested, flat_across_types=flat)

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

    def fields(self) -> list[pa.Field]:
        return entities_fields()

    def known(self) -> dict[str, list[str]]:
        return {TABLE: [self.names[number] for number in self.types]}

    def prepare(self, records: pa.Table) -> pa.Table:
        """Tokens with the offsets of their words, as a `PREPARED` table; see `engine.models.tokens.prepare`.

        `word_part` has the part of the text of each word, see `engine.text.sentences.parts`. `scopes` are those of assertions;
        null if there is no lexicon of the model's language.
        """
        prepared, texts = super().prepare(records), tokens.texts_of(records)
        word_part, scopes = [], []
        for text, starts, beyond in zip(
            texts, list_values(prepared["word_start"]), prepared["truncated_chars"].to_pylist(), strict=True
        ):
            reading = Reading(text[: len(text) - beyond])
            word_part.append(parts(reading, starts))
            scopes.append(list(Asserted(reading, self.config.language).in_characters()) if self.asserts else None)
        columns = {
            "text_chars": pa.array([len(text) for text in texts], pa.int32()),
            "word_part": lists(word_part),
            "scopes": pa.array([None if each is None else [one._asdict() for one in each] for each in scopes], pa.list_(SCOPE)),
        }
        return tokens.with_columns(prepared, columns, PREPARED)

    def scores(self, prepared: pa.Table) -> pa.Table:
        """`row` and `candidates`, see `engine.models.prompt_mrc.scores`."""
        from engine.models.prompt_mrc.scores import candidate_table, lowest_decodings

        candidates = self.candidates(prepared, lowest_decodings(self.decoding, self.config.is_tagger))
        return candidate_table(prepared, candidates, self.names)

    def candidates(self, prepared: pa.Table, decodings: Sequence[Decoding]) -> "list[list[tuple[Candidate, float]]]":
        """The candidates of each prepared text under each of some decodings, with that decoding's `outside`."""
        import torch

        from engine.models.prompt_mrc.decode import window_candidates

        per_text: list[list[tuple[Candidate, float]]] = [[] for _ in range(len(prepared))]
        with torch.inference_mode():
            for shown, contexts, logits in self._logits(self.windows(prepared)):
                for decoding in decodings:
                    for span in window_candidates(self.network, logits, contexts, shown, self.types, decoding)[0]:
                        per_text[span.text].append((span, decoding.outside))
        return per_text

    def rows(self, prepared: pa.Table) -> Iterator[dict[str, Any]]:
        """See `TokenSystem`.

        Raises:
            ContractError: an entity does not lie in its text.
        """
        words = {name: list_values(prepared[name]) for name in WORDS}
        windows, scopes = self.windows(prepared), prepared["scopes"].to_pylist()
        reports = prepared.select(["row", "record_id", "text_sha256", "text_chars", "truncated_chars"]).to_pylist()
        spans, lost = self._spans(windows)
        evidence = self._evidence(spans, windows, words) if self.options.evidence != "none" else {}
        for number, report in enumerate(reports):
            said = None if scopes[number] is None else Scopes(Scope(**scope) for scope in scopes[number])
            reasons = ["text_truncated"] if report["truncated_chars"] else []
            yield {
                "row": report["row"],
                "decision": REVIEW if reasons else AUTO,
                "reasons": reasons,
                "entities": [
                    self._entity(span, words, said, evidence.get(span, {}), report["text_chars"]) for span in spans[number]
                ],
                "invalid_start_gt_end": lost[number],
                "text_sha256": report["text_sha256"],
                "n_tokens": len(words["input_ids"][number]),
                "n_windows": len(windows[number]),
                "truncated_chars": report["truncated_chars"],
            }

    def windows(self, prepared: pa.Table) -> list[list[Window]]:
        """The windows of each prepared text."""
        texts = zip(*(list_values(prepared[name]) for name in ("input_ids", "word_of_token", "word_part")), strict=True)
        size, overlap = self.config.window, self.config.overlap
        return [windows(number, ids, words, size, overlap, parts) for number, (ids, words, parts) in enumerate(texts)]

    def _spans(self, windows: Sequence[Sequence[Window]]) -> tuple[list[list["Candidate"]], Counter[int]]:
        """The spans of each report, and how many starts have ends only before them in every window that contains them."""
        import torch

        from engine.models.prompt_mrc.decode import select, window_candidates

        per_text: list[list[Candidate]] = [[] for _ in windows]
        lost: set[Start] = set()
        with torch.inference_mode():
            for shown, contexts, logits in self._logits(windows):
                spans, starts = window_candidates(self.network, logits, contexts, shown, self.types, self.decoding)
                for span in spans:
                    per_text[span.text].append(span)
                lost |= starts
        # A window may end within an entity that another one holds whole.
        lost -= {(span.text, span.first, span.type) for spans in per_text for span in spans}
        return [select(spans, self.decoding) for spans in per_text], Counter(text for text, _, _ in lost)

    def _logits(self, windows: Sequence[Sequence[Window]]) -> "Iterator[tuple[list[Window], Contexts, Logits]]":
        """The network's logits for all windows under all types, batch by batch.

        Raises:
            RowError: a logit is NaN, which no threshold would distinguish from "no entities".
        """
        from engine.models.prompt_mrc.network import all_pairs, collate

        for shown in self._batches(windows):
            contexts = collate(shown, self.config.special).to(self.device)
            window, prompt = all_pairs(len(shown), len(self.prompts), self.device)
            states = self.network.encode_contexts(contexts)
            logits = self.network.score(contexts, states, self.prompts, window, prompt)
            if (logits.start + logits.end if logits.tags is None else logits.tags).isnan().any():
                raise RowError("model_error", "NaN in the logits")
            yield shown, contexts, logits

    def _batches(self, windows: Sequence[Sequence[Window]]) -> Iterator[list[Window]]:
        """All windows in batches of similar length; with `deterministic` each alone, so that neither other windows nor the length
        of its report matter."""
        flat = [window for of_text in windows for window in of_text]
        prompts, width = self.prompts.mask.shape
        for batch in self.together([prompts] * len(flat), [len(window) + width + 1 for window in flat]):
            yield [flat[at] for at in batch]

    def _evidence(
        self, spans: Sequence[Sequence["Candidate"]], windows: Sequence[Sequence[Window]], words: Mapping[str, Sequence[Any]]
    ) -> dict["Candidate", dict[str, Any]]:
        """Evidence of all spans, or of the best one of each type in each report."""
        from engine.models.prompt_mrc.attributable import Place, SpanModel, evidence

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
        lengths = [len(place.window) + self.prompts.mask.shape[1] + 1 for place in places]
        model = SpanModel(self.network, self.decoding, self.names, self.tokenizer)
        rows: dict[Candidate, dict[str, Any]] = {}
        # A backward pass takes about twice the memory of a forward pass.
        for batch in self.together([1] * len(chosen), lengths, max(1, self.budget // 2)):
            members = [chosen[at] for at in batch]
            tokens = [span.tokens for span in members]
            explained = evidence(model, [places[at] for at in batch], tokens, self.options.evidence, self.options.spans)
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
            "start_score": span.start_score,
            "end_score": span.end_score,
            "match_score": span.match_score,
            "zero_shot": span.zero_shot,
            "margin": span.margin,
            "confused_with": None if span.rival is None else self.names[span.rival],
            **evidence,
        }
