"""Text to tokens and words, with offsets into the unchanged text.

A word is one of the pre-tokenizer's (a run of letters or digits, one punctuation mark, one CJK character). Blanks that a
byte-level tokenizer treats as a word belong to the word after them, at the end of a text to the last word; offsets exclude them.
Offsets are half-open and in code points, as the tokenizer reports them, except that they include accents and other marks on a
word's last letter. Text is never rebuilt by decoding.
"""

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class TokenizedText:
    """One text as tokens, without special tokens.

    `ids` [n] and `word_of_token` [n] are per token; `word_start` and `word_end` [words] are offsets into the text; `spoken`
    [words] is true for words with a letter or a digit. `truncated_chars` counts the characters after the last kept token.
    """

    ids: np.ndarray
    word_of_token: np.ndarray
    word_start: np.ndarray
    word_end: np.ndarray
    spoken: np.ndarray
    truncated_chars: int


def tokenize(tokenizer: "Tokenizer", texts: list[str], max_tokens: int) -> list[TokenizedText]:
    """The first `max_tokens` tokens of each text."""
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [_tokenized(encoding, text, max_tokens) for encoding, text in zip(encodings, texts, strict=True)]


def _tokenized(encoding: "Encoding", text: str, max_tokens: int) -> TokenizedText:
    ids = np.asarray(encoding.ids[:max_tokens], dtype=np.int32)
    nothing = np.empty(0, dtype=np.int32)
    without_words = TokenizedText(nothing, nothing, nothing, nothing, nothing.astype(bool), 0)
    if not len(ids):
        return without_words
    offsets = np.asarray(encoding.offsets[:max_tokens], dtype=np.int32)
    words = np.asarray(encoding.word_ids[:max_tokens], dtype=np.int32)
    first = np.r_[True, words[1:] != words[:-1]]
    last = np.r_[first[1:], True]
    start, end = _trimmed(text, offsets[first, 0], offsets[last, 1])
    word, real = np.cumsum(first, dtype=np.int32) - 1, np.flatnonzero(start < end)
    if not len(real):
        return without_words
    if len(real) < len(start):
        word = np.searchsorted(real, word).clip(max=len(real) - 1).astype(np.int32)
        start, end = start[real], end[real]
    # A tokenizer separates punctuation from words, so the first and last character tell.
    spoken = np.array([text[a].isalnum() or text[b - 1].isalnum() for a, b in zip(start.tolist(), end.tolist(), strict=True)])
    end = _with_marks(text, start, end)
    beyond = len(text) - int(end[-1]) if len(encoding.ids) > max_tokens else 0
    return TokenizedText(ids, word, start, end, spoken, beyond)


def _trimmed(text: str, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets without the blank that byte-level tokenizers count to the word after it."""
    for index in range(len(start)):
        while start[index] < end[index] and text[start[index]].isspace():
            start[index] += 1
    return start, end


def _with_marks(text: str, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Ends including marks on a word's last letter, which tokenizers that strip accents count to no word."""
    if text.isascii():
        return end
    for index, at in enumerate(end.tolist()):
        stop = int(start[index + 1]) if index + 1 < len(start) else len(text)
        while at < stop and (unicodedata.category(text[at]) in ("Mn", "Me") or text[at] in _JOINERS):
            at += 1
        end[index] = at
    return end
