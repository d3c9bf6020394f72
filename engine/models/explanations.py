"""The answers of a finished run explained: a system of its own, which makes rows of the `explanations` table for any other.

It reads records as the run's system does, takes from the run's table what was answered, and explains it by one method. A record
that the sample leaves out is `not_applicable`; one whose explanation must not be used as it stands, because a target's status is
not `ok`, is `review`.
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
from engine.explain.settings import METHOD_NAMES, OWN_METHODS, Measures, Settings
from engine.keys import key, options_from, same
from engine.models.answered import Answered, draw
from engine.models.base import ModelSpec
from engine.models.columns import list_values
from engine.models.explained import ASKED, Explained, Group, load_explained
from engine.models.options import SystemOptions, TextOptions
from engine.records import AUTO, FAILED, FAILURE, NOT_APPLICABLE, REVIEW, seed_of, text_digest
from engine.text.units import Units, sentences

if TYPE_CHECKING:
    from engine.explain.explanation import Explanation
    from engine.explain.passes import Work

_INTS = pa.large_list(pa.int32())
_OWN = [pa.field("asked", ASKED), pa.field("sentence_start", _INTS), pa.field("sentence_end", _INTS)]
_SETTINGS = ("baseline", "steps", "samples", "perturbations", "perturb_share", "seed")
_ONE_PASS = 16384
_BUDGET = 4096


@dataclass(frozen=True)
class ExplainOptions(SystemOptions):
    """`of` is the package of the system that answered, `options` are those of its run, and `run` is the run's id. `below` is the
    draw under which a record is in the sample (see `answered.draw`), None for all. `faithfulness` and `stability` choose records
    by id."""

    run: str = ""
    of: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    below: int | None = None
    method: str = key(METHOD_NAMES[0], "How answers are explained; one method a run.", at="explain.method", choices=METHOD_NAMES)
    tasks: tuple[str, ...] = key((), "Tasks to explain, or types of entities; [] is all of the run's.", at="explain.tasks")
    targets: Mapping[str, str] = key(
        {}, "A code to explain in place of the run's answer, such as {site: C50}; not for entities.", at="explain.targets"
    )
    units: str = key(
        "word",
        "What gets a score; lime and kernel_shap take long reports by sentence only.",
        at="explain.units",
        choices=("word", "sentence"),
    )
    spans: int = key(5, "Most selected spans of a target.", at="explain.spans", low=1, high=50)
    max_units: int = key(
        512,
        "Most units kept of a target, the strongest; what they leave is told in weight_dropped.",
        at="explain.max_units",
        low=1,
    )
    faithfulness: float = key(
        0.1,
        "Share of explained records measured by erasing, beside random units; some 60 predictions each.",
        at="explain.faithfulness",
        low=0.0,
        high=1.0,
    )
    stability: float = key(
        0.02,
        "Share of explained records that are explained again as changed copies, to see what stays.",
        at="explain.stability",
        low=0.0,
        high=1.0,
    )
    erasure: str = key(
        "mask",
        "What erasing does to a unit when faithfulness is measured; for entities mask alone.",
        at="explain.erasure",
        choices=("mask", "delete"),
    )
    baseline: str = key("default", "What gradients start from.", at="explain.baseline", choices=("default", "mask", "zero"))
    steps: int = key(50, "Points of integrated gradients.", at="explain.steps", low=1)
    samples: int = key(0, "Copies for lime and kernel_shap; 0 is four for each unit, at least 64.", at="explain.samples", low=0)
    perturbations: int = key(8, "Changed copies for stability and for fused.", at="explain.perturbations", low=1)
    perturb_share: float = key(0.1, "Share of the units that each copy masks.", at="explain.perturb_share", low=0.001, high=0.999)
    seed: int = key(0, "Seed of the sample and of every draw.", at="explain.seed", low=0)
    precision: str = key(
        "fp32",
        "Arithmetic of the encoder; in bf16 gradients are coarse and a close answer may flip.",
        at="cluster.precision",
        choices=("auto", "fp32", "bf16"),
    )
    deterministic: bool = same(TextOptions, "deterministic")

    def settings(self, **more: Any) -> Settings:
        """How explanations are made."""
        return Settings(**{name: getattr(self, name) for name in _SETTINGS}, **more)


class Explanations:
    """See `engine.models.base.System`."""

    table = "explanations"

    def __init__(self, system: Explained, options: ExplainOptions, runtime: Mapping[str, Any]) -> None:
        self.explained = system
        self.digest = system.system.digest
        self.options = options
        known = [method for method in METHOD_NAMES if method not in OWN_METHODS or method in system.own_methods]
        if options.method not in known:
            raise ConfigError(f"explain.method: {system.kind} has no '{options.method}'; it has {', '.join(known)}")
        if options.erasure not in system.erasures:
            raise ConfigError(f"explain.erasure: {system.kind} has no '{options.erasure}'; it has {', '.join(system.erasures)}")
        one_pass = _ONE_PASS if options.deterministic else int(runtime.get("batch_tokens", _BUDGET))
        self.settings = options.settings(tokens_per_pass=one_pass)
        self.measures = Measures(erasure=options.erasure)
        self.answered = Answered(runtime.get("answers", ()), system.columns)

    @property
    def _by_sentence(self) -> bool:
        return self.options.units == "sentence"

    def fields(self) -> list[pa.Field]:
        return explanations_fields()

    def limits(self) -> dict[str, str]:
        return {}

    def prepare(self, records: pa.Table) -> pa.Table:
        """As the run's system does, for records of the sample; the others come back without anything of it.

        A record that the run has no answer for is `not_coded`, one whose text is not the one that was coded `text_changed`.
        """
        answers = self.answered.of(records)
        names, texts = records["record_id"].to_pylist(), records["text"].to_pylist()
        failures = [_unfit(answers.get(name), text) for name, text in zip(names, texts, strict=True)]
        wanted = np.array(
            [failure is not None or self._sampled(name) for name, failure in zip(names, failures, strict=True)], dtype=bool
        )
        # A record that is unfit has its tokens all the same: the pipeline's made-up one must get as far as the model.
        tokens = self.explained.system.prepare(records.filter(pa.array(wanted)))
        rest, schema = records.filter(pa.array(~wanted)).select(["row", "record_id"]), tokens.schema
        blank = [rest[n] if n in rest.column_names else pa.nulls(len(rest), schema.field(n).type) for n in schema.names]
        table = pa.concat_tables([tokens, pa.Table.from_arrays(blank, schema=schema)])
        place = {row: index for index, row in enumerate(records["row"].to_pylist())}
        order = [place[row] for row in table["row"].to_pylist()]
        known = [failures[index] or old for index, old in zip(order, table["failure"].to_pylist(), strict=True)]
        table = table.set_column(schema.names.index("failure"), schema.field("failure"), pa.array(known, FAILURE))
        asked = [self.explained.asked(_answer(answers.get(names[index]))) if wanted[index] else None for index in order]
        bounds = [sentences(texts[index]) if self._by_sentence and wanted[index] else None for index in order]
        own = [asked, *([None if each is None else each[end].tolist() for each in bounds] for end in (0, 1))]
        for column, values in zip(_OWN, own, strict=True):
            table = table.append_column(column, pa.array(values, column.type))
        return table

    def run(self, prepared: pa.Table) -> pa.Table:
        schema = pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        inside = prepared["asked"].is_valid()
        rows = [self._row(row, NOT_APPLICABLE) for row in prepared.filter(pc.invert(inside))["row"].to_pylist()]
        chosen = prepared.filter(inside)
        for part, sizes in self._parts(chosen):
            rows += self._explained(part, sizes)
        return pa.Table.from_pylist(rows, schema=schema)

    def _sampled(self, record_id: str) -> bool:
        return self.options.below is None or draw(record_id, self.settings.seed) < self.options.below

    def _measured(self, record_id: str, what: str, share: float) -> bool:
        return seed_of(record_id, what, self.settings.seed) < share * 2**63

    def _row(self, row: int, decision: str, **more: Any) -> dict[str, Any]:
        same = {"method": self.options.method, "coded_run": self.options.run}
        return {"row": row, "failure": None, "decision": decision, **same, **more}

    def _parts(self, chosen: pa.Table) -> Iterator[tuple[pa.Table, list[dict[str, int]]]]:
        """Records that are explained together, for which copies are held at once, and how many tokens and windows each has."""
        tokens, windows = self.explained.sizes(chosen)
        budget = 1 if self.options.deterministic else self.settings.tokens_per_pass
        for members in token_budget_batches(np.maximum(tokens, 1), np.ones_like(tokens), budget):
            sizes = [{"n_tokens": int(tokens[member]), "n_windows": int(windows[member])} for member in members]
            yield chosen.take(pa.array(members)).combine_chunks(), sizes

    def _explained(self, part: pa.Table, sizes: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
        from engine.explain.explain import explained, work_for

        names = part["record_id"].to_pylist()
        share = {"faithfulness": self.options.faithfulness, "stability": self.options.stability}
        measured = {what: [self._measured(name, what, part_of) for name in names] for what, part_of in share.items()}
        groups = self.explained.groups(part, self.settings)
        works = [work_for(group.model, group.batch, group.targets, self.settings, self._units(part, group)) for group in groups]
        found = self._checked(groups, works, [explained(work, self.options.method) for work in works], measured)
        targets: list[list[dict[str, Any]]] = [[] for _ in names]
        for group, work, mine in zip(groups, works, found, strict=True):
            for row, target in zip(group.rows, self._targets(group, work, mine, names), strict=True):
                targets[row].append(target)
        meta = part.select(["row", "text_sha256", "truncated_chars"]).to_pylist()
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
        return [each.merged("sentence", start[row], end[row]) for each, row in zip(units, group.rows, strict=True)]

    def _targets(
        self, group: Group, work: "Work", found: Sequence["Explanation"], names: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """A group's values in the rows of its records."""
        options = self.options
        for row, explanation, own, of in zip(group.rows, found, group.own, work.units, strict=True):
            if group.chosen and not own and explanation.target is not None:
                explanation = replace(explanation, target=replace(explanation.target, source="counterfactual"))
            value = target_row(names[row], explanation, spans=options.spans, max_units=options.max_units, spoken=of.spoken)
            if not group.chosen and not own and value["status"] == OK:
                value["status"] = OTHER_ANSWER
            yield value

    def _checked(
        self,
        groups: Sequence[Group],
        works: "Sequence[Work]",
        found: Sequence[Sequence["Explanation"]],
        measured: Mapping[str, Sequence[bool]],
    ) -> list[list["Explanation"]]:
        """Each group's explanations with what erasure and changed copies say of them, for the records chosen for it."""
        from engine.explain.boundary import boundary_checks, shift_margins
        from engine.explain.explain import explained
        from engine.explain.faithfulness import faithfulness, references
        from engine.explain.stability import perturbed, stability

        known = [list(each) for each in found]
        members = _chosen(groups, measured["faithfulness"])
        if members:
            some = [work.only(members) for work in works]
            for work, shared, mine in zip(some, references(some, self.measures), known, strict=True):
                faithful, margins = faithfulness(work, [mine[m] for m in members], self.measures, shared), shift_margins(work)
                for place, index in enumerate(members):
                    checks = {} if faithful[place] is None else faithful[place].checks()
                    checks |= boundary_checks(work, place, mine[index]) | {"shift_margin": margins[place]}
                    mine[index] = mine[index].checked(checks)
        members = _chosen(groups, measured["stability"])
        for work, mine in zip(works, known, strict=True) if members else ():
            some = work.only(members)
            steady = stability(some, self.options.method, [mine[m] for m in members], perturbed(some), explained)
            for index, one in zip(members, steady, strict=True):
                mine[index] = mine[index].checked(one.checks())
        return known


def _chosen(groups: Sequence[Group], flags: Sequence[bool]) -> list[int]:
    """The places in the groups' batches of records whose rows are flagged."""
    return [place for place, row in enumerate(groups[0].rows) if flags[row]] if groups else []


def _answer(answer: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if answer is None or answer["decision"] == FAILED else answer


def _unfit(answer: Mapping[str, Any] | None, text: str) -> dict[str, str] | None:
    """Why a record cannot be explained, None if it can."""
    if answer is None:
        return {"kind": "not_coded", "detail": "the run has no such record"}
    if answer["decision"] == FAILED:
        return {"kind": "not_coded", "detail": "failed in the run"}
    if answer["text_sha256"] != text_digest(text):
        return {"kind": "text_changed", "detail": "since the run"}
    return None


def load(spec: ModelSpec) -> Explanations:
    """The system that a spec describes; `runtime["answers"]` are the files of the finished run's table."""
    options = options_from(ExplainOptions, spec.options)
    reading = {**options.options, "precision": options.precision, "deterministic": options.deterministic}
    system = load_explained(ModelSpec(options.of, spec.path, reading, spec.runtime), options.tasks, options.targets)
    return Explanations(system, options, spec.runtime)
