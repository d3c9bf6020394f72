"""Texts to tokens with what entities need beside them: the parts of a text that no span leaves, and scopes of assertions."""

import pyarrow as pa

from engine.models import tokens
from engine.models.columns import list_values, lists
from engine.text.assertions import Asserted, has_lexicon
from engine.text.phrases import Reading
from engine.text.readable import in_language
from engine.text.sentences import parts

# See `engine.text.assertions.Scope`, in characters.
SCOPE = pa.struct(
    [("start", pa.int32()), ("end", pa.int32()), ("kind", pa.string()), ("cue_start", pa.int32()), ("cue_end", pa.int32())]
)
PREPARED = pa.schema(
    [
        *tokens.PREPARED,
        pa.field("text_chars", pa.int32()),
        pa.field("word_part", tokens.INTS),
        pa.field("scopes", pa.list_(SCOPE)),
        pa.field("in_language", pa.bool_()),
    ]
)


def with_parts(prepared: pa.Table, records: pa.Table, language: str) -> pa.Table:
    """Records prepared by `engine.models.tokens.prepare` as a `PREPARED` table.

    `word_part` has the part of the text of each word, see `engine.text.sentences.parts`. `scopes` are those of assertions; null
    if there is no lexicon of the language. `in_language` says whether the text is in it, see `engine.text.readable`.
    """
    texts, asserts, word_part, scopes, read = tokens.texts_of(records), has_lexicon(language), [], [], []
    for text, starts, beyond in zip(
        texts, list_values(prepared["word_start"]), prepared["truncated_chars"].to_pylist(), strict=True
    ):
        reading = Reading(text[: len(text) - beyond])
        word_part.append(parts(reading, starts))
        scopes.append([one._asdict() for one in Asserted(reading, language).in_characters()] if asserts else None)
        read.append(in_language(reading, language))
    columns = {
        "text_chars": pa.array([len(text) for text in texts], pa.int32()),
        "word_part": lists(word_part),
        "scopes": pa.array(scopes, pa.list_(SCOPE)),
        "in_language": pa.array(read, pa.bool_()),
    }
    return tokens.with_columns(prepared, columns, PREPARED)
