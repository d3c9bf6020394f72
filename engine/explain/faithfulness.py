"""Faithfulness by erasure: what happens to the answer's probability when the strongest units go, or alone stay.

Comprehensiveness at k is p(x) - p(x without the strongest k of the units), sufficiency p(x) - p(only those); the area over the
perturbation curve (AOPC) is their mean over the shares k (DeYoung et al. 2020, ERASER, section 4). High comprehensiveness and low
sufficiency are good, beside the same for units drawn at random. The normalised forms follow Carton et al. 2020 (section 3): 1 is
best for both, and they are missing where the record with everything erased gets the answer anyway.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.explain.explanation import OK, Explanation
from engine.explain.passes import Variant, Work, erased
from engine.explain.settings import Measures

_NOTHING = 1e-6


@dataclass(frozen=True)
class Reference:
    """What does not depend on the method: the probability of each record [records], whole and bare, and the random control.

    `comp` and `suff` [records, shares] are means over the draws; NaN without draws or units.
    """

    whole: np.ndarray
    bare: np.ndarray
    comp: np.ndarray
    suff: np.ndarray


@dataclass(frozen=True)
class Faithfulness:
    """Measures of one explanation: comprehensiveness and sufficiency at each share [shares], and their controls."""

    comp: np.ndarray
    suff: np.ndarray
    random_comp: np.ndarray
    random_suff: np.ndarray
    norm_comp: float | None
    norm_suff: float | None

    def checks(self) -> dict[str, float | None]:
        """Columns of the explanations table."""
        return {
            "comp_aopc": _mean(self.comp),
            "suff_aopc": _mean(self.suff),
            "random_comp": _mean(self.random_comp),
            "random_suff": _mean(self.random_suff),
            "norm_comp": self.norm_comp,
            "norm_suff": self.norm_suff,
        }


def reference(work: Work, measures: Measures) -> Reference:
    """The part of the measures that all methods share; ask once and hand it to `faithfulness` for each method."""
    return references([work], measures)[0]


def references(works: Sequence[Work], measures: Measures) -> list[Reference]:
    """`reference` for several targets of the same records, over the same copies: the control is drawn as for the first target."""
    first = works[0]
    everything = [(record, np.ones(len(units), dtype=bool)) for record, units in enumerate(first.units)]
    nothing = [(record, np.zeros(len(units), dtype=bool)) for record, units in enumerate(first.units)]
    whole, bare = erased(works, everything, "probability"), erased(works, nothing, "probability", measures.erasure)
    shape = (len(works), first.records, len(measures.shares))
    comp, suff = np.full(shape, np.nan), np.full(shape, np.nan)
    variants: list[Variant] = []
    places = []
    for record, units in enumerate(first.units):
        for draw in range(measures.draws if len(units) else 0):
            order = np.random.default_rng(first.seed(record, "control", draw)).permutation(len(units))
            variants += both(record, order, measures.shares)
            places.append(record)
    falls = _falls(works, variants, whole, measures)
    for record in set(places):
        mine = falls[:, np.asarray(places) == record].mean(1)
        comp[:, record], suff[:, record] = mine[..., 0], mine[..., 1]
    return [Reference(*each) for each in zip(whole, bare, comp, suff, strict=True)]


def faithfulness(
    work: Work, explanations: Sequence[Explanation], measures: Measures, shared: Reference | None = None
) -> list[Faithfulness | None]:
    """Measures of each record's explanation by erasing its own units; None for one that is not `ok`."""
    shared = reference(work, measures) if shared is None else shared
    members = [record for record, explanation in enumerate(explanations) if explanation.status == OK]
    variants: list[Variant] = []
    for record in members:
        variants += both(record, ranking(explanations[record], measures.rank), measures.shares)
    found: list[Faithfulness | None] = [None] * work.records
    for record, fall in zip(members, _falls([work], variants, shared.whole[None], measures)[0], strict=True):
        comp, suff = fall[:, 0], fall[:, 1]
        norm_comp, norm_suff = normalised(comp, suff, float(shared.whole[record]), float(shared.bare[record]))
        found[record] = Faithfulness(comp, suff, shared.comp[record], shared.suff[record], norm_comp, norm_suff)
    return found


def ranking(explanation: Explanation, rank: str = "score") -> np.ndarray:
    """Units [n], the strongest first, ties in the text's order."""
    return np.argsort(-(explanation.score if rank == "score" else explanation.weight), kind="stable")


def top_counts(count: int, shares: Sequence[float]) -> list[int]:
    """How many units each share is: rounded up, so that there is at least one."""
    return [min(count, max(1, int(np.ceil(share * count - 1e-9)))) for share in shares]


def both(record: int, order: np.ndarray, shares: Sequence[float]) -> Iterator[Variant]:
    """The copies of a record to ask about: for each share its first units erased, then those alone."""
    for number in top_counts(len(order), shares):
        top = np.zeros(len(order), dtype=bool)
        top[order[:number]] = True
        yield record, ~top
        yield record, top


def normalised(comp: np.ndarray, suff: np.ndarray, whole: float, bare: float) -> tuple[float | None, float | None]:
    """Comprehensiveness and sufficiency [shares] brought to 0..1 and averaged.

    With n = 1 - max(0, p(x) - p(bare)): NormSuff = (1 - max(0, suff) - n) / (1 - n), NormComp = max(0, comp) / (1 - n).
    """
    null = 1 - max(0.0, whole - bare)
    if not 1 - null >= _NOTHING:
        return None, None
    norm_comp = np.clip(np.maximum(0, comp) / (1 - null), 0, 1)
    norm_suff = np.clip((1 - np.maximum(0, suff) - null) / (1 - null), 0, 1)
    return float(norm_comp.mean()), float(norm_suff.mean())


def _falls(works: Sequence[Work], variants: Sequence[Variant], whole: np.ndarray, measures: Measures) -> np.ndarray:
    """How far the probabilities fall from `whole` [works, records], [works, rows of `both`, shares, 2]."""
    values = erased(works, variants, "probability", measures.erasure)
    before = whole[:, [record for record, _ in variants]]
    return (before - values).reshape(len(works), -1, len(measures.shares), 2)


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
