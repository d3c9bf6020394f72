"""From texts that a user marked to a revision with thresholds of its own, and what it shows of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation.calibration import cross_fitted
from engine.evaluation.spans import ALL, Mention, SpanFigures, measure
from engine.models.base import Say
from engine.models.columns import list_values
from engine.models.prompt_mrc import Extractor
from engine.models.prompt_mrc.calibrate import ENOUGH, LEAST, Data, Settings
from engine.models.prompt_mrc.checkpoint import DECODING
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate
from engine.models.prompt_mrc.instances import marked
from engine.models.prompt_mrc.scores import candidates_of, prepared
from engine.models.prompt_mrc.tuning import Gold, best, settled
from engine.models.revision import Revision
from engine.models.tokens import WORDS
from engine.sources.labelled import GoldSpans, Labelled, read_spans
from engine.text.tokens import TokenizedText

_FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Sample:
    """Marked texts, each known by its place: in characters as they were `marked`, of the model's types alone, and by `known` the
    types that anybody looked for there. Texts of one `group` are alike and held out together."""

    ids: Sequence[str]
    texts: Sequence[str]
    marked: Sequence[Sequence[Mention]]
    known: Sequence[frozenset[str]]
    groups: Sequence[str]

    @property
    def mentions(self) -> int:
        return sum(map(len, self.marked))


@dataclass(frozen=True)
class Scored:
    """The product's scores of a sample, and its marked spans in words."""

    sample: Sample
    types: Sequence[str]
    scores: pa.Table
    gold: Gold

    def keeps(self, one: Candidate) -> bool:
        """Whether anybody looked for a span's type in its text."""
        return self.types[one.type] in self.sample.known[one.text]

    def tuned(self, decoding: Decoding, tagger: bool, rows: NDArray) -> Decoding:
        """The best thresholds for some texts."""
        here = set(rows.tolist())
        gold = {each for each in self.gold if each[0] in here}
        return best(self._of(rows), self.types, gold, decoding, tagger, self.keeps)[0]

    def found(self, decoding: Decoding, rows: NDArray) -> list[list[Mention]]:
        """What thresholds find in some texts, in characters."""
        scores, spans = self._of(rows), {}
        for row, some in zip(scores["row"].to_pylist(), scores["candidates"].to_pylist(), strict=True):
            spans |= {(row, each["first"], each["last"]): (each["start"], each["end"]) for each in some}
        per_text: dict[int, list[Mention]] = {row: [] for row in rows.tolist()}
        for each in settled(candidates_of(scores, self.types, decoding.outside), decoding):
            if self.keeps(each):
                per_text[each.text].append((*spans[each.text, each.first, each.last], self.types[each.type]))
        return list(per_text.values())

    def figures(self, found: Sequence[Sequence[Mention]]) -> SpanFigures:
        """Found mentions of all texts against the marked ones."""
        names = [str(number) for number in range(len(found))]
        groups = dict(zip(names, self.sample.groups, strict=True))
        gold, said = (dict(zip(names, each, strict=True)) for each in (self.sample.marked, found))
        return measure(gold, said, groups=groups)

    def _of(self, rows: NDArray) -> pa.Table:
        return self.scores.filter(pc.is_in(self.scores["row"], pa.array(rows, pa.int32())))


def revise(system: Extractor, settings: Settings, say: Say, tell: Say) -> Revision:
    """See `engine.models.revision.calibrate`.

    Raises:
        ConfigError: the marked texts cannot be used or are too few.
    """
    checkpoint, tagger = system.checkpoint, system.config.is_tagger
    sample, lines = sample_of(settings.data, system.names)
    _require(sample)
    scored = scores_of(system, sample, say)
    every, folds = np.arange(len(sample.ids)), min(settings.folds, len(set(sample.groups)))
    say(f"tuning thresholds on {len(every):,} texts, and in {folds} parts")

    def tuned(rows: NDArray) -> Decoding:
        return scored.tuned(checkpoint.decoding, tagger, rows)

    decoding = tuned(every)
    before = scored.figures(scored.found(checkpoint.decoding, every))
    after = scored.figures(cross_fitted(tuned, scored.found, sample.groups, folds))
    told = _told(before, after, checkpoint.decoding, decoding, tagger)
    tell(f"{len(every):,} texts with {sample.mentions:,} marked mentions of the model's types.")
    tell("before: what the checkpoint's own thresholds find in them. after: what new ones do, fitted without each text.")
    tell("\n".join([*lines, *told]))
    figures = {
        "sample": {"texts": len(every), "mentions": sample.mentions, "folds": folds},
        "before": {name: before[name] for name in _FIGURES},
        "cross_fitted": {name: after[name] for name in _FIGURES},
    }
    about = [
        "whose card follows; what that says of thresholds and of what they find is replaced by this: thresholds of the best",
        "exact F1 on texts that the user marked. `before` and `after` are figures on those, `after` with each text decided by",
        "thresholds that have not seen it.",
    ]
    values = {"decoding": decoding.to_json(), "figures": figures, "revision_of": checkpoint.digest}
    return Revision("the thresholds", about, told, {DECODING: values})


def sample_of(data: Data, types: Sequence[str]) -> tuple[Sample, list[str]]:
    """The marked texts that the settings name, of a model's types alone, and what to tell of the others.

    Raises:
        ConfigError: there is nothing to read, or none of the marked types is one of the model's.
    """
    gold = read_spans(Labelled(data.path, id=data.id), data.split)
    theirs = {name: data.types.get(name, name) for name in gold.types}
    _check_types(data, gold, theirs, types)
    lines = gold.broken.lines()
    strange = [name for name in gold.types if theirs[name] not in types]
    if strange:
        lines.append(f"{', '.join(strange)}: no type of the model, left out.")
    records = gold.records
    per_text = [
        sorted({(span["start"], span["end"], theirs[span["type"]]) for span in spans if theirs[span["type"]] in types})
        for spans in records["spans"].to_pylist()
    ]
    known = [frozenset(theirs[name] for name in gold.marked[each]) for each in records["dataset"].to_pylist()]
    groups = [each.hex() for each in records["text_sha256"].to_pylist()]
    return Sample(records["record_id"].to_pylist(), records["text"].to_pylist(), per_text, known, groups), lines


def scores_of(system: Extractor, sample: Sample, say: Say) -> Scored:
    """What the product makes of a sample, before any threshold."""
    tables, gold, done = [], set(), 0
    for some in prepared(system, sample.ids, sample.texts):
        tables.append(system.scores(some))
        words = zip(*(list_values(some[name]) for name in WORDS), some["truncated_chars"].to_pylist(), strict=True)
        for row, tokens in zip(some["row"].to_pylist(), words, strict=True):
            spans = [{"start": start, "end": end, "type": name} for start, end, name in sample.marked[row]]
            in_words = marked(TokenizedText(*tokens), len(sample.texts[row]), spans, system.names, sample.ids[row]).spans
            gold |= {(row, each.first, each.last, each.type) for each in in_words}
        done += len(some)
        say(f"scored {done:,} of {len(sample.ids):,}")
    return Scored(sample, system.names, pa.concat_tables(tables), gold)


def _check_types(data: Data, gold: GoldSpans, theirs: Mapping[str, str], types: Sequence[str]) -> None:
    for name, other in data.types.items():
        if name not in theirs:
            raise ConfigError(f"data.types: nobody marked a '{name}'; there are {', '.join(gold.types) or 'no marked types'}")
        if other not in types:
            raise ConfigError(f"data.types: the model has no type '{other}'; it has {', '.join(types)}")
    if not set(theirs.values()) & set(types):
        raise ConfigError(
            f"data.path: none of the marked types ({', '.join(gold.types) or 'there are none'}) is one of the model's "
            f"({', '.join(types)}); data.types brings names together"
        )


def _require(sample: Sample) -> None:
    """ConfigError if the marked mentions are too few for any threshold."""
    texts = len({group for group, each in zip(sample.groups, sample.marked, strict=True) if each})
    if sample.mentions < LEAST or texts < 2:
        raise ConfigError(
            f"data.path: {sample.mentions:,} marked mentions of the model's types in {texts:,} different texts: too few. "
            f"Thresholds take at the least {LEAST} in two texts, and {ENOUGH} to be sure; mark more"
        )


def _told(before: SpanFigures, after: SpanFigures, old: Decoding, new: Decoding, tagger: bool) -> list[str]:
    lines = []
    for part in (ALL, *(f"type={name}" for name in before.types if before.marked.get(name))):
        mentions = before.mentions if part == ALL else before.marked[part.removeprefix("type=")]
        lines += [
            f"{'all types' if part == ALL else part.removeprefix('type=')}, {mentions:,} mentions:",
            f"  before              {_effect(before, part)}",
            f"  after, cross-fitted {_effect(after, part)}",
        ]
    names = ("match", "outside") if tagger else ("start", "end", "match")
    lines.append(f"thresholds: {', '.join(f'{name} {getattr(old, name):g} -> {getattr(new, name):g}' for name in names)}")
    if (after["f1"] or 0.0) <= (before["f1"] or 0.0):
        lines.append("On texts that they have not seen new thresholds find no better than the model's own: keep those.")
    if before.mentions < ENOUGH:
        lines.append(f"With fewer than {ENOUGH} mentions all of this is unsure.")
    return lines


def _effect(figures: SpanFigures, part: str) -> str:
    precision, recall, f1 = (figures.values[name, part] for name in _FIGURES)
    between = "" if f1.low is None else f" ({f1.low:.3f} to {f1.high:.3f})"
    return f"exact F1 {_number(f1.value)}{between}, precision {_number(precision.value)}, recall {_number(recall.value)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
