"""Which records of a CSV file can be believed once a quote is torn, or the line breaks of a text are not quoted.

A torn quote does not show where it is. The reader has lost count: it takes text for records and records for text, and stumbles
further on, over a quote that can neither open nor close a field where it stands. So records are believed up to the last quote
that proves the count right: one over which a reader who had lost count would have stumbled. What comes after is part of the
tear. A tear ends before a few records in a row that bring such proofs, or behind very many in a row that have the right number
of fields; else the rest of the file is lost.

Lines with too few fields that stand close together are pieces of a text with line breaks that are not quoted: a tear as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from engine.sources.dialect import Dialect, grammar
from engine.sources.packed import Damaged
from engine.sources.scan import Span, Tear

# A tear ends before so many records with a proof.
_PROOFS = 3
# No text has so many lines in a row that have the right number of fields: behind them a record begins.
_ENOUGH = 1000
# Lines with too few fields and no more records between them are of one text, which has no more lines before or behind them.
_NEAR = 10

WHOLE, FEW, ODD, TORN = "whole", "few", "odd", "torn"
_QUOTE, _FIELDS = "quote", "fields"


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

    Where no field is quoted and nothing escapes, inches and quoted words may stand within a field.
    """

    def __init__(self, dialect: Dialect, columns: int) -> None:
        self.columns = columns
        self._dialect = dialect
        self._marks = grammar(dialect, columns)
        self._quotes = bool(dialect.escape)
        self._beginnings: set[bool] = set()
        self._trouble = False

    def __call__(self, span: Span) -> Verdict:
        verdict = self._judge(span)
        if not self._trouble:
            self._trouble = verdict.kind != WHOLE
            if not self._trouble:
                self._beginnings.add(span.data.startswith(b'"'))
        return verdict

    def _judge(self, span: Span) -> Verdict:
        data, marks = span.data, self._marks
        if data is None:
            return Verdict(ODD) if span.error.kind == "too_large" else Verdict(TORN, None, self._proves(span.head))
        if marks.right.fullmatch(data):
            if not (self._dialect.quoting and b'"' in data):
                return _WHOLE
            self._quotes = True
            return _PROOF if self._proves(data) else _WHOLE
        end = marks.strict.match(data).end()
        if end < len(data) and (self._quotes or not marks.tame.fullmatch(data)):
            return Verdict(TORN, None, self._proves(data[:end]))
        fields = len(marks.value.findall(data.decode("latin-1")))
        if fields == self.columns:
            return _WHOLE
        return Verdict(FEW if fields < self.columns else ODD, fields, end == len(data) and self._proves(data))

    def _proves(self, data: bytes) -> bool:
        """Quotes that nobody escaped may look right in a text; but a record begins with a quote only if others do."""
        alike = not self._beginnings or data.startswith(b'"') in self._beginnings
        return alike and self._marks.proof.search(data) is not None


class Tears:
    """Tells records that can be believed from tears, span by span.

    Whatever the file, some thousand spans wait for a proof at most, and none with its bytes.

    Attributes:
        begun: where the tear begins that has no end yet, else None.
    """

    def __init__(self) -> None:
        self.begun: int | None = None
        self._why = ""
        # Up to here the torn quote itself may pass for a proof.
        self._shows = 0
        # The records since the last proof; in a tear, those since the first of the proofs that may end it.
        self._waiting: list[Span] = []
        self._proofs = 0
        self._in_a_row = 0
        self._since_few: int | None = None

    def add(self, span: Span, verdict: Verdict) -> Sequence[Span | Tear]:
        """Takes the next span, and gives what is settled by it."""
        bare = Span(span.start, span.stop, None, span.error)
        if self.begun is not None:
            return self._within(span, bare, verdict)
        waiting = self._waiting
        if verdict.kind == TORN:
            return self._tear(len(waiting) if verdict.proof else 0, span, _QUOTE)
        if verdict.proof:
            self._waiting, self._since_few = [bare], None
            return waiting
        if verdict.kind == FEW:
            if self._since_few is not None:
                return self._tear(max(0, len(waiting) - 1 - self._since_few - _NEAR), span, _FIELDS)
            self._since_few = 0
        elif self._since_few is not None:
            self._since_few = self._since_few + 1 if self._since_few < _NEAR else None
        waiting.append(bare)
        if len(waiting) < 2 * _ENOUGH:
            return ()
        self._waiting = waiting[_ENOUGH:]
        return waiting[:_ENOUGH]

    def end(self, stop: int) -> Sequence[Span | Tear]:
        """What is settled by the end of the file."""
        if self.begun is None:
            return self._waiting
        return (Tear(self.begun, stop, f"{self._why}, from byte {self.begun} on"),)

    def _within(self, span: Span, bare: Span, verdict: Verdict) -> Sequence[Tear]:
        if verdict.kind == TORN:
            self._why, self._shows = _QUOTE, max(self._shows, span.start + len(span.head))
        if verdict.kind != WHOLE:
            self._again()
            return ()
        self._in_a_row += 1
        if verdict.proof and span.start >= self._shows:
            self._proofs += 1
        if self._proofs:
            self._waiting.append(bare)
        if self._proofs == _PROOFS:
            return self._mend(self._waiting[0].start)
        if self._in_a_row == (_NEAR if self._why == _FIELDS else _ENOUGH):
            self._waiting = []
            return self._mend(span.stop)
        return ()

    def _tear(self, at: int, span: Span, why: str) -> Sequence[Span]:
        """Begins a tear at a record that waits, or at this span."""
        sound = self._waiting[:at]
        self.begun = [*self._waiting[at:], span][0].start
        self._why, self._shows = why, span.start + len(span.head)
        self._again()
        return sound

    def _mend(self, stop: int) -> Sequence[Tear]:
        tear = Tear(self.begun, stop, f"{self._why}, bytes {self.begun} to {stop}")
        self.begun = self._since_few = None
        return (tear,)

    def _again(self) -> None:
        self._waiting = []
        self._proofs = self._in_a_row = 0


def settled(spans: Iterable[Span], judge: Judge) -> Iterator[Span | Tear]:
    """The records that can be believed, without their bytes, and the tears between them, in order.

    Raises:
        Damaged: as the spans do, after what is settled of those before.
    """
    tears, stop, damage = Tears(), 0, None
    try:
        for span in spans:
            stop = span.stop
            yield from tears.add(span, judge(span))
    except Damaged as error:
        damage = error
    yield from tears.end(stop)
    if damage:
        raise damage
