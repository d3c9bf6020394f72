"""Faithfulness by erasure: how the answer's probability falls when the strongest units are erased, or are all that stays.

Comprehensiveness at k is p(x) - p(x without the strongest k of the units), sufficiency p(x) - p(only those); the area over the
perturbation curve (AOPC) is their mean over the shares k (DeYoung et al. 2020, ERASER, section 4). High comprehensiveness and low
sufficiency are good, compared with units drawn at random. The normalised forms follow Carton et al. 2020 (section 3): 1 is best
for both, and they are missing if the record with everything erased gets the same answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.explain.explanation import OK, Explanation
from engine.explain.passes import Variant, Work, erased
from engine.explain.rows import FAITHFULNESS
from engine.explain.settings import Measures

_NOTHING = 1e-6


@dataclass(frozen=True)
class Reference:
    """What does not depend on the method: the probability of each record [records], whole and fully erased, and the control.

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
        means = map(_mean, (self.comp, self.suff, self.random_comp, self.random_suff))
        return dict(zip(FAITHFULNESS, (*means, self.norm_comp, self.norm_suff), strict=True))


def reference(work: Work, measures: Measures) -> Reference:
    """The part of the measures that all methods share: compute it once and pass it to `faithfulness` for each method."""
    return references([work], measures)[0]


def references(works: Sequence[Work], measures: Measures) -> list[Reference]:
    """`reference` for several targets of the same records, over the same copies: the control is drawn as for the first target."""
    first = works[0]
    whole = erased(works, first.uniform(True), "probability")
    bare = erased(works, first.uniform(False), "probability", measures.erasure)
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
        fall = falls[:, np.asarray(places) == record].mean(1)
        comp[:, record], suff[:, record] = fall[..., 0], fall[..., 1]
    return [Reference(*arrays) for arrays in zip(whole, bare, comp, suff, strict=True)]


def faithfulness(
    work: Work, explanations: Sequence[Explanation], measures: Measures, shared: Reference | None = None
) -> list[Faithfulness | None]:
    """Measures of each record's explanation by erasing its own units; None for one that is not `ok`."""
    shared = reference(work, measures) if shared is None else shared
    members = [record for record, explanation in enumerate(explanations) if explanation.status == OK]
    variants: list[Variant] = []
    for record in members:
        # Units by falling score, ties in the text's order.
        variants += both(record, np.argsort(-explanations[record].score, kind="stable"), measures.shares)
    results: list[Faithfulness | None] = [None] * work.records
    for record, fall in zip(members, _falls([work], variants, shared.whole[None], measures)[0], strict=True):
        comp, suff = fall[:, 0], fall[:, 1]
        norm_comp, norm_suff = normalised(comp, suff, float(shared.whole[record]), float(shared.bare[record]))
        results[record] = Faithfulness(comp, suff, shared.comp[record], shared.suff[record], norm_comp, norm_suff)
    return results


def top_counts(count: int, shares: Sequence[float]) -> list[int]:
    """The number of units in each share: rounded up, at least one."""
    return [min(count, max(1, int(np.ceil(share * count - 1e-9)))) for share in shares]


def both(record: int, order: np.ndarray, shares: Sequence[float]) -> Iterator[Variant]:
    """The copies of a record to query: for each share, the first units erased, then only those kept."""
    for number in top_counts(len(order), shares):
        top = np.zeros(len(order), dtype=bool)
        top[order[:number]] = True
        yield record, ~top
        yield record, top


def normalised(comp: np.ndarray, suff: np.ndarray, whole: float, bare: float) -> tuple[float | None, float | None]:
    """Comprehensiveness and sufficiency [shares] mapped to 0..1 and averaged.

    With n = 1 - max(0, p(x) - p(bare)): NormSuff = (1 - max(0, suff) - n) / (1 - n), NormComp = max(0, comp) / (1 - n).
    """
    null = 1 - max(0.0, whole - bare)
    if not 1 - null >= _NOTHING:
        return None, None
    norm_comp = np.clip(np.maximum(0, comp) / (1 - null), 0, 1)
    norm_suff = np.clip((1 - np.maximum(0, suff) - null) / (1 - null), 0, 1)
    return float(norm_comp.mean()), float(norm_suff.mean())


def _falls(works: Sequence[Work], variants: Sequence[Variant], whole: np.ndarray, measures: Measures) -> np.ndarray:
    """How far the probabilities fall from `whole` [works, records]: [works, calls of `both`, shares, 2]."""
    values = erased(works, variants, "probability", measures.erasure)
    before = whole[:, [record for record, _ in variants]]
    return (before - values).reshape(len(works), -1, len(measures.shares), 2)


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
