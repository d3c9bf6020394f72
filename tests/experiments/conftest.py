"""Training in this process in place of Ray Train's."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Trains without Ray, on one thread; the list grows by the settings of each training."""
    import torch

    import engine.training.run
    from engine.models.site_classifier.build import learner
    from engine.training.loop import Worker, train

    done = []

    def fit(config, output, progress, remote):
        done.append(config.settings)
        train(learner(config.settings, Worker()), config.loop, Worker(), output)
        (output / "last").rename(output / "_last")

    monkeypatch.setattr(engine.training.run, "fit", fit)
    threads = torch.get_num_threads()
    # Tiny tensors on two threads of a busy machine spend their time waiting for each other.
    torch.set_num_threads(1)
    yield done
    torch.set_num_threads(threads)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of torch, and forgets the corpora that a test read."""
    import torch

    from engine.experiments import mrc

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    mrc.corpus_of.cache_clear()


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two corpora: `one` with two types, `two` with the first of them."""
    import pyarrow.parquet as pq

    from engine.sources.labelled import Document, Span
    from tests.experiments.prompted import NAMES
    from tests.models.prompt_mrc.conftest import World
    from tests.sources.labelled.tables import to_table

    folder = tmp_path_factory.mktemp("corpora")
    for seed, name in enumerate(("one", "two")):
        world, made = World.make(20, seed), []
        for at, (text, spans) in enumerate(zip(world.texts, world.spans, strict=True)):
            kept = [
                Span(span["start"], span["end"], NAMES[span["type"]]) for span in spans if name == "one" or span["type"] == "A"
            ]
            made.append(Document(f"{name}{at}", text, tuple(kept), name, ("train", "train", "train", "valid", "test")[at % 5]))
        pq.write_table(to_table(made), folder / f"{name}.parquet")
    return str(folder)
