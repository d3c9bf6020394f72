"""Which reports are measured."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.benchmarks import corpus
from engine.errors import ConfigError
from engine.sources import InputConfig


def test_real_reports_are_sampled_by_their_text(config, tmp_path):
    texts = [f"report {i}" for i in range(30)]
    for name, given in (("a", texts), ("b", texts[::-1] + texts[:1])):
        pq.write_table(pa.table({"text": [*given, None]}), tmp_path / f"{name}.parquet")
    given = [replace(config, input=InputConfig(str(tmp_path / f"{name}.parquet"), id=None)) for name in ("a", "b")]
    picked = [corpus.reports(each, 8, 100) for each in given]
    assert picked[0].equals(picked[1]) and len(set(picked[0]["text"].to_pylist())) == 8
    with pytest.raises(ConfigError, match="30 different readable reports, 31 are needed"):
        corpus.reports(given[0], 31, 100)


def test_blocks_of_made_up_reports_are_those_of_one_block():
    whole = corpus.made_up(6, 40)
    assert whole.column_names == ["record_id", "text"]
    assert pa.concat_tables([corpus.made_up(2, 40), corpus.made_up(4, 40, 2)]).equals(whole)
