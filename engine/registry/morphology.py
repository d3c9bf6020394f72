"""The ICD-O-3 morphology codes that the engine names (`8140/3`), with short names of our own.

This is no complete list of morphologies: it holds what the synthetic corpus writes and what the public pathology reports are
labelled with. A model may know codes that stand not here; `histology_name` gives those back as they are.
"""

from engine.registry._table import table


def histologies() -> tuple[str, ...]:
    """Every code that has a name here, in order of code."""
    return tuple(table("morphology.csv"))


def histology_name(code: str) -> str:
    """The short name of a morphology, or the code itself where we have none."""
    return table("morphology.csv").get(code, code)
