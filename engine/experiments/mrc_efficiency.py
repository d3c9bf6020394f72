"""What a document costs: parameters, FLOPs, time and memory, a prompt a type against the tagger's single pass.

Weights do not change what encoder and heads cost, so networks are untrained; how many pairs the match head sees and decoding
sorts hangs on them, so the heads' biases are set so that as many words begin and end an answer as are marked in the texts.
Measured is the extractor as a run has it (`engine.experiments.mrc_cost`), at each number of texts at once in a process of its
own, since memory that a process has once taken stays with it.

What it costs in F1 that prompts and text stay apart in lower layers, only training can say: the arms `<corpus>-hybrid-shared<k>`
are trained with k such layers, and held against the one with none.
"""

import math
import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.encoders import attention_for, encoder_folder, load_tokenizer, set_threads
from engine.errors import ConfigError, RetryableError
from engine.experiments.mrc import (
    MrcRecipe,
    corpus_of,
    cost_of,
    fitted,
    gold_of,
    keep_found,
    kept_found,
    known_modes,
    less,
    measured,
    results_of,
    settings_of,
)
from engine.experiments.mrc_cost import cost
from engine.experiments.run import Arm, Result, Say
from engine.models.prompt_mrc.build import completed, new_network
from engine.models.prompt_mrc.checkpoint import read_checkpoint, trained_tensors, write_checkpoint
from engine.models.prompt_mrc.config import HYBRID, NAME, TAGGER, DataConfig, Decoding, MrcConfig
from engine.models.prompt_mrc.corpus import members_of
from engine.models.prompt_mrc.extractor import Extractor
from engine.models.prompt_mrc.instances import windows
from engine.models.prompt_mrc.learner import prepare_training
from engine.models.prompt_mrc.network import MrcNetwork, collate
from engine.models.prompt_mrc.options import Options
from engine.sources.labelled import Document
from engine.sources.labelled.splits import TEST
from engine.text.tokens import TokenizedText, tokenize

TOGETHER, APART, SHARED = "together", "apart", "shared"


@dataclass(frozen=True)
class EfficiencyConfig(MrcRecipe):
    """Settings of `prompt_mrc/efficiency`: `records` texts of test are read `repeats` times, one or `many` at a time;
    `layers` are numbers of lower layers in which prompts and text do not see each other, `shared` those of the models that are
    trained, rising; only 0 has nothing to be held against. A batch has room for `batch_tokens` token places.
    """

    corpora: tuple[str, ...] = ("BioNLP13CG",)
    modes: tuple[str, ...] = (TAGGER, NAME, HYBRID)
    layers: tuple[int, ...] = (0, 2, 4)
    shared: tuple[int, ...] = (0, 2, 4)
    records: int = 64
    repeats: int = 3
    many: int = 32
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "modes", known_modes(self.modes))
        for name in ("layers", "shared"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if min(self.records, self.repeats, self.many, self.batch_tokens) < 1 or not self.layers or min(self.layers) < 0:
            raise ConfigError("sizes: records, repeats, many and batch_tokens must be at least 1, layers at least 0")
        if list(self.shared) != sorted(set(self.shared)) or min(self.shared, default=0) < 0:
            raise ConfigError("sizes.shared: numbers of layers, at least 0 and rising")


class Efficiency:
    """See `engine.experiments.run.Experiment`: an arm a corpus, mode, number of layers apart, and way to ask for all types; and
    one a corpus and number of layers apart with which a model is trained."""

    name = "prompt_mrc/efficiency"

    def __init__(self, config: EfficiencyConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        found = []
        for corpus in self.config.corpora:
            for mode in self.config.modes:
                if mode == TAGGER:
                    found.append(Arm(f"{corpus}-{mode}-0-{TOGETHER}"))
                    continue
                found += [Arm(f"{corpus}-{mode}-{layers}-{TOGETHER}") for layers in self.config.layers]
                found.append(Arm(f"{corpus}-{mode}-0-{APART}"))
            found += [Arm(_trained(corpus, layers), self.config.seeds[0]) for layers in self.config.shared]
        return found

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        name, _, last = arm.name.rpartition("-")
        if last.startswith(SHARED):
            return self._worth(name.removesuffix(f"-{HYBRID}"), int(last.removeprefix(SHARED)), work, say)
        found = []
        for at_once in dict.fromkeys((1, self.config.many)):
            found += in_a_process(figures, asdict(self.config), *arm.name.rsplit("-", 3), at_once)
        return [Result(**row) for row in found]

    def _worth(self, corpus: str, layers: int, work: Path, say: Say) -> list[Result]:
        """Figures of a model trained with so many layers apart, and its F1 less that of the one with none."""
        folder = work / _trained(corpus, layers)
        settings = settings_of(self.config, corpus, self.config.seeds[0], mode=HYBRID, share_layers=layers)
        model = fitted(self.config, settings, folder, say)
        found = measured(model, rounds=self.config.rounds)
        keep_found(folder, found)
        results = [*results_of(found), *cost_of(model)]
        if not layers or 0 not in self.config.shared:
            return results
        gold = gold_of(self.config, corpus)
        both = (kept_found(work / _trained(corpus, each), gold) for each in (layers, 0))
        return [*results, *less(_trained(corpus, 0), gold, *both, self.config.rounds)]


def _trained(corpus: str, layers: int) -> str:
    return f"{corpus}-{HYBRID}-{SHARED}{layers}"


def in_a_process(function: Callable[..., Any], *given: Any) -> Any:
    """What a function returns from a fresh process.

    Raises:
        RetryableError: the process was killed.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *given).result()
        except BrokenProcessPool:
            raise RetryableError(
                "the process that measures was killed, perhaps for want of memory; free some, or lower sizes.batch_tokens"
            ) from None


def figures(values: Mapping[str, Any], corpus: str, mode: str, layers: str, how: str, at_once: int) -> list[dict[str, Any]]:
    """The figures of one arm at a number of texts at once, as plain values."""
    config = EfficiencyConfig(**values)
    set_threads(config.threads)
    settings = settings_of(config, corpus, config.seeds[0], mode=mode, share_layers=int(layers))
    read = corpus_of(DataConfig(**settings["data"]))
    model = completed(MrcConfig(types=read.types, seed=config.seeds[0], **settings["model"]))
    documents = [read.documents[at] for at in members_of(read, TEST)[: config.records]]
    with tempfile.TemporaryDirectory() as folder:
        network = prepare_training(new_network(model, torch.float32, attention_for("cpu")))
        write_checkpoint(Path(folder), model, trained_tensors(network), Decoding(), "of an experiment\n")
        del network
        runtime = {"device": config.device, "threads": config.threads, "batch_tokens": config.batch_tokens}
        extractor = Extractor(read_checkpoint(folder), Options(precision=config.precision), runtime)
        opened = open_heads(extractor.network, documents)
        texts = [each.text for each in documents]
        found = cost(extractor, texts, separate=how == APART, repeats=config.repeats, at_once=at_once)
    n, name = len(texts), "alone" if at_once == 1 else "in_many"
    together = "" if at_once == 1 else f"{at_once} texts at once"
    rows = [
        {"metric": f"ms_per_text_{name}_p50", "value": 1000 * found.p50, "n": n, "note": together},
        {"metric": f"ms_per_text_{name}_p95", "value": 1000 * found.p95, "n": n},
        {"metric": f"peak_mib_{name}", "value": found.peak, "note": "above what the process with the model held before"},
    ]
    if at_once > 1:
        return rows
    note = f"{found.types} types; {100 * opened:.2g} % of words begin an answer under a type, as marked"
    first = [
        {"metric": "parameters", "value": found.parameters, "note": note},
        {"metric": "trained_parameters", "value": found.trained},
        {"metric": "gflops_per_text", "value": found.flops / 1e9, "n": n},
    ]
    return first + rows


@torch.no_grad()
def open_heads(network: MrcNetwork, documents: Sequence[Document]) -> float:
    """Moves the heads' biases so that the share of words that is marked begins and ends an answer; returns that share."""
    config = network.config
    device = next(network.parameters()).device
    tokens = tokenize(load_tokenizer(encoder_folder(config.encoder)), [each.text for each in documents], 16384)
    words = sum(len(each.word_start) for each in tokens)
    marked = sum(span.type in config.types for each in documents for span in each.spans)
    share = min(0.5, max(marked, 1) / max(1, words * len(config.types)))
    starts, ends = _logits(network, tokens, device)
    if config.is_tagger:
        network.tagger.bias.view(-1, 3)[:, 1] -= float(np.quantile(starts, 1 - share))
        return share
    for head, logits in ((network.start, starts), (network.end, ends)):
        head.bias -= float(np.quantile(logits, 1 - share)) - math.log(Decoding().start / (1 - Decoding().start))
    return share


@torch.no_grad()
def _logits(network: MrcNetwork, tokens: Sequence[TokenizedText], device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Logits of start at words' first pieces and of end at their last ones, under every type; of the tagger how far B lies above
    the other tags at a word's first piece, and nothing."""
    config, starts, ends = network.config, [], []
    for each in tokens:
        for window in windows(0, each.ids, each.word_of_token, config.window, config.overlap):
            contexts = collate([window], config.special).to(device)
            found = network(contexts, [0] if config.is_tagger else list(range(len(config.types))))
            if found.tags is not None:
                tags = found.tags[0, : len(window)][torch.from_numpy(window.starts)].float()
                starts.append((tags[..., 1] - torch.maximum(tags[..., 0], tags[..., 2])).flatten().cpu().numpy())
                continue
            for logits, flags, into in ((found.start, window.starts, starts), (found.end, window.ends, ends)):
                into.append(logits[:, : len(window)].cpu().numpy()[:, flags].ravel())
    return np.concatenate(starts), np.concatenate(ends or starts)
