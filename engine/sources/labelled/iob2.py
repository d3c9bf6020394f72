"""IOB2: a tag a token, `B-<type>` at a mention's first token, `I-<type>` inside it, `O` outside.

The text is the tokens joined with one blank, so that offsets are exact; the original spacing is not known.
Source of the scheme: Tjong Kim Sang and Veenstra, Representing Text Chunks (EACL 1999), section 2.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from engine.errors import RowError
from engine.sources.labelled.documents import Document, Span

_START = "-DOCSTART-"


def document(record_id: str, tokens: Sequence[str | None], tags: Sequence[str | None], **facts: str | None) -> Document:
    """One sentence or text from its tokens and tags; broken where the tags are not IOB2."""
    try:
        text, spans = join(tokens, tags)
    except RowError as error:
        return Document(record_id, "", broken=error.detail, **facts)
    return Document(record_id, text, spans, **facts)


def join(tokens: Sequence[str | None], tags: Sequence[str | None]) -> tuple[str, tuple[Span, ...]]:
    """The text, and the spans that the tags mark.

    Raises:
        RowError: tags that are not IOB2, an empty token, or not a tag for each token.
    """
    if len(tokens) != len(tags):
        raise RowError("parse_error", f"iob2: {len(tags)} tags for {len(tokens)} tokens")
    open_type, start, at, spans = None, 0, 0, []
    for number, (token, tag) in enumerate(zip(tokens, tags, strict=True), 1):
        if not token:
            raise RowError("parse_error", f"iob2: token {number} is empty")
        mark, dash, kind = (tag or "").partition("-")
        if not (tag == "O" or (mark in ("B", "I") and dash and kind)):
            raise RowError("parse_error", f"iob2: the tag of token {number} is none of O, B-<type>, I-<type>")
        if mark == "I" and kind != open_type:
            raise RowError("parse_error", f"iob2: token {number} continues a mention that did not begin (I- without B-)")
        if open_type is not None and mark != "I":
            spans.append(Span(start, at - 1, open_type))
            open_type = None
        if mark == "B":
            open_type, start = kind, at
        at += len(token) + 1
    if open_type is not None:
        spans.append(Span(start, at - 1, open_type))
    return " ".join(token for token in tokens if token), tuple(spans)


def read(text: str, prefix: str, **facts: str | None) -> Iterator[Document]:
    """The sentences of a file with two columns, token and tag, and empty lines between sentences; `prefix` begins their ids.

    Columns are separated by a tab, or by blanks in a file without tabs. Of more than two columns, the first is the token and the
    last the tag.
    """
    tabbed = "\t" in text
    number = 0
    for empty, block in groupby((line.rstrip("\r") for line in text.split("\n")), key=lambda line: not line.strip()):
        lines = [] if empty else [_columns(line, tabbed) for line in block if not line.startswith(_START)]
        if not lines:
            continue
        record_id, number = f"{prefix}:{number}", number + 1
        short = sum(len(line) < 2 for line in lines)
        if short:
            yield Document(record_id, "", broken=f"iob2: {short} of {len(lines)} lines have no two columns", **facts)
        else:
            yield document(record_id, [line[0] for line in lines], [line[-1].strip() for line in lines], **facts)


def _columns(line: str, tabbed: bool) -> list[str]:
    # str.split() would also split a token at a no-break blank, as in a dose.
    return line.split("\t") if tabbed else [column for column in line.split(" ") if column]
