"""Reads the code tables that stand beside this file: two columns, code and our own short name."""

import csv
from functools import cache
from importlib import resources
from types import MappingProxyType


@cache
def table(name: str) -> MappingProxyType[str, str]:
    """Code to short name, in the table's order."""
    with resources.files(__package__).joinpath(name).open(encoding="utf-8", newline="") as file:
        return MappingProxyType({row["code"]: row["name"] for row in csv.DictReader(file)})
