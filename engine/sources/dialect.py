"""Quotes, delimiters and escapes of a CSV file: the patterns that find records, and the values of a record."""

import re
from functools import lru_cache
from typing import NamedTuple

from engine.errors import RowError


class Dialect(NamedTuple):
    """How a CSV file marks its fields. Without `quoting` a quote is a character like any other."""

    delimiter: bytes
    quoting: bool = True
    escape: bytes = b""


class Grammar(NamedTuple):
    """Patterns of a dialect. Every repetition is possessive, so a match takes time proportional to the record.

    whole: a record with its line end; a quote within an unquoted field is a character.
    torn: a record up to a closing quote that is followed by something wrong.
    strict: a record, or its beginning up to a quote within an unquoted field.
    right: a record with the right number of fields and no quote within an unquoted field.
    tame: a record in which a quote within an unquoted field is followed by more text, or closes one that is.
    proof: a quote that can only open a field or only close one, so that a reader out of step stumbles over it.
    value: a field with the delimiter or line end; groups: the inside of quotes, blanks after them, an unquoted field.
    doubled, escaped: two characters that stand for one, inside quotes and outside.
    """

    whole: re.Pattern[bytes]
    torn: re.Pattern[bytes]
    strict: re.Pattern[bytes]
    right: re.Pattern[bytes]
    tame: re.Pattern[bytes]
    proof: re.Pattern[bytes]
    value: re.Pattern[str]
    doubled: re.Pattern[str]
    escaped: re.Pattern[str]


@lru_cache
def grammar(dialect: Dialect, columns: int = 1) -> Grammar:
    """The patterns of a dialect; the right number of fields is `columns`."""
    delimiter, escape = re.escape(dialect.delimiter), re.escape(dialect.escape)
    ends = rb"\r\n" + delimiter
    other = rb'[^"' + ends + escape + rb"]"
    pair = rb"|" + escape + rb"(?:\r\n|.)" if escape else b""
    blanks = b"" if dialect.delimiter == b" " else rb"[ ]*+"
    line_end = rb"(?:\r\n|\n|\r)"
    inside = rb'(?:[^"' + escape + rb']++|""' + pair + rb")*+"
    any_plain = rb"(?:[^" + ends + escape + rb"]++" + pair + rb")"
    if dialect.quoting:
        open_, close = rb'"', rb'"'
        loose = rb"(?:" + other + pair + rb")" + any_plain + rb"*+"
        strict = rb"(?:" + other + rb"++" + pair + rb")++"
    else:
        open_, close = rb"(?!)", b""
        loose = strict = any_plain + rb"++"
    quoted = open_ + inside + close + blanks
    tame = other + rb'++(?:(?:"' + other + rb'++)++"?+)?+'

    def fields(plain: bytes, times: bytes = b"*+") -> bytes:
        return rb"(?:(?:" + quoted + rb"|" + plain + rb"|)" + delimiter + rb")" + times

    def record(plain: bytes, times: bytes = b"*+") -> bytes:
        return fields(plain, times) + rb"(?:" + quoted + rb"|" + plain + rb"|)"

    def compiled(pattern: bytes) -> re.Pattern[bytes]:
        return re.compile(pattern, re.DOTALL)

    opening = rb"(?:\A|" + delimiter + rb')"(?=' + blanks + rb'[^" ' + ends + rb"])"
    closing = rb"(?<=" + other + rb')"(?=' + blanks + rb"(?:[" + ends + rb"]|\Z))"
    value = open_ + rb"(" + inside + rb")" + close + rb"(" + blanks + rb")|(" + loose + rb"|)"
    special = rb"[\"" + ends + escape + rb"]"
    return Grammar(
        whole=compiled(record(loose) + rb"(" + line_end + rb")"),
        torn=compiled(fields(loose) + quoted + rb"[^" + ends + rb"]"),
        strict=compiled(record(strict) + line_end + rb"?+"),
        right=compiled(record(strict, b"{%d}+" % (columns - 1)) + line_end),
        tame=compiled(record(tame) + line_end),
        proof=compiled(opening + rb"|" + closing),
        value=re.compile((rb"(?:" + value + rb")(?:" + delimiter + rb"|" + line_end + rb")").decode(), re.DOTALL),
        doubled=re.compile((rb'"(")|' + escape + rb"(" + special + rb")").decode()),
        escaped=re.compile((escape + rb"(" + special + rb")").decode()),
    )


def split(text: str, dialect: Dialect) -> list[str]:
    """The values of one whole, decoded record, without quotes and escapes.

    An escape before an ordinary character stands for itself, since texts hold paths.

    Raises:
        RowError: decoding has changed the record's quotes and line ends.
    """
    escape = dialect.escape.decode()
    escapes = bool(escape) and escape in text
    if not escapes and not (dialect.quoting and '"' in text):
        return text.rstrip("\r\n").split(dialect.delimiter.decode())
    marks = grammar(dialect)
    values, end = [], 0
    for match in marks.value.finditer(text):
        if match.start() != end:
            break
        quoted, blanks, value = match.groups()
        if quoted is not None:
            value = (marks.doubled.sub(r"\1\2", quoted) if escapes else quoted.replace('""', '"')) + blanks
        elif escapes:
            value = marks.escaped.sub(r"\1", value)
        values.append(value)
        end = match.end()
    if end != len(text):
        raise RowError("parse_error", "quote")
    return values
