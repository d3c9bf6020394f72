"""The site classifier's answers explained: a system of its own, which makes rows of the `explanations` table.

It reads reports as the coder does, takes each report's codes from the finished run that is to be explained, and explains them by
one method. A record that the sample leaves out is `not_applicable`; one whose explanation must not be used as it stands, because
a target's status is not `ok`, is `review`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.batching import token_budget_batches
from engine.errors import ConfigError
from engine.explain.explanation import OK, OTHER_ANSWER
from engine.explain.rows import explanations_fields, target_row
from engine.explain.settings import Measures, Settings
from engine.models.base import ModelSpec
from engine.models.columns import list_values
from engine.models.site_classifier.answered import Answered, draw
from engine.models.site_classifier.checkpoint import Checkpoint, read_checkpoint
from engine.models.site_classifier.coder import SiteCoder
from engine.models.site_classifier.config import EVIDENCE_METHODS, EXPLAIN_METHODS
from engine.models.site_classifier.options import Options
from engine.models.site_classifier.prepare import PREPARED
from engine.records import AUTO, FAILED, FAILURE, NOT_APPLICABLE, REVIEW, seed_of, text_digest
from engine.text.units import Units, sentences

if TYPE_CHECKING:
    from engine.explain.explanation import Explanation
    from engine.explain.passes import Work
    from engine.models.site_classifier.attributable import Reports, SiteExplainable
    from engine.models.site_classifier.remembered import Remembered

_INTS = PREPARED.field("input_ids").type
_OWN = [
    pa.field("codes", pa.list_(pa.string())),
    pa.field("sentence_start", _INTS),
    pa.field("sentence_end", _INTS),
]
_ONE_PASS = 16384
# Batches of tokens whose states are kept: the copies of a report of some thousand tokens come back to the same windows in these.
_REMEMBERED = 8


@dataclass(frozen=True)
class ExplainOptions:
    """Settings that change a value in a row; they are part of a run's fingerprint.

    `run` is the id of the run that is explained. `tasks` are explained, all where empty; `targets` name a code to explain in
    place of the run's answer, for any task. `units` are `word` or `sentence`. `below` is the draw under which a record is in the
    sample (see `answered.draw`), None for all. `faithfulness` and `stability` are the shares of explained records that are
    measured so, chosen by id. `settings` are those of `engine.explain.settings.Settings`. The last five are the run's own.
    """

    run: str
    method: str = EXPLAIN_METHODS[0]
    tasks: tuple[str, ...] = ()
    targets: Mapping[str, str] = field(default_factory=dict)
    units: str = "word"
    spans: int = 5
    max_units: int = 512
    below: int | None = None
    faithfulness: float = 0.1
    stability: float = 0.02
    erasure: str = "mask"
    settings: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    deterministic: bool = False
    max_tokens: int = 16384
    pair: str | None = None
    head: str | None = None

    def __post_init__(self) -> None:
        if self.method not in EXPLAIN_METHODS:
            raise ConfigError(f"explain.method: '{self.method}' is none of {', '.join(EXPLAIN_METHODS)}")
        if self.units not in ("word", "sentence"):
            raise ConfigError(f"explain.units: '{self.units}' is neither word nor sentence")
        if self.spans < 1 or self.max_units < 1 or not 0 <= self.faithfulness <= 1 or not 0 <= self.stability <= 1:
            raise ConfigError("explain: spans and max_units must be at least 1, faithfulness and stability shares from 0 to 1")


class SiteExplanations:
    """See `engine.models.base.System`."""

    table = "explanations"

    def __init__(self, checkpoint: Checkpoint, options: ExplainOptions, runtime: Mapping[str, Any]) -> None:
        reading = Options(
            max_tokens=options.max_tokens,
            method="none",
            tasks=(),
            precision=options.precision,
            deterministic=options.deterministic,
            pair=options.pair,
        )
        self.coder = SiteCoder(checkpoint, reading, runtime)
        self.digest = checkpoint.digest
        self.options = options
        self.tasks = [checkpoint.config.task(name) for name in options.tasks] or list(checkpoint.config.tasks)
        config = checkpoint.config
        if options.method in EVIDENCE_METHODS and options.method not in config.evidence_methods:
            known = [method for method in EXPLAIN_METHODS if method not in EVIDENCE_METHODS or method in config.evidence_methods]
            raise ConfigError(f"explain.method: the head '{config.head}' has no '{options.method}'; it has {', '.join(known)}")
        names = [task.name for task in self.tasks]
        for name, code in options.targets.items():
            if name not in names:
                raise ConfigError(f"explain.targets: the task '{name}' is not explained; those that are: {', '.join(names)}")
            checkpoint.config.task(name).numbers(code)
        one_pass = _ONE_PASS if options.deterministic else self.coder.budget
        self.settings = Settings(**{**options.settings, "tokens_per_pass": one_pass})
        self.measures = Measures(erasure=options.erasure)
        self.answered = Answered(runtime.get("answers", ()), names)

    @property
    def _by_sentence(self) -> bool:
        return self.options.units == "sentence"

    def fields(self) -> list[pa.Field]:
        return explanations_fields()

    def limits(self) -> dict[str, str]:
        return {}

    def prepare(self, records: pa.Table) -> pa.Table:
        """As the coder does, for records of the sample; the others come back without tokens.

        A record that the run has no answer for is `not_coded`, one whose text is not the one that was coded `text_changed`.
        """
        answers = self.answered.of(records)
        names, texts = records["record_id"].to_pylist(), records["text"].to_pylist()
        failures = [_unfit(answers.get(name), text) for name, text in zip(names, texts, strict=True)]
        wanted = np.array(
            [failure is not None or self._sampled(name) for name, failure in zip(names, failures, strict=True)], dtype=bool
        )
        # A record that is unfit has its tokens all the same: the pipeline's made-up one must get as far as the model.
        tokens = self.coder.prepare(records.filter(pa.array(wanted)))
        rest = records.filter(pa.array(~wanted)).select(["row", "record_id"])
        blank = [rest[n] if n in rest.column_names else pa.nulls(len(rest), PREPARED.field(n).type) for n in PREPARED.names]
        table = pa.concat_tables([tokens, pa.Table.from_arrays(blank, schema=PREPARED)])
        place = {row: index for index, row in enumerate(records["row"].to_pylist())}
        order = [place[row] for row in table["row"].to_pylist()]
        known = [failures[index] or old for index, old in zip(order, table["failure"].to_pylist(), strict=True)]
        table = table.set_column(PREPARED.names.index("failure"), PREPARED.field("failure"), pa.array(known, FAILURE))
        codes = [self._codes(answers.get(names[index])) for index in order]
        bounds = [sentences(texts[index]) if self._by_sentence and wanted[index] else None for index in order]
        own = [codes, *([None if each is None else each[end].tolist() for each in bounds] for end in (0, 1))]
        for column, values in zip(_OWN, own, strict=True):
            table = table.append_column(column, pa.array(values, column.type))
        return table

    def run(self, prepared: pa.Table) -> pa.Table:
        schema = pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        inside = prepared["input_ids"].is_valid()
        rows = [self._row(row, NOT_APPLICABLE) for row in prepared.filter(pc.invert(inside))["row"].to_pylist()]
        chosen = prepared.filter(inside)
        for part in self._parts(chosen):
            rows += self._explained(part)
        return pa.Table.from_pylist(rows, schema=schema)

    def _sampled(self, record_id: str) -> bool:
        return self.options.below is None or draw(record_id, self.settings.seed) < self.options.below

    def _measured(self, record_id: str, what: str, share: float) -> bool:
        return seed_of(record_id, what, self.settings.seed) < share * 2**63

    def _codes(self, answer: Mapping[str, Any] | None) -> list[str | None]:
        """What is to be explained for each task; None for the model's own answer."""
        return [self.options.targets.get(task.name, answer and answer[f"{task.name}_code"]) for task in self.tasks]

    def _row(self, row: int, decision: str, **more: Any) -> dict[str, Any]:
        same = {"method": self.options.method, "coded_run": self.options.run}
        return {"row": row, "failure": None, "decision": decision, **same, **more}

    def _parts(self, chosen: pa.Table) -> Iterator[pa.Table]:
        """Records that are explained together: copies are held for all of them at once."""
        sizes = np.array([len(ids) for ids in list_values(chosen["input_ids"])], dtype=np.int64)
        budget = 1 if self.options.deterministic else self.settings.tokens_per_pass
        for members in token_budget_batches(np.maximum(sizes, 1), np.ones_like(sizes), budget):
            yield chosen.take(pa.array(members)).combine_chunks()

    @cached_property
    def _remembered(self) -> "Remembered":
        from engine.models.site_classifier.remembered import Remembered

        return Remembered(_REMEMBERED * self.coder.budget)

    @cached_property
    def _models(self) -> "list[SiteExplainable]":
        from engine.models.site_classifier.attributable import SiteExplainable

        return [SiteExplainable(self.coder, task.name, self._remembered) for task in self.tasks]

    def _explained(self, part: pa.Table) -> list[dict[str, Any]]:
        from engine.explain.explain import explained
        from engine.models.site_classifier.attributable import reports

        self._remembered.forget()
        batch = reports(part)
        units = self._units(part, batch)
        share = {"faithfulness": self.options.faithfulness, "stability": self.options.stability}
        measured = {what: [self._measured(name, what, part_of) for name in batch.record_ids] for what, part_of in share.items()}
        codes = part["codes"].to_pylist()
        works, same = [], []
        for number, model in enumerate(self._models):
            work, own = self._work(model, batch, units, [row[number] for row in codes])
            works.append(work)
            same.append(own)
        found = self._checked(works, [explained(work, self.options.method) for work in works], measured)
        targets = zip(*(self._targets(*each) for each in zip(works, same, found, strict=True)), strict=True)
        meta = part.select(["row", "text_sha256", "n_windows", "truncated_chars"]).to_pylist()
        return [
            self._row(
                decision=AUTO if all(target["status"] == OK for target in of_record) else REVIEW,
                n_tokens=len(batch.ids[index]),
                faithfulness_sampled=measured["faithfulness"][index],
                stability_sampled=measured["stability"][index],
                targets=list(of_record),
                **about,
            )
            for index, (about, of_record) in enumerate(zip(meta, targets, strict=True))
        ]

    def _units(self, part: pa.Table, batch: "Reports") -> Sequence[Units]:
        if not self._by_sentence:
            return batch.words
        bounds = zip(list_values(part["sentence_start"]), list_values(part["sentence_end"]), strict=True)
        return [words.merged("sentence", start, end) for words, (start, end) in zip(batch.words, bounds, strict=True)]

    def _work(
        self, model: "SiteExplainable", batch: "Reports", units: Sequence[Units], codes: Sequence[str | None]
    ) -> "tuple[Work, list[bool]]":
        """What is to be explained for a task, and whether it is the model's own answer [records]."""
        from engine.explain.explain import work_for

        predicted = model.predicted(batch)
        answers = [target.name for target in model.named(predicted)]
        targets = model.targets([answer if code is None else code for code, answer in zip(codes, answers, strict=True)])
        same = (targets == predicted).reshape(len(batch), -1).all(1).tolist()
        return work_for(model, batch, targets, self.settings, units), same

    def _targets(self, work: "Work", same: Sequence[bool], found: Sequence["Explanation"]) -> list[dict[str, Any]]:
        """A task's values in the rows of its records."""
        options, named = self.options, work.model.task.name in self.options.targets
        rows = []
        for name, explanation, own, of in zip(work.ids, found, same, work.units, strict=True):
            if named and not own and explanation.target is not None:
                explanation = replace(explanation, target=replace(explanation.target, source="counterfactual"))
            row = target_row(name, explanation, spans=options.spans, max_units=options.max_units, spoken=of.spoken)
            if not named and not own and row["status"] == OK:
                row["status"] = OTHER_ANSWER
            rows.append(row)
        return rows

    def _checked(
        self, works: "Sequence[Work]", found: Sequence[Sequence["Explanation"]], measured: Mapping[str, Sequence[bool]]
    ) -> list[list["Explanation"]]:
        """Each task's explanations with what erasure and changed copies say of them, for the records chosen for it."""
        from engine.explain.explain import explained
        from engine.explain.faithfulness import faithfulness, references
        from engine.explain.stability import perturbed, stability

        known = [list(each) for each in found]
        members = [index for index, chosen in enumerate(measured["faithfulness"]) if chosen]
        if members:
            some = [work.only(members) for work in works]
            for work, shared, mine in zip(some, references(some, self.measures), known, strict=True):
                faithful = faithfulness(work, [mine[m] for m in members], self.measures, shared)
                for index, one in zip(members, faithful, strict=True):
                    mine[index] = mine[index] if one is None else mine[index].checked(one.checks())
        members = [index for index, chosen in enumerate(measured["stability"]) if chosen]
        for work, mine in zip(works, known, strict=True) if members else ():
            some = work.only(members)
            steady = stability(some, self.options.method, [mine[m] for m in members], perturbed(some), explained)
            for index, one in zip(members, steady, strict=True):
                mine[index] = mine[index].checked(one.checks())
        return known


def _unfit(answer: Mapping[str, Any] | None, text: str) -> dict[str, str] | None:
    """Why a record cannot be explained, None if it can."""
    if answer is None:
        return {"kind": "not_coded", "detail": "the run has no such record"}
    if answer["decision"] == FAILED:
        return {"kind": "not_coded", "detail": "failed in the run"}
    if answer["text_sha256"] != text_digest(text):
        return {"kind": "text_changed", "detail": "since the run"}
    return None


def load(spec: ModelSpec) -> SiteExplanations:
    """The system that a spec describes; `runtime["answers"]` are the files of the finished run's table."""
    known = {each.name for each in fields(ExplainOptions)}
    unknown = sorted(set(spec.options) - known)
    if unknown:
        raise ConfigError(f"model: unknown options {', '.join(unknown)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.options.items()}
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in values.get("settings", {}).items()}
    return SiteExplanations(
        read_checkpoint(spec.path, values.get("head")), ExplainOptions(**{**values, "settings": settings}), spec.runtime
    )
