"""A system that explains the answers of another system's finished run, as rows of the `explanations` table.

It prepares records as the run's system does, takes the answers from the run's table, and explains them by one method. A record
outside the sample is `not_applicable`. A record is `review` if the status of a target is not `ok`, as its explanation must not be
used unchecked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.batching import token_budget_batches
from engine.errors import ConfigError
from engine.explain.explanation import OK, OTHER_ANSWER
from engine.explain.rows import explanations_fields, target_row
from engine.explain.settings import METHOD_NAMES, OWN_METHODS, PERTURBS, Measures, Settings
from engine.keys import key, options_from, same
from engine.models.answered import Answered, draw
from engine.models.base import ModelSpec
from engine.models.columns import list_values
from engine.models.explained import ASKED, Explained, Group, load_explained
from engine.models.options import SystemOptions, TextOptions
from engine.records import AUTO, FAILED, FAILURE, IMAGES, NOT_APPLICABLE, REVIEW, TEXT, in_share, text_digest
from engine.text.units import Units, sentences

if TYPE_CHECKING:
    from engine.explain.explanation import Explanation
    from engine.explain.passes import Work

_DIGEST = {TEXT: "text_sha256", IMAGES: IMAGES}
"""The column with the digests of what was read, in a run's row and in a prepared one."""

_INTS = pa.large_list(pa.int32())
_COLUMNS = [pa.field("asked", ASKED), pa.field("sentence_start", _INTS), pa.field("sentence_end", _INTS)]
_SETTINGS = ("baseline", "steps", "samples", "perturbations", "perturb_share", "perturb", "seed")
_META = ("row", "text_sha256", "truncated_chars")
_CHANGED = {"kind": "text_changed", "detail": "since the run"}
_ONE_PASS = 16384
_BUDGET = 4096


@dataclass(frozen=True)
class ExplainOptions(SystemOptions):
    """`of` is the package of the run's system, `options` are the run's options, and `run` is its id. Records with a draw under
    `below` are in the sample (see `answered.draw`), all if it is None. `faithfulness` and `stability` choose records by id."""

    run: str = ""
    of: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    below: int | None = None
    method: str = key(
        METHOD_NAMES[0], "How answers are explained; one method per run.", at="explain.method", choices=METHOD_NAMES
    )
    tasks: tuple[str, ...] = key(
        (),
        "Tasks to explain, or types of entities; [] explains all of the run. Or findings, whatever the run says of them; [] "
        "explains those that are positive or unclear.",
        at="explain.tasks",
    )
    targets: Mapping[str, str] = key(
        {}, "A code to explain instead of the run's answer, such as {site: C50}; for codes only.", at="explain.targets"
    )
    units: str = key(
        "word",
        "What gets a score in a text; lime and kernel_shap take long reports by sentence only. In an image it is always a patch.",
        at="explain.units",
        choices=("word", "sentence"),
    )
    spans: int = key(5, "Largest number of selected spans for each target.", at="explain.spans", low=1, high=50)
    max_units: int = key(
        512,
        "Largest number of units to keep for each target; the strongest are kept, and weight_dropped is the "
        "weight of the others.",
        at="explain.max_units",
        low=1,
    )
    faithfulness: float = key(
        0.1,
        "Share of explained records whose explanation is measured by erasing units, compared with random units; "
        "some 60 predictions for each record.",
        at="explain.faithfulness",
        low=0.0,
        high=1.0,
    )
    stability: float = key(
        0.02,
        "Share of explained records that are explained again as changed copies, to measure stability.",
        at="explain.stability",
        low=0.0,
        high=1.0,
    )
    erasure: str = key(
        "mask",
        "How a unit is erased when faithfulness is measured; entities allow only mask.",
        at="explain.erasure",
        choices=("mask", "delete"),
    )
    baseline: str = key(
        "default",
        "Text from which gradients start: masked (mask), zero embeddings (zero), or the method's own choice (default).",
        at="explain.baseline",
        choices=("default", "mask", "zero"),
    )
    steps: int = key(50, "Points of integrated gradients.", at="explain.steps", low=1)
    samples: int = key(0, "Copies for lime and kernel_shap; 0 is four per unit, at least 64.", at="explain.samples", low=0)
    perturbations: int = key(8, "Changed copies for stability and for fused.", at="explain.perturbations", low=1)
    perturb_share: float = key(
        0.1, "Share of the units that each copy masks or replaces.", at="explain.perturb_share", low=0.001, high=0.999
    )
    perturb: str = key(
        "mask",
        "How copies are changed: words masked (mask) or replaced by others of their class (replace), noise on the embeddings of "
        "all words (noise), a word masked where an entity begins or ends (edge), or all words masked that are more than 32 words "
        "from an entity (truncate). Codes allow only mask; replace is for models that know classes of words.",
        at="explain.perturb",
        choices=PERTURBS,
    )
    seed: int = key(0, "Seed of the sample and of every random draw.", at="explain.seed", low=0)
    precision: str = key(
        "fp32",
        "Arithmetic of the encoder; with bf16, gradients are coarse and a close answer may change.",
        at="cluster.precision",
        choices=("auto", "fp32", "bf16"),
    )
    deterministic: bool = same(TextOptions, "deterministic")

    def settings(self, **more: Any) -> Settings:
        """The settings of the methods."""
        return Settings(**{name: getattr(self, name) for name in _SETTINGS}, **more)


class Explanations:
    """See `engine.models.base.System`."""

    table = "explanations"

    def __init__(self, system: Explained, options: ExplainOptions, runtime: Mapping[str, Any]) -> None:
        self.explained, self.reads = system, system.system.reads
        self.digest = system.system.digest
        self.options = options
        methods = [method for method in METHOD_NAMES if method not in OWN_METHODS or method in system.own_methods]
        if options.method not in methods:
            raise ConfigError(f"explain.method: {system.kind} has no '{options.method}'; it has {', '.join(methods)}")
        if options.erasure not in system.erasures:
            raise ConfigError(f"explain.erasure: {system.kind} has no '{options.erasure}'; it has {', '.join(system.erasures)}")
        if options.perturb not in system.perturbs:
            raise ConfigError(f"explain.perturb: {system.kind} has no '{options.perturb}'; it has {', '.join(system.perturbs)}")
        if self.reads == IMAGES and self._by_sentence:
            raise ConfigError(f"explain.units: {system.kind} reads images, which have no sentences; leave it out")
        one_pass = _ONE_PASS if options.deterministic else int(runtime.get("batch_tokens", _BUDGET))
        self.settings = options.settings(tokens_per_pass=one_pass)
        self.measures = Measures(erasure=options.erasure)
        self.answered = Answered(runtime.get("answers", ()), (_DIGEST[self.reads], *system.columns))

    @property
    def _by_sentence(self) -> bool:
        return self.options.units == "sentence"

    def fields(self) -> list[pa.Field]:
        return explanations_fields()

    def limits(self) -> dict[str, str]:
        return {}

    def prepare(self, records: pa.Table) -> pa.Table:
        """Prepares records of the sample as the run's system does; for the others its columns are null.

        A record without an answer in the run fails as `not_coded`, one whose text differs from the run's as `text_changed`; so
        does one of the sample with other images.
        """
        answers = self.answered.of(records)
        names = records["record_id"].to_pylist()
        texts = records[TEXT].to_pylist() if self.reads == TEXT else [None] * len(names)
        failures = [_unfit(answers.get(name), text) for name, text in zip(names, texts, strict=True)]
        wanted = np.array(
            [failure is not None or self._sampled(name) for name, failure in zip(names, failures, strict=True)], dtype=bool
        )
        # Unfit records get tokens too, since the pipeline's probe record must reach the model.
        tokens = self.explained.system.prepare(records.filter(pa.array(wanted)))
        rest, schema = records.filter(pa.array(~wanted)).select(["row", "record_id"]), tokens.schema
        blank = [rest[n] if n in rest.column_names else pa.nulls(len(rest), schema.field(n).type) for n in schema.names]
        table = pa.concat_tables([tokens, pa.Table.from_arrays(blank, schema=schema)])
        place = {row: index for index, row in enumerate(records["row"].to_pylist())}
        order = [place[row] for row in table["row"].to_pylist()]
        merged = [failures[index] or old for index, old in zip(order, table["failure"].to_pylist(), strict=True)]
        if self.reads == IMAGES:
            columns = zip(merged, order, table[IMAGES], strict=True)
            merged = [failure or _changed(answers[names[index]], images) for failure, index, images in columns]
        table = table.set_column(schema.names.index("failure"), schema.field("failure"), pa.array(merged, FAILURE))
        usable = {name: answer for name, answer in answers.items() if answer["decision"] != FAILED}
        asked = [self.explained.asked(usable.get(names[index])) if wanted[index] else None for index in order]
        units = [sentences(texts[index]) if self._by_sentence and wanted[index] else None for index in order]
        bounds = ([None if pair is None else pair[end].tolist() for pair in units] for end in (0, 1))
        for column, values in zip(_COLUMNS, (asked, *bounds), strict=True):
            table = table.append_column(column, pa.array(values, column.type))
        return table

    def run(self, prepared: pa.Table) -> pa.Table:
        schema = pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        in_sample = prepared["asked"].is_valid()
        rows = [self._row(row, NOT_APPLICABLE) for row in prepared.filter(pc.invert(in_sample))["row"].to_pylist()]
        for part, sizes in self._parts(prepared.filter(in_sample)):
            rows += self._explain(part, sizes)
        return pa.Table.from_pylist(rows, schema=schema)

    def _sampled(self, record_id: str) -> bool:
        return self.options.below is None or draw(record_id, self.settings.seed) < self.options.below

    def _row(self, row: int, decision: str, **more: Any) -> dict[str, Any]:
        run = {"method": self.options.method, "coded_run": self.options.run}
        return {"row": row, "failure": None, "decision": decision, **run, **more}

    def _parts(self, prepared: pa.Table) -> Iterator[tuple[pa.Table, list[dict[str, int]]]]:
        """Records to explain together, whose copies are in memory at once, and the number of tokens and windows of each."""
        tokens, windows = self.explained.sizes(prepared)
        budget = 1 if self.options.deterministic else self.settings.tokens_per_pass
        for members in token_budget_batches(np.maximum(tokens, 1), np.ones_like(tokens), budget):
            sizes = [{"n_tokens": int(tokens[member]), "n_windows": int(windows[member])} for member in members]
            yield prepared.take(pa.array(members)).combine_chunks(), sizes

    def _explain(self, part: pa.Table, sizes: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
        from engine.explain.explain import explained, work_for

        names = part["record_id"].to_pylist()
        shares = {"faithfulness": self.options.faithfulness, "stability": self.options.stability}
        measured = {what: [in_share(name, share, what, self.settings.seed) for name in names] for what, share in shares.items()}
        groups = self.explained.groups(part, self.settings)
        works = [work_for(group.model, group.batch, group.targets, self.settings, self._units(part, group)) for group in groups]
        explanations = [list(explained(work, self.options.method)) for work in works]
        self._add_checks(groups, works, explanations, measured)
        targets: list[list[dict[str, Any]]] = [[] for _ in names]
        for group, work, of_group in zip(groups, works, explanations, strict=True):
            for row, target in zip(group.rows, self._targets(group, work, of_group, names), strict=True):
                targets[row].append(target)
        meta = part.select([name for name in _META if name in part.column_names]).to_pylist()
        return [
            self._row(
                decision=AUTO if all(target["status"] == OK for target in of_record) else REVIEW,
                faithfulness_sampled=measured["faithfulness"][index],
                stability_sampled=measured["stability"][index],
                targets=of_record,
                **about,
                **sizes[index],
            )
            for index, (about, of_record) in enumerate(zip(meta, targets, strict=True))
        ]

    def _units(self, part: pa.Table, group: Group) -> Sequence[Units]:
        units = group.model.units(group.batch)
        if not self._by_sentence:
            return units
        start, end = (list_values(part[name]) for name in ("sentence_start", "sentence_end"))
        return [words.merged("sentence", start[row], end[row]) for words, row in zip(units, group.rows, strict=True)]

    def _targets(
        self, group: Group, work: "Work", explanations: Sequence["Explanation"], names: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """The values of a group's targets, record by record."""
        options = self.options
        for row, explanation, own, units in zip(group.rows, explanations, group.own, work.units, strict=True):
            if group.chosen and not own and explanation.target is not None:
                explanation = replace(explanation, target=replace(explanation.target, source="counterfactual"))
            value = target_row(names[row], explanation, spans=options.spans, max_units=options.max_units, spoken=units.spoken)
            if not group.chosen and not own and value["status"] == OK:
                value["status"] = OTHER_ANSWER
            yield value

    def _add_checks(
        self,
        groups: Sequence[Group],
        works: "Sequence[Work]",
        explanations: list[list["Explanation"]],
        measured: Mapping[str, Sequence[bool]],
    ) -> None:
        """Adds the measures by erasure and by changed copies to each group's explanations, for the records `measured` by them."""
        from engine.explain.boundary import boundary_checks, shift_margins
        from engine.explain.explain import explained
        from engine.explain.faithfulness import faithfulness, references
        from engine.explain.stability import perturbed, stability

        # The places in the groups' batches, which all groups share.
        rows = groups[0].rows if groups else ()
        members = [place for place, row in enumerate(rows) if measured["faithfulness"][row]]
        if members:
            parts = [work.only(members) for work in works]
            for part, shared, of_group in zip(parts, references(parts, self.measures), explanations, strict=True):
                faithful = faithfulness(part, [of_group[member] for member in members], self.measures, shared)
                margins = shift_margins(part)
                for place, member in enumerate(members):
                    checks = {} if faithful[place] is None else faithful[place].checks()
                    checks |= boundary_checks(part, place, of_group[member]) | {"shift_margin": margins[place]}
                    of_group[member] = of_group[member].checked(checks)
        members = [place for place, row in enumerate(rows) if measured["stability"][row]]
        for work, of_group in zip(works, explanations, strict=True) if members else ():
            part = work.only(members)
            values = stability(part, self.options.method, [of_group[m] for m in members], perturbed(part), explained)
            for member, value in zip(members, values, strict=True):
                of_group[member] = of_group[member].checked(value.checks())


def _unfit(answer: Mapping[str, Any] | None, text: str | None) -> dict[str, str] | None:
    """Why a record cannot be explained, None if it can; images are compared once they are read."""
    if answer is None:
        return {"kind": "not_coded", "detail": "the run has no such record"}
    if answer["decision"] == FAILED:
        return {"kind": "not_coded", "detail": "failed in the run"}
    return None if text is None or answer["text_sha256"] == text_digest(text) else _CHANGED


def _changed(answer: Mapping[str, Any], images: pa.ListScalar) -> dict[str, str] | None:
    """The failure of a record whose images, if it was prepared, are not those of the run."""
    if not images.is_valid:
        return None
    return None if images.values.field("sha256").to_pylist() == [image["sha256"] for image in answer[IMAGES]] else _CHANGED


def load(spec: ModelSpec) -> Explanations:
    """The system that a spec describes; `runtime["answers"]` names the files of the finished run's table."""
    options = options_from(ExplainOptions, spec.options)
    reading = {**options.options, "precision": options.precision, "deterministic": options.deterministic}
    system = load_explained(ModelSpec(options.of, spec.path, reading, spec.runtime), options.tasks, options.targets)
    return Explanations(system, options, spec.runtime)
