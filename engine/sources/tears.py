"""Which records of a CSV file can be believed once a quote is torn, or the line breaks of a text are not quoted.

A torn quote does not show where it is. The reader has lost count: it takes text for records and records for text, and stumbles
further on, over a quote that can neither open nor close a field where it stands. So records are believed up to the last quote
that proves the count right: one over which a reader who had lost count would have stumbled. What comes after is part of the
tear. A tear ends where a few records in a row bring such proofs, or very many in a row have the right number of fields; else
the rest of the file is lost.

Lines with too few fields that stand close together are pieces of a text with line breaks that are not quoted: a tear as well.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from engine.sources.dialect import Dialect, grammar
from engine.sources.scan import Span, Tear

# So many records with a proof end a tear.
_PROOFS = 3
# So many records in a row with the right number of fields are as good as a proof: no text has so many lines like that.
_ENOUGH = 1000
# Lines with too few fields, with no more records between them, are of one text, which begins no more records before.
_NEAR = 10

WHOLE, FEW, ODD, TORN = "whole", "few", "odd", "torn"


class Verdict(NamedTuple):
    """What a span looks like on its own.

    kind: WHOLE has the right number of fields, FEW has fewer, ODD has more or is too long, TORN has a quote where none can be.
    fields: how many it has; None where they are right or cannot be counted.
    proof: one of its quotes proves that a record begins where it does.
    """

    kind: str
    fields: int | None = None
    proof: bool = False


_WHOLE, _PROOF = Verdict(WHOLE), Verdict(WHOLE, None, True)


class Judge:
    """Judges the spans of one file, in order.

    Where no field is quoted, quotes may stand within a field if they look like inches or stand in pairs around words.
    """

    def __init__(self, dialect: Dialect, columns: int) -> None:
        self.columns = columns
        self._dialect = dialect
        self._marks = grammar(dialect, columns)
        self._quotes = bool(dialect.escape)
        self._begins: bool | None = None

    def __call__(self, span: Span) -> Verdict:
        data, marks = span.data, self._marks
        if data is None:
            return Verdict(ODD) if span.error.kind == "too_large" else Verdict(TORN, None, self._proves(span.head))
        if marks.right.fullmatch(data):
            if not (self._dialect.quoting and b'"' in data):
                return _WHOLE
            self._quotes = True
            if self._begins is None:
                self._begins = data.startswith(b'"')
            return _PROOF if self._proves(data) else _WHOLE
        end = marks.strict.match(data).end()
        if end < len(data) and (self._quotes or not marks.tame.fullmatch(data)):
            return Verdict(TORN, None, self._proves(data[:end]))
        fields = len(marks.value.findall(data.decode("latin-1")))
        return _WHOLE if fields == self.columns else Verdict(FEW if fields < self.columns else ODD, fields)

    def _proves(self, data: bytes) -> bool:
        """A text may hold quotes that look right; a record begins with a quote if the others do."""
        return self._begins in (None, data.startswith(b'"')) and self._marks.proof.search(data) is not None


class Tears:
    """Tells records that can be believed from tears, span by span.

    Whatever the file, some thousand spans wait for a proof at most, and none with its bytes.

    Attributes:
        begun: where the tear begins that has no end yet, else None.
    """

    def __init__(self) -> None:
        self.begun: int | None = None
        self._why = ""
        # In a tear: the records since it may have ended. Else: those since the last proof.
        self._waiting: list[Span] = []
        self._proofs = 0
        self._since_few: int | None = None

    def add(self, span: Span, verdict: Verdict) -> Iterator[Span | Tear]:
        """Takes the next span, and gives what is settled by it."""
        waiting = self._waiting
        bare = Span(span.start, span.stop, None, span.error)
        if self.begun is not None:
            if verdict.kind != WHOLE:
                waiting.clear()
                self._proofs = 0
                return
            waiting.append(bare)
            self._proofs += verdict.proof
            if self._proofs == _PROOFS or len(waiting) == _ENOUGH:
                yield Tear(self.begun, waiting[0].start, f"{self._why}, bytes {self.begun} to {waiting[0].start}")
                self.begun, self._proofs, self._since_few = None, 0, None
            return
        if verdict.kind == TORN:
            yield from self._tear(len(waiting) if verdict.proof else 0, bare, "quote")
            return
        if verdict.proof:
            yield from waiting
            waiting.clear()
            self._since_few = None
        if verdict.kind == FEW:
            if self._since_few is not None:
                yield from self._tear(max(0, len(waiting) - 1 - self._since_few - _NEAR), bare, "fields")
                return
            self._since_few = 0
        elif self._since_few is not None:
            self._since_few = self._since_few + 1 if self._since_few < _NEAR else None
        waiting.append(bare)
        if len(waiting) == 2 * _ENOUGH:
            yield from waiting[:_ENOUGH]
            del waiting[:_ENOUGH]

    def end(self, size: int) -> Iterator[Span | Tear]:
        """What is settled by the end of the file."""
        if self.begun is not None:
            yield Tear(self.begun, size, f"{self._why}, from byte {self.begun} on")
        else:
            yield from self._waiting

    def _tear(self, at: int, span: Span, why: str) -> Iterator[Span]:
        yield from self._waiting[:at]
        self.begun = [*self._waiting[at:], span][0].start
        self._why = why
        self._waiting.clear()
        self._proofs = 0


def settled(spans: Iterable[Span], judge: Judge, size: int) -> Iterator[Span | Tear]:
    """The records that can be believed, without their bytes, and the tears between them, in order."""
    tears = Tears()
    for span in spans:
        yield from tears.add(span, judge(span))
    yield from tears.end(size)
