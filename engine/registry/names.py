"""What the codes of a task mean, in short names of our own."""

from engine.registry._table import table

_TABLES = {"site": "topography.csv", "histology": "morphology.csv"}


def code_name(task: str, code: str | None) -> str | None:
    """The short name of a code; of several that `;` joins the names, joined by `; `.

    None where there is no code, where one of them has no name here, and for a task that is neither `site` nor `histology`: its
    codes are the user's own and may look like others.
    """
    if not code or task not in _TABLES:
        return None
    names = table(_TABLES[task])
    codes = code.split(";")
    return "; ".join(names[each] for each in codes) if all(each in names for each in codes) else None
