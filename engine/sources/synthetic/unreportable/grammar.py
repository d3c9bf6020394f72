"""The grammar of these texts: symbols in the JSON files beside this one, which share one namespace."""

import json
from functools import cache
from importlib import resources

from engine.sources.synthetic import grammar
from engine.sources.synthetic.grammar import Nodes, Symbols, compile_symbols

# `cases.json` has the symbols of each case; the other files have symbols for any text.
CASES, KINDS_FILE = "cases.json", "kinds.json"


class Writer(grammar.Writer):
    """Writes one text with the symbols of all files."""

    def options(self, name: str) -> tuple[Nodes, ...]:
        return self.case.get(name) or symbols()[name]


@cache
def symbols() -> Symbols:
    """The shared symbols of all files."""
    shared: Symbols = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda each: each.name):
        if file.name.endswith(".json") and file.name not in (CASES, KINDS_FILE):
            shared |= compile_symbols(json.loads(file.read_text(encoding="utf-8")))
    return shared


@cache
def cases() -> dict[str, tuple[Symbols, ...]]:
    """Groups of cases, each with its symbols. The variants of a case replace some of them."""
    merged = {
        group: [{**case, **variant} for case in members for variant in case.pop("variants", ({},))]
        for group, members in read(CASES).items()
    }
    return {group: tuple(map(compile_symbols, members)) for group, members in merged.items()}


def read(name: str) -> dict:
    return json.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
