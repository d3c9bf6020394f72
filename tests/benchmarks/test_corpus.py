"""Which reports are measured."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import sources
from engine.benchmarks import corpus
from engine.errors import ConfigError
from engine.sources import InputConfig
from engine.sources.images import image_bytes
from engine.storage import storage_for


def test_real_reports_are_sampled_by_their_text(config, tmp_path):
    texts = [f"report {i}" for i in range(30)]
    for name, given in (("a", texts), ("b", texts[::-1] + texts[:1])):
        pq.write_table(pa.table({"text": [*given, None]}), tmp_path / f"{name}.parquet")
    given = [replace(config, input=InputConfig(str(tmp_path / f"{name}.parquet"), id=None)) for name in ("a", "b")]
    picked = [corpus.sample(each, 8, corpus.LONG) for each in given]
    assert picked[0].equals(picked[1]) and len(set(picked[0]["text"].to_pylist())) == 8
    with pytest.raises(ConfigError, match="30 different readable reports, 31 are needed"):
        corpus.sample(given[0], 31, corpus.LONG)


@pytest.mark.parametrize(("reads", "column"), [("text", "text"), ("images", "image")])
def test_blocks_of_made_up_records_are_those_of_one_block(reads, column, monkeypatch):
    size = corpus.Size(40, 32)
    whole = corpus.made_up(reads, 6, size)
    assert whole.column_names == ["record_id", column]
    assert pa.concat_tables([corpus.made_up(reads, 2, size), corpus.made_up(reads, 4, size, 2)]).equals(whole)
    monkeypatch.setattr(corpus, "_STEP", 4)
    assert [len(table) for table in corpus.pieces(reads, 6, size)] == [4, 2]
    assert pa.concat_tables(corpus.pieces(reads, 6, size)).equals(whole)


def test_images_are_read_the_same_from_parquet_and_from_files(tmp_path):
    """What a job reads of each form, and what the same images are as records without a file."""
    table = corpus.made_up("images", 3, corpus.Size(0, 32))
    read = {}
    for form in (corpus.PARQUET, corpus.FILES):
        corpus.write(tmp_path / form, [table], rows=2, form=form)
        config = corpus.input_of("images", str(tmp_path / form), form)
        storage = storage_for(config.path)
        shards = sources.cut(config, storage, list(sources.list_files(config, storage)), 1 << 30)
        records = pa.concat_tables([sources.read(config, storage, shard, []) for shard in shards])
        read[form] = [image_bytes(files[0]) for files in records["images"].to_pylist()]
    assert read[corpus.PARQUET] == read[corpus.FILES] == table["image"].to_pylist()
    records = corpus.as_records(table)
    assert [image_bytes(files[0]) for files in records["images"].to_pylist()] == read[corpus.FILES]
    assert corpus.as_records(corpus.made_up("text", 2, corpus.SHORT))["record_id"].to_pylist() == ["bench-0", "bench-1"]
