"""Texts from a grammar: symbols with alternatives.

    {name}      one of the alternatives of a symbol; {Name} begins it with a capital
    {=name}     the same alternative throughout a record
    {a|b|}      one of these; they may hold slots themselves
    {3-60}      a number; {0.3-2.5} with decimals, {01-28} with leading zeros
    {#6}        six digits
    {name*2-4}  two to four different alternatives, a line each; {name+2-4} in one line, {name、2-4} as a Chinese list
    {lb} {rb}   the braces themselves

The symbols of a case take precedence over the shared ones.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

# Text, or a function that writes it.
Node = str | Callable[["Writer"], str]
Nodes = tuple[Node, ...]
# The alternatives of each symbol.
Symbols = dict[str, tuple[Nodes, ...]]

_NUMBER = re.compile(r"(\d+)(?:\.(\d+))?-(\d+)(?:\.(\d+))?")
_REPEATED = re.compile(r"(\w+)([*+、])(\d+)-(\d+)")
_BETWEEN = {"*": "\n", "+": " ", "、": "、"}
_LETTERS = {"lb": "{", "rb": "}"}


@dataclass
class Writer:
    """Writes one text. `case` are the symbols of its case, `fixed` those written as `{=name}`, `shared` the symbols of all."""

    rng: random.Random
    case: Symbols = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    shared: Symbols = field(default_factory=dict)

    def pick(self, options):
        """One of a sequence, evenly."""
        return options[int(self.rng.random() * len(options))]

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.rng.random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def write(self, nodes: Nodes) -> str:
        return "".join([node if node.__class__ is str else node(self) for node in nodes])

    def symbol(self, name: str) -> str:
        return self.write(self.pick(self.options(name)))

    def same(self, name: str) -> str:
        """The text of the symbol when this was first called."""
        if name not in self.fixed:
            self.fixed[name] = self.symbol(name)
        return self.fixed[name]

    def options(self, name: str) -> tuple[Nodes, ...]:
        """The alternatives of a symbol; KeyError if there is none."""
        return self.case.get(name) or self.shared[name]


def compile_symbols(raw: dict[str, list[str]]) -> Symbols:
    return {name: tuple(map(compile_text, texts)) for name, texts in raw.items()}


def compile_text(text: str) -> Nodes:
    """ValueError for a brace without its partner."""
    nodes, at = [], 0
    while (start := text.find("{", at)) >= 0:
        end = _closing(text, start)
        nodes += [text[at:start], _slot(text[start + 1 : end])]
        at = end + 1
    return tuple(node for node in (*nodes, text[at:]) if node != "")


def _closing(text: str, start: int) -> int:
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if not depth:
            return at
    raise ValueError(f"a brace is never closed: {text}")


def _slot(inner: str) -> Node:
    options = _choices(inner)
    if len(options) > 1:
        compiled = tuple(map(compile_text, options))
        return lambda writer: writer.write(writer.pick(compiled))
    if inner in _LETTERS:
        return _LETTERS[inner]
    if inner.startswith("#"):
        size = int(inner[1:])
        return lambda writer: f"{int(writer.rng.random() * 10**size):0{size}d}"
    if number := _NUMBER.fullmatch(inner):
        return _number(*number.groups())
    if repeated := _REPEATED.fullmatch(inner):
        return _repeated(*repeated.groups())
    fixed, name = inner.startswith("="), inner.removeprefix("=")
    small = name[0].lower() + name[1:]

    def look_up(writer: Writer) -> str:
        text = writer.same(small) if fixed else writer.symbol(small)
        return capital(text) if small != name else text

    return look_up


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _choices(inner: str) -> list[str]:
    """The alternatives that the outermost bars separate."""
    parts, depth = [""], 0
    for letter in inner:
        depth += (letter == "{") - (letter == "}")
        if letter == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _number(low: str, low_decimals: str | None, high: str, high_decimals: str | None) -> Callable[[Writer], str]:
    places = len(high_decimals or low_decimals or "")
    least, most = (
        round(float(f"{whole}.{part or 0}") * 10**places) for whole, part in ((low, low_decimals), (high, high_decimals))
    )
    width = len(low) if low.startswith("0") and len(low) > 1 else 0
    if places:
        return lambda writer: f"{writer.between(least, most) / 10**places:.{places}f}"
    return lambda writer: f"{writer.between(least, most):0{width}d}"


def _repeated(name: str, sign: str, low: str, high: str) -> Callable[[Writer], str]:
    between, least, most = _BETWEEN[sign], int(low), int(high)

    def several(writer: Writer) -> str:
        options = writer.options(name)
        chosen = writer.rng.sample(options, min(writer.between(least, most), len(options)))
        return between.join(map(writer.write, chosen))

    return several
