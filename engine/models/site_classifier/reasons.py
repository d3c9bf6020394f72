"""Reasons for review that rules tell, beside the model: from the words of a report, and from codes that contradict each other."""

from collections.abc import Collection, Mapping

from engine.registry.validity import impossible
from engine.registry.wording import SIGNS

INVALID_PAIR = "site_morphology_invalid"
RULES = (*SIGNS, INVALID_PAIR)


def told_by_rules(signs: Collection[str], codes: Mapping[str, str], rules: Collection[str]) -> set[str]:
    """The reasons among `rules` that hold for a report.

    Args:
        signs: those of `engine.registry.wording.wording` that its text has.
        codes: its code for each task whose answer is more sure than not. The tasks `site` and `histology` are looked at.
        rules: a part of `RULES`.
    """
    found = set(signs)
    if impossible(codes.get("site", ""), codes.get("histology", "")):
        found.add(INVALID_PAIR)
    return found & set(rules)
