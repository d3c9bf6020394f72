"""The 70 three-character topography categories of ICD-O-3, with short names of our own.

Codes follow ICD-O-3 (C00 to C80 without C27-29, C35, C36, C43, C45, C46, C59, C78, C79). The names are ours and no part of
the classification: they label a table or a page and decide nothing.
"""

from engine.registry._table import table


def sites() -> tuple[str, ...]:
    """The 70 categories, in order of code."""
    return tuple(table("topography.csv"))


def is_site(code: str) -> bool:
    """Whether this is one of the 70 categories, written as `C50`."""
    return code in table("topography.csv")


def site_name(code: str) -> str:
    """The short name of a category; KeyError for anything else."""
    return table("topography.csv")[code]
