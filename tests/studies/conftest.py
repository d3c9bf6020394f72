"""Two corpora of a made-up language, and studies of a tiny encoder that run on one thread."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.studies.run import Place, Runner
from engine.studies.study import study_of

# Types that have templates: the made-up language's A and B under their names.
NAMES = {"A": "Disease", "B": "Chemical"}
TINY = {"model.encoder": "tiny:bert", "model.rank": 2, "model.window": 80, "precision": "fp32"}
TINY |= {"train.epochs": 1.0, "train.batch": 4, "train.rate": 3e-3}
Figures = dict[tuple[Any, ...], float]


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with two corpora: `one` with two types, `two` with the first of them."""
    import pyarrow.parquet as pq

    from engine.sources.labelled import Document, Span
    from tests.models.prompt_mrc.conftest import World
    from tests.sources.labelled.tables import to_table

    folder = tmp_path_factory.mktemp("corpora")
    for seed, name in enumerate(("one", "two")):
        world, documents = World.make(20, seed), []
        for at, (text, spans) in enumerate(zip(world.texts, world.spans, strict=True)):
            kept = [
                Span(each["start"], each["end"], NAMES[each["type"]]) for each in spans if name == "one" or each["type"] == "A"
            ]
            split = ("train", "train", "train", "valid", "test")[at % 5]
            documents.append(Document(f"{name}{at}", text, tuple(kept), name, split))
        pq.write_table(to_table(documents), folder / f"{name}.parquet")
    return str(folder)


@pytest.fixture
def run_study(corpora: str, tmp_path: Path) -> Iterator[Callable[..., Figures]]:
    """Runs a study of the tiny encoder, from the values that its file would have; gives its figures by corpus, arm, metric and
    slice, those of its only seed or the comparisons."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(values: Mapping[str, Any], say: Callable[[str], None] = lambda line: None, folder: str = "out") -> Figures:
        usual = {"question": "?", "system": "prompt_mrc", "corpora": {"one": "one.parquet"}, "measure": ["spans"], "rounds": 20}
        study = study_of("tiny", {**usual, **values, "base": {**TINY, **values.get("base", {})}})
        place = Place(corpora, tmp_path / folder, tmp_path / "models", 1, recorded=False)
        rows = Runner(study, place, say).run().to_pylist()
        return {(row["corpus"], row["arm"], row["metric"], row["slice"]): row["value"] for row in rows}

    yield run
    torch.set_num_threads(before)
