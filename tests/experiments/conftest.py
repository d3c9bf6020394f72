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
