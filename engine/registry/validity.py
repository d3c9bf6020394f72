"""Impossible pairs of site and histology: a rule check of a model's answer.

Two kinds of cautious rules of our own:

* `validity.csv`: ranges of histologies that arise in some organs only, such as tumours of liver cells;
* marrow (C42) and lymph nodes (C77) have tumours of blood and lymph only: a carcinoma there came from elsewhere.

Most pairs are under no rule, and a pair that passes may still be wrong. A registry with the official list of its year, such as
the Cancer PathCHART tables, should check its codes with that.
"""

import csv
import re
from functools import cache
from importlib import resources

from engine.registry.names import is_site

_BLOOD_AND_LYMPH_SITES = ("C42", "C77")
_UNKNOWN = ("C76", "C80")
# Not named after a tissue, so possible in any organ.
_UNSPECIFIC = range(8000, 8006)
_BLOOD_AND_LYMPH = range(9590, 9994)
_MORPHOLOGY = re.compile(r"(\d{4})/\d")


def impossible(site: str, histology: str) -> bool:
    """Whether a site (`C50`) and a histology (`8500/3`) contradict each other; False for other codes."""
    number = _MORPHOLOGY.fullmatch(histology)
    if number is None or not is_site(site) or site in _UNKNOWN:
        return False
    code = int(number[1])
    if site in _BLOOD_AND_LYMPH_SITES and code not in _BLOOD_AND_LYMPH and code not in _UNSPECIFIC:
        return True
    return any(first <= code <= last and site not in sites for first, last, sites in _rules())


@cache
def _rules() -> tuple[tuple[int, int, frozenset[str]], ...]:
    with resources.files(__package__).joinpath("validity.csv").open(encoding="utf-8", newline="") as file:
        return tuple((int(row["first"]), int(row["last"]), frozenset(row["sites"].split())) for row in csv.DictReader(file))
