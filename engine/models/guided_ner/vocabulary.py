"""What may stand for a token in a changed copy of a text, and which tokens no copy changes.

Copies must not change what a text says: numbers stay, and so do words that deny. These are, by the lexicon of assertions, cues of
one word, and in Chinese the first characters of cues of one or two characters. A mark may stand for a mark, and a Chinese
character for its other form, simplified or traditional.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.text.assertions import NEGATED, cues

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FORMS = (
    "体體 肿腫 疮瘡 疗療 药藥 检檢 验驗 脑腦 脏臟 胆膽 肠腸 胀脹 脓膿 颈頸 头頭 脸臉 齿齒 鳞鱗 红紅 发發 热熱 块塊 损損 伤傷 "
    "痒癢 痈癰 疡瘍 癣癬 瘫癱 痉痙 针針 输輸 术術 医醫 师師 经經 痪瘓 脉脈 肾腎 肤膚 积積 转轉 诊診 断斷 现現 见見 没沒 无無 "
    "阴陰 阳陽 单單 双雙 侧側 过過 续續 节節 结結 钟鐘 时時 间間 妇婦 产產 围圍 压壓 显顯 诉訴 湿濕 涩澀 泪淚 视視 听聽 觉覺"
)


@dataclass(frozen=True)
class Vocabulary:
    """Flags [V] of tokens that no copy changes, and the `others` that may stand for a token, by its id."""

    spared: np.ndarray
    others: Mapping[int, Sequence[int]]

    def other(self, token: int, rng: np.random.Generator) -> int:
        """Another token of the same class, the same one if there is none."""
        others = self.others.get(token)
        return token if not others else int(others[rng.integers(len(others))])


def vocabulary(tokenizer: "Tokenizer", language: str) -> Vocabulary:
    """The classes of a tokenizer's tokens."""
    tokens = tokenizer.get_vocab()
    spared = np.zeros(tokenizer.get_vocab_size(), bool)
    negations = cues(language, NEGATED)
    denying = {cue[0] for cue in negations if len(cue) <= 2} if language == "zh" else set(negations)
    marks = []
    for token, number in tokens.items():
        word = token.removeprefix("##")
        spared[number] = word in denying or any(map(str.isdigit, word)) or _is_special(token)
        if len(token) == 1 and unicodedata.category(token).startswith("P"):
            marks.append(number)
    unknown = tokens.get("[UNK]", tokens.get("<unk>", 0))
    others = {number: [other for other in marks if other != number] for number in marks}
    for one, other in _FORMS.split():
        pair = [tokens.get(form, unknown) for form in (one, other)]
        others |= {number: [rest] for number, rest in (pair, pair[::-1]) if number != unknown}
    return Vocabulary(spared, others)


def _is_special(token: str) -> bool:
    return token.startswith(("[", "<")) and len(token) > 2
