"""The toy tagger with random weights as a checkpoint, and tables of runs."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.models.base import ModelSpec, load
from engine.records import ENTITY
from tests.models.conftest import records
from tests.toys import tagged
from tests.toys.tagged.network import Network

PACKAGE = "tests.toys.tagged"


def tagger(folder, runtime=None, **options):
    return load(ModelSpec(PACKAGE, str(folder), {"precision": "fp32", **options}, {"threads": 1, **(runtime or {})}))


def written(path, texts, coded, **changes):
    """The table of a run over some texts, with the ids that `records` gives; `changes` are column -> row -> value."""
    table = records(texts).select(["record_id", "source", "position"]).to_pylist()
    names = ["record_id", "source", "position", "decision", "text_sha256", "entities"]
    answers = [{name: {**record, **row}[name] for name in names} for record, row in zip(table, coded, strict=True)]
    for column, values in changes.items():
        for row, value in values.items():
            answers[row][column] = value
    types = {"position": pa.int64(), "text_sha256": pa.binary(32), "entities": pa.list_(ENTITY)}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    pq.write_table(pa.Table.from_pylist(answers, schema=schema), path, row_group_size=2)
    return str(path)


@pytest.fixture(scope="session")
def scattered(tmp_path_factory):
    """A checkpoint whose answers depend on the text."""
    network = Network(tagged.new_config(("A", "B")))
    torch.nn.init.zeros_(network.head.bias)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for name, value in network.named_parameters():
            if value.ndim > 1 and "embeddings" not in name:
                torch.nn.init.normal_(value, std=0.3)
    return tagged.write(tmp_path_factory.mktemp("tagged") / "model", network.config, network.state_dict(), least=0.3)
