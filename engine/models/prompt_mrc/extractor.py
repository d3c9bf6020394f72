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
from engine.models.columns import list_values
from engine.models.prompt_mrc import scores
from engine.models.prompt_mrc.checkpoint import PROMPTS, Checkpoint, build_network, read_checkpoint, weights_digest
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.instances import Window, windows
from engine.models.prompt_mrc.options import Options
from engine.models.prompt_mrc.prepare import prepare
from engine.models.prompt_mrc.scores import Scored
from engine.models.prompt_mrc.templates import questions_of
from engine.models.token_system import TokenSystem
from engine.models.tokens import WORDS
from engine.records import AUTO, REVIEW, entities_fields, seed_of

if TYPE_CHECKING:
    import torch

    from engine.models.prompt_mrc.decode import Candidate, Start
    from engine.models.prompt_mrc.network import Asked, Contexts, Found, MrcNetwork

TABLE = "entities"


class Extractor(TokenSystem):
    """See `engine.models.base.System`."""

    table, Options = TABLE, Options

    def __init__(self, checkpoint: Checkpoint, options: Options, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
        questions = options.asked
        self.questions = questions_of(questions, "entities.questions") if questions else {}
        if self.questions and not self.config.is_hard:
            raise ConfigError(f"entities.questions: a model of the mode '{self.config.mode}' reads no questions")
        for name, words in self._words.items():
            self.config.check_room(len(words), f"'{name}'", "entities.questions")
        self.new = tuple(name for name in self.questions if name not in self.config.types)
        names = (*self.config.types, *self.new)
        for name in options.types:
            if name not in names:
                raise ConfigError(
                    f"entities.types: the model has no type '{name}'; it has {', '.join(self.config.types)}. "
                    "For another one give a question in entities.questions"
                )
        self.names = names
        asked = {*options.types, *self.questions}
        self.types = [number for number, name in enumerate(names) if not options.types or name in asked]
        changed = {name: value for name in ("nested", "flat_across_types") if (value := getattr(options, name)) is not None}
        if changed.get("flat_across_types"):
            changed.setdefault("nested", False)
        idle = [name for name in ("start", "end") if name in options.thresholds]
        if self.config.is_tagger and (idle or options.nested):
            key = "entities.nested" if options.nested else f"entities.thresholds.{idle[0]}"
            raise ConfigError(f"{key}: a tagger has one threshold, match, and no nested spans; leave it out")
        self.decoding = replace(checkpoint.decoding, **options.thresholds, **changed)
        if options.prompts is not None:
            if not self.config.is_soft:
                raise ConfigError(f"model.prompts: a model of the mode '{self.config.mode}' has no soft prompts to exchange")
            from engine.models.prompt_mrc.prompts import PromptModule, modules

            path = Path(options.prompts).expanduser()
            if path.is_dir():
                known = "; ".join(
                    f"{each['path'].name} ({each['domain']}{', deep' if each['deep'] else ''}: {', '.join(each['types'])})"
                    for each in modules(path)
                )
                raise ConfigError(f"model.prompts: {path} is a folder; name one of its files: {known or 'it has none'}")
            if not path.is_file():
                raise ConfigError(f"model.prompts: there is no file {path}")
            own = PromptModule.read(checkpoint.folder / PROMPTS)
            weights = weights_digest(checkpoint.folder, self.config)
            PromptModule.read(path).check(self.config, own.shared.shape[1], weights)
            self.digest = hashlib.sha256(f"{checkpoint.digest}\0{file_digest(path)}".encode()).hexdigest()

    @classmethod
    def read(cls, path: str, options: Options) -> Checkpoint:
        return read_checkpoint(path)

    @cached_property
    def _words(self) -> dict[str, list[int]]:
        """The word pieces of the user's own questions, by type."""
        from engine.models.prompt_mrc.build import pieces

        found = pieces(self.tokenizer, list(self.questions.values())) if self.questions else []
        return dict(zip(self.questions, found, strict=True))

    def build(self, dtype: "torch.dtype") -> "MrcNetwork":
        from engine.models.prompt_mrc.prompts import PromptModule

        network = build_network(self.checkpoint, dtype, attention_for(self.device))
        if self.options.prompts is not None:
            network.soft.swap(PromptModule.read(Path(self.options.prompts).expanduser()))
        for name, words in self._words.items():
            network.ask_anew(self.names.index(name), words)
        return network

    @cached_property
    def asked(self) -> "Asked":
        """The prompts of all types, encoded once as far as that goes without a text."""
        import torch

        with torch.inference_mode():
            return self.network.ask([0] if self.config.is_tagger else self.types)

    def fields(self) -> list[pa.Field]:
        return entities_fields()

    def known(self) -> dict[str, list[str]]:
        return {TABLE: [self.names[number] for number in self.types]}

    def prepare(self, records: pa.Table) -> pa.Table:
        return prepare(records, self.tokenizer, self.options.max_tokens)

    def scores(self, prepared: pa.Table) -> pa.Table:
        """`row` and `candidates`, see `engine.models.prompt_mrc.scores`."""
        from engine.models.prompt_mrc.tuning import tried

        return scores.table(prepared, self.under(prepared, tried(self.decoding, self.config.is_tagger)), self.names)

    def under(self, prepared: pa.Table, decodings: Sequence[Decoding]) -> list[list[Scored]]:
        """The candidates of each prepared text under any of some decodings."""
        import torch

        from engine.models.prompt_mrc.decode import candidates

        per_text: list[list[Scored]] = [[] for _ in range(len(prepared))]
        with torch.inference_mode():
            for group, contexts, answers in self._answers(self._windows(prepared)):
                for decoding in decodings:
                    for each in candidates(self.network, answers, contexts, group, self.types, decoding)[0]:
                        per_text[each.text].append((each, decoding.outside))
        return per_text

    def rows(self, prepared: pa.Table) -> Iterator[dict[str, Any]]:
        """See `TokenSystem`.

        Raises:
            ContractError: an entity does not lie in its text.
        """
        words = {name: list_values(prepared[name]) for name in WORDS}
        cut = self._windows(prepared)
        meta = prepared.select(["row", "record_id", "text_sha256", "text_chars", "truncated_chars"]).to_pylist()
        found, lost = self._found(cut, [each["record_id"] for each in meta])
        told = self._evidence(found, cut, words) if self.options.evidence != "none" else {}
        for number, each in enumerate(meta):
            reasons = ["text_truncated"] if each["truncated_chars"] else []
            yield {
                "row": each["row"],
                "decision": REVIEW if reasons else AUTO,
                "reasons": reasons,
                "entities": [self._entity(span, words, told.get(span, {}), each["text_chars"]) for span in found[number]],
                "invalid_start_gt_end": lost[number],
                "text_sha256": each["text_sha256"],
                "n_tokens": len(words["input_ids"][number]),
                "n_windows": len(cut[number]),
                "truncated_chars": each["truncated_chars"],
            }

    def _windows(self, prepared: pa.Table) -> list[list[Window]]:
        texts = zip(list_values(prepared["input_ids"]), list_values(prepared["word_of_token"]), strict=True)
        return [windows(number, ids, of, self.config.window, self.config.overlap) for number, (ids, of) in enumerate(texts)]

    def _found(self, cut: Sequence[Sequence[Window]], record_ids: Sequence[str]) -> tuple[list[list["Candidate"]], Counter[int]]:
        """The spans of each report, and how many starts had ends before them only, in every window that has them."""
        import torch

        from engine.models.prompt_mrc.decode import candidates, margins, settle

        per_text: list[list[Candidate]] = [[] for _ in cut]
        lost: set[Start] = set()
        sampled = [seed_of(name, "margins") < self.options.margins * 2**63 for name in record_ids]
        with torch.inference_mode():
            for group, contexts, answers in self._answers(cut):
                some, orphans = candidates(self.network, answers, contexts, group, self.types, self.decoding)
                asked = [each for each in some if sampled[each.text]]
                some = [each for each in some if not sampled[each.text]] + margins(self.network, answers, asked, self.types)
                for each in some:
                    per_text[each.text].append(each)
                lost |= orphans
        # A window may end before the entity does that another one sees whole.
        lost -= {(each.text, each.first, each.type) for some in per_text for each in some}
        return [settle(each, self.decoding) for each in per_text], Counter(text for text, _, _ in lost)

    def _answers(self, cut: Sequence[Sequence[Window]]) -> "Iterator[tuple[list[Window], Contexts, Found]]":
        """What the network makes of all windows under all types, batch by batch.

        Raises:
            RowError: it is not a number, which no threshold would tell from an answer of no entities.
        """
        from engine.models.prompt_mrc.network import collate, pairs

        for group in self._batches(cut):
            contexts = collate(group, self.config.special).to(self.device)
            window, prompt = pairs(len(group), len(self.asked), self.device)
            found = self.network.answer(contexts, self.network.read(contexts), self.asked, window, prompt)
            if (found.start + found.end if found.tags is None else found.tags).isnan().any():
                raise RowError("model_error", "NaN in the logits")
            yield group, contexts, found

    def _batches(self, cut: Sequence[Sequence[Window]]) -> Iterator[list[Window]]:
        """All windows in batches of like length; with `deterministic` each alone, whatever stands beside it and however long its
        report is."""
        every = [window for each in cut for window in each]
        prompts, width = self.asked.mask.shape
        for group in self.together([prompts] * len(every), [len(window) + width + 1 for window in every]):
            yield [every[at] for at in group]

    def _evidence(
        self, found: Sequence[Sequence["Candidate"]], cut: Sequence[Sequence[Window]], words: Mapping[str, Sequence[Any]]
    ) -> dict["Candidate", dict[str, Any]]:
        """Evidence of the spans, or of the best of each type in each report."""
        from engine.models.prompt_mrc.attributable import Place, SpanModel
        from engine.models.prompt_mrc.evidence import evidence

        at = {(number, window.start): window for number, each in enumerate(cut) for window in each}
        chosen = [span for spans in found for span in spans]
        if not self.options.every:
            best: dict[tuple[int, int], Candidate] = {}
            for each in chosen:
                key = (each.text, each.type)
                if key not in best or each.score > best[key].score:
                    best[key] = each
            chosen = list(best.values())
        lengths = [len(at[each.text, each.window]) + self.asked.mask.shape[1] + 1 for each in chosen]
        model = SpanModel(self.network, self.decoding, self.names, self.tokenizer)
        told: dict[Candidate, dict[str, Any]] = {}
        # A backward pass holds about twice what a forward does.
        for group in self.together([1] * len(chosen), lengths, max(1, self.budget // 2)):
            mine = [chosen[place] for place in group]
            places = [
                Place(
                    at[each.text, each.window],
                    each.type,
                    *(words[name][each.text] for name in ("word_start", "word_end", "word_spoken")),
                )
                for each in mine
            ]
            rows = evidence(model, places, [each.tokens for each in mine], self.options.spans)
            told |= dict(zip(mine, rows, strict=True))
        return told

    def _entity(
        self, span: "Candidate", words: Mapping[str, Sequence[Any]], told: Mapping[str, Any], chars: int
    ) -> dict[str, Any]:
        """The row of an entity, held against its text of `chars` characters.

        Raises:
            ContractError: it is not a run of the text's words, or it or its evidence does not lie in the text.
        """
        starts, ends = (words[name][span.text] for name in ("word_start", "word_end"))
        whole = 0 <= span.first <= span.last < len(starts)
        start, end = (int(starts[span.first]), int(ends[span.last])) if whole else (-1, -1)
        if not 0 <= start < end <= chars:
            place = f"words {span.first} to {span.last} of {len(starts)} ({start} to {end})"
            raise ContractError(f"an entity of {place} does not lie in its text of {chars} characters")
        for run in told.get("evidence") or ():
            if not 0 <= run["start"] < run["end"] <= chars:
                place = f"{run['start']} to {run['end']}"
                raise ContractError(f"evidence from {place} does not lie in its text of {chars} characters")
        return {
            "type": self.names[span.type],
            "start": start,
            "end": end,
            "score": span.score,
            "start_score": span.start_score,
            "end_score": span.end_score,
            "match_score": span.match_score,
            "zero_shot": span.type >= len(self.config.types),
            "margin": span.margin,
            "confused_with": None if span.rival is None else self.names[span.rival],
            **told,
        }
