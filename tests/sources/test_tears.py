"""Torn quotes and line breaks without quotes: what is read is a record of the table, whatever else is lost."""

import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sources.dialect import Dialect, split
from engine.sources.scan import Tear, csv_records
from engine.sources.tears import Judge, settled

COMMA = Dialect(b",")


def read(data, columns, dialect=COMMA, chunk=1 << 20, longest=1 << 20):
    """Values of the records that are believed and have the right number of fields, and (start, stop) of tears."""
    found = []
    spans = csv_records(io.BytesIO(data), 0, len(data), dialect, longest, chunk)
    for span in settled(spans, Judge(dialect, columns), len(data)):
        if isinstance(span, Tear):
            found.append((span.start, span.stop))
            continue
        (again,) = csv_records(io.BytesIO(data), span.start, span.stop, dialect, longest)
        values = None if again.error else split(again.data.decode(), dialect)
        found.append(values if values is None or len(values) == columns else None)
    return found


def written(table, **settings):
    buffer = io.StringIO()
    csv.writer(buffer, **settings).writerows(table)
    return buffer.getvalue()


# Pieces of reports with everything that looks like the border of a record or a field.
pieces = st.sampled_from(
    [
        "Left breast",
        "foo, bar",
        "7,a",
        "1,x,y",
        '"',
        '""',
        "\n",
        "\r\n",
        ",",
        " ",
        "3 cm",
        '5"',
        'say "yes"',
        "\n8,b\n",
        '\n9,"c"\n',
        ".",
    ]
)
texts = st.lists(pieces, max_size=12).map("".join)
names = st.integers(100, 999).map(str)


@st.composite
def torn_tables(draw):
    wards = draw(st.booleans())
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    rows = draw(st.lists(st.tuples(names, texts, st.sampled_from(["A", "B, C", ""])), min_size=1, max_size=12))
    table = [[name, text, ward][: 2 + wards] for name, text, ward in rows]
    data = written(table, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])))
    quotes = [at for at, character in enumerate(data) if character == '"']
    if quotes and draw(st.booleans()):
        at = draw(st.sampled_from(quotes))
        return table, data[:at] + data[at + 1 :]
    at = draw(st.integers(0, len(data)))
    return table, data[:at] + '"' + data[at:]


def alike(values, row):
    """Whether a quote within one field may be all that differs."""
    return [value.replace('"', "") for value in values] == [value.replace('"', "") for value in row]


@settings(max_examples=1500, deadline=None)
@given(torn=torn_tables())
def test_a_torn_quote_makes_no_record(torn):
    table, data = torn
    for row in read(data.encode(), len(table[0])):
        if isinstance(row, list):
            assert row in table or any(alike(row, whole) for whole in table), (row, data)
