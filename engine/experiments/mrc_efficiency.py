"""What a document costs: parameters, FLOPs, time and memory, a prompt a type against the tagger's single pass.

Weights do not change the cost, so networks are untrained. Each arm is measured in a process of its own, whose peak memory is the
arm's. FLOPs are those of matrix products, as `torch.utils.flop_counter` counts them.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.encoders import attention_for, encoder_folder, load_tokenizer, pick_precision
from engine.errors import ConfigError
from engine.experiments.mrc import MrcRecipe, corpus_of, known_modes, settings_of
from engine.experiments.run import Arm, Result, Say
from engine.models.prompt_mrc.build import completed, new_network
from engine.models.prompt_mrc.config import HYBRID, NAME, TAGGER, MrcConfig
from engine.models.prompt_mrc.instances import Window, windows
from engine.models.prompt_mrc.network import MrcNetwork, collate, pairs
from engine.sources.annotated.splits import TEST
from engine.text.tokens import tokenize
from engine.training.prompt_mrc import DataConfig, members_of

TOGETHER, APART = "together", "apart"


@dataclass(frozen=True)
class EfficiencyConfig(MrcRecipe):
    """Settings of `prompt_mrc/efficiency`: `records` texts of test are read `repeats` times, one or `many` at a time;
    `layers` are numbers of lower layers in which prompts and text do not see each other."""

    corpora: tuple[str, ...] = ("BioNLP13CG",)
    modes: tuple[str, ...] = (TAGGER, NAME, HYBRID)
    layers: tuple[int, ...] = (0, 4)
    records: int = 64
    repeats: int = 3
    many: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "modes", known_modes(self.modes))
        object.__setattr__(self, "layers", tuple(self.layers))
        if min(self.records, self.repeats, self.many) < 1 or not self.layers or min(self.layers) < 0:
            raise ConfigError("sizes: records, repeats and many must be at least 1, layers at least 0")


class Efficiency:
    """See `engine.experiments.run.Experiment`: an arm a corpus, mode, number of layers apart, and way to ask for all types."""

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
        return found

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        # A fresh process: peak memory only ever rises.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows = pool.apply(cost, (asdict(self.config), *arm.name.rsplit("-", 3)))
        return [Result(**row) for row in rows]


def cost(values: Mapping[str, Any], corpus: str, mode: str, layers: str, how: str) -> list[dict[str, Any]]:
    """The figures of one arm as plain values."""
    config = EfficiencyConfig(**values)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    settings = settings_of(config, corpus, config.seeds[0], mode=mode, share_layers=int(layers))
    read = corpus_of(DataConfig(**settings["data"]))
    model = completed(MrcConfig(types=read.types, seed=config.seeds[0], **settings["model"]))
    network = new_network(model, pick_precision(config.precision, "cpu"), attention_for("cpu")).eval()
    members = members_of(read, TEST)[: config.records]
    tokens = tokenize(load_tokenizer(encoder_folder(model.encoder)), [read.documents[at].text for at in members], 16384)
    shown = [windows(at, each.ids, each.word_of_token, model.window, model.overlap) for at, each in enumerate(tokens)]
    shown = [each for each in shown if each]
    with torch.inference_mode():
        run = _reader(network, how)
        flops = FlopCounterMode(display=False)
        with flops:
            run([window for each in shown for window in each])
        single = _times(run, [[*each] for each in shown], config.repeats)
        batches = [
            [window for each in shown[at : at + config.many] for window in each] for at in range(0, len(shown), config.many)
        ]
        many = _times(run, batches, config.repeats) * len(batches) / len(shown)
    n, note = len(shown), f"{len(read.types)} types, {sum(map(len, shown))} windows"
    total = sum(value.numel() for value in network.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = [
        {"metric": "parameters", "value": total, "note": note},
        {"metric": "gflops_per_text", "value": flops.get_total_flops() / n / 1e9, "n": n},
        {"metric": "ms_per_text_alone_p50", "value": 1000 * float(np.quantile(single, 0.5)), "n": n},
        {"metric": "ms_per_text_alone_p95", "value": 1000 * float(np.quantile(single, 0.95)), "n": n},
        {"metric": "ms_per_text_in_many", "value": 1000 * float(np.mean(many)), "n": n, "note": f"{config.many} texts at a time"},
        {"metric": "peak_mib", "value": peak, "note": "of the whole process, libraries included"},
    ]
    return rows


def _reader(network: MrcNetwork, how: str) -> Callable[[Sequence[Window]], None]:
    """Reads windows under every type: the prompts once for all, and the text once for all or once for each."""
    numbers = [0] if network.config.is_tagger else list(range(len(network.config.types)))
    groups = [numbers] if how == TOGETHER else [[number] for number in numbers]
    asked = [network.ask(group) for group in groups]

    def run(some: Sequence[Window]) -> None:
        contexts = collate(some, network.config.special)
        for each in asked:
            window, prompt = pairs(len(some), len(each), "cpu")
            network.answer(contexts, network.read(contexts), each, window, prompt)

    return run


def _times(run: Callable[[Sequence[Window]], None], batches: Sequence[Sequence[Window]], repeats: int) -> np.ndarray:
    """Seconds of every call, the first round left out."""
    found = []
    for turn in range(repeats + 1):
        for batch in batches:
            began = time.perf_counter()
            run(batch)
            if turn:
                found.append(time.perf_counter() - began)
    return np.array(found)
