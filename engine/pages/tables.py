"""Tables that stay readable on a narrow screen, where each row becomes a card and each cell carries its column's name."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import ContractError
from engine.pages.highlight import shown


@dataclass(frozen=True)
class Column:
    """A column with its name (plain text); cells of a `number` are aligned right, `wide` ones get a whole line of a card."""

    name: str
    number: bool = False
    wide: bool = False

    @property
    def style(self) -> str:
        return ' class="num"' if self.number else ' class="wide"' if self.wide else ""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """The table; a card's title is the first cell of its row.

    Args:
        rows: cells as HTML, one for each column; a card leaves empty ones out.
    Raises:
        ContractError: a row has another length.
    """
    if any(len(row) != len(columns) for row in rows):
        raise ContractError(f"a row does not have {len(columns)} cells")
    heads = "".join(f"<th{column.style}>{shown(column.name)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(map(_cell, range(len(row)), columns, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table class="stack"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def _cell(at: int, column: Column, content: str) -> str:
    label = f' data-label="{shown(column.name)}"' if at else ""
    return f"<td{column.style}{label}>{content}</td>"
