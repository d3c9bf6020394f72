"""The 70 three-character topography categories and the morphology codes of ICD-O-3, with short names of our own.

Topography codes follow ICD-O-3 (C00 to C80 without C27-29, C35, C36, C43, C45, C46, C59, C78, C79). The morphologies (`8140/3`)
are those of the synthetic corpus and of the labels of the public pathology reports; a model may know others. The names are ours
and no part of the classification: they label a table or a page and decide nothing.
"""

import csv
from functools import cache
from importlib import resources

_TABLES = {"site": "topography.csv", "histology": "morphology.csv"}


def sites() -> tuple[str, ...]:
    """The 70 categories, in order of code."""
    return tuple(_names("site"))


def is_site(code: str) -> bool:
    """Whether this is one of the 70 categories, written as `C50`."""
    return code in _names("site")


def site_name(code: str) -> str:
    """The short name of a category; KeyError for anything else."""
    return _names("site")[code]


def histologies() -> tuple[str, ...]:
    """The morphologies that have a name here, in order of code."""
    return tuple(_names("histology"))


def histology_name(code: str) -> str:
    """The short name of a morphology, or the code itself if it has none here."""
    return _names("histology").get(code, code)


def code_name(task: str, code: str | None) -> str | None:
    """The short name of a code, or of several joined by `;` the names joined by `; `.

    None without a code, if one of them has no name here, and for a task other than `site` and `histology`, whose codes are the
    user's own and may look like these.
    """
    if not code or task not in _TABLES:
        return None
    names, codes = _names(task), code.split(";")
    return "; ".join(names[each] for each in codes) if all(each in names for each in codes) else None


@cache
def _names(task: str) -> dict[str, str]:
    """Code to short name, in the table's order."""
    with resources.files(__package__).joinpath(_TABLES[task]).open(encoding="utf-8", newline="") as file:
        return {row["code"]: row["name"] for row in csv.DictReader(file)}
