"""What may differ from the starting commit, each with its reason. Everything that is not named here is a fault."""

from fnmatch import fnmatchcase

# (pattern of `<case>/<file>: <what>` as the report prints it, why)
ALLOWED: tuple[tuple[str, str], ...] = ()


def reason(what: str) -> str | None:
    """Why something may differ; None where it may not."""
    return next((why for pattern, why in ALLOWED if fnmatchcase(what, pattern)), None)
