"""Which records of a CSV file to believe after a torn quote, or when the line breaks of a text are not quoted.

The place of a torn quote does not show. From there on the reader is out of step: it takes text for records and records for text,
until it meets a quote that can neither open nor close a field. So records are believed up to the last quote that proves the
reader in step: one that a reader out of step would have stumbled over. Everything after that proof belongs to the tear. A tear
ends before a few records in a row with such proofs, or after very many in a row with the right number of fields; otherwise the
rest of the file is lost.

Lines with too few fields close together are pieces of a text with unquoted line breaks: a tear as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from engine.sources.dialect import Dialect, grammar
from engine.sources.packed import Damaged
from engine.sources.scan import Span, Tear

# A tear ends before this many records with a proof.
_PROOFS = 3
# No text has this many lines in a row with the right number of fields: a record begins after them.
_MANY = 1000
# Lines with too few fields and fewer records than this between them belong to one text, as do that many lines around them.
_NEAR = 10

WHOLE, FEW, ODD, TORN = "whole", "few", "odd", "torn"
_QUOTE, _FIELDS = "quote", "fields"


class Verdict(NamedTuple):
    """What a span looks like on its own.

    kind: WHOLE has the right number of fields, FEW has fewer, ODD has more or is too long, TORN has a misplaced quote.
    fields: their number; None if it is right or cannot be counted.
    proof: a quote of the span proves that a record begins at its start.
    """

    kind: str
    fields: int | None = None
    proof: bool = False


class Judge:
    """Judges the spans of one file, in order.

    As long as no field is quoted and nothing escapes, inches and quoted words may be within a field.
    """

    def __init__(self, dialect: Dialect, columns: int) -> None:
        self.columns = columns
        self._dialect = dialect
        self._marks = grammar(dialect, columns)
        self._has_quotes = bool(dialect.escape)
        # Whether the records before the first trouble begin with a quote.
        self._beginnings: set[bool] = set()
        self._in_trouble = False

    def __call__(self, span: Span) -> Verdict:
        verdict = self._judge(span)
        self._in_trouble = self._in_trouble or verdict.kind != WHOLE
        if not self._in_trouble:
            self._beginnings.add(span.data.startswith(b'"'))
        return verdict

    def _judge(self, span: Span) -> Verdict:
        data, marks = span.data, self._marks
        if data is None:
            return Verdict(ODD) if span.error.kind == "too_large" else Verdict(TORN, proof=self._proves(span.head))
        if marks.right.fullmatch(data):
            quoted = self._dialect.quoting and b'"' in data
            self._has_quotes = self._has_quotes or quoted
            return Verdict(WHOLE, proof=quoted and self._proves(data))
        end = marks.strict.match(data).end()
        if end < len(data) and (self._has_quotes or not marks.tame.fullmatch(data)):
            return Verdict(TORN, proof=self._proves(data[:end]))
        fields = len(marks.value.findall(data.decode("latin-1")))
        if fields == self.columns:
            return Verdict(WHOLE)
        return Verdict(FEW if fields < self.columns else ODD, fields, end == len(data) and self._proves(data))

    def _proves(self, data: bytes) -> bool:
        """Unescaped quotes may look right in a text; but a record begins with a quote only if other records do."""
        alike = not self._beginnings or data.startswith(b'"') in self._beginnings
        return alike and self._marks.proof.search(data) is not None


class Tears:
    """Separates believable records from tears, span by span; at most some thousand spans wait for a proof, without their bytes.

    Attributes:
        begun: where the current tear begins, else None.
    """

    def __init__(self) -> None:
        self.begun: int | None = None
        self._why = ""
        # Up to here the torn quote itself may look like a proof.
        self._torn_until = 0
        # The records since the last proof; in a tear, those since the first of the proofs that may end it.
        self._pending: list[Span] = []
        self._proofs = self._in_a_row = 0
        self._since_few: int | None = None

    def add(self, span: Span, verdict: Verdict) -> Sequence[Span | Tear]:
        """Adds the next span; returns the records and tears that are now certain."""
        bare = Span(span.start, span.stop, None, span.error)
        if self.begun is not None:
            return self._add_to_tear(span, bare, verdict)
        pending = self._pending
        if verdict.kind == TORN:
            return self._begin(len(pending) if verdict.proof else 0, span, _QUOTE)
        if verdict.proof:
            self._pending, self._since_few = [bare], None
            return pending
        if verdict.kind == FEW:
            if self._since_few is not None:
                return self._begin(max(0, len(pending) - 1 - self._since_few - _NEAR), span, _FIELDS)
            self._since_few = 0
        elif self._since_few is not None:
            self._since_few = self._since_few + 1 if self._since_few < _NEAR else None
        pending.append(bare)
        if len(pending) < 2 * _MANY:
            return ()
        self._pending = pending[_MANY:]
        return pending[:_MANY]

    def end(self, stop: int) -> Sequence[Span | Tear]:
        """The records and tears that are certain at the end of the file."""
        if self.begun is None:
            return self._pending
        return (Tear(self.begun, stop, f"{self._why}, from byte {self.begun} on"),)

    def _add_to_tear(self, span: Span, bare: Span, verdict: Verdict) -> Sequence[Tear]:
        if verdict.kind == TORN:
            self._why, self._torn_until = _QUOTE, max(self._torn_until, span.start + len(span.head))
        if verdict.kind != WHOLE:
            self._reset()
            return ()
        self._in_a_row += 1
        if verdict.proof and span.start >= self._torn_until:
            self._proofs += 1
        if self._proofs:
            self._pending.append(bare)
        if self._proofs == _PROOFS:
            return self._finish(self._pending[0].start)
        if self._in_a_row == (_NEAR if self._why == _FIELDS else _MANY):
            self._pending = []
            return self._finish(span.stop)
        return ()

    def _begin(self, index: int, span: Span, why: str) -> Sequence[Span]:
        """Begins a tear at a pending record, or at this span; returns the records before it."""
        sound = self._pending[:index]
        self.begun = [*self._pending[index:], span][0].start
        self._why, self._torn_until = why, span.start + len(span.head)
        self._reset()
        return sound

    def _finish(self, stop: int) -> Sequence[Tear]:
        tear = Tear(self.begun, stop, f"{self._why}, bytes {self.begun} to {stop}")
        self.begun = self._since_few = None
        return (tear,)

    def _reset(self) -> None:
        self._pending = []
        self._proofs = self._in_a_row = 0


def resolve_tears(spans: Iterable[Span], judge: Judge) -> Iterator[Span | Tear]:
    """The believable records, without their bytes, and the tears between them, in order.

    Raises:
        Damaged: as the spans do, after everything certain before it.
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
