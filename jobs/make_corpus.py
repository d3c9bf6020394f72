"""Writes synthetic reports with gold codes and evidence: `python -m jobs.make_corpus records=100000 output.path=corpus`."""

from dataclasses import dataclass

from jobs._front import job
from jobs._keys import MISSING, key, section
from jobs._storage import Storage, use


@dataclass
class Output:
    path: str = key(MISSING, "Folder for the corpus; new, empty, or one with the same corpus.", path=True)
    format: str = key("parquet", "What to write.", choices=("parquet", "csv", "jsonl", "text"))
    file_records: int = key(250_000, "Records in one file; for text, in one folder.", low=1)


@dataclass
class Text:
    median_words: float = key(120.0, "Median length of a report in words.", low=15, high=50_000)
    sigma: float = key(0.5, "Spread of the logarithm of the length; 0 makes all about equally long.", low=0, high=2)


@dataclass
class Config:
    output: Output = section(Output)
    text: Text = section(Text)
    storage: Storage = section(Storage)
    records: int = key(2000, "How many reports.", low=1)
    seed: int = key(7, "Another seed, another corpus; the same seed, the same reports, however many.", low=0)
    skew: str = key("registry", "How common the sites are: as in a cancer registry, or equally.", choices=("registry", "uniform"))
    broken: float = key(0.0, "Share of records to damage on purpose, by turns in every way the format allows.", low=0, high=0.5)


@job(
    "make_corpus",
    Config,
    "Writes a corpus of synthetic pathology reports with gold site, histology and evidence.",
    examples=["records=100000 seed=7 output.path=corpus", "records=2000 broken=0.015 output.path=demo output.format=csv"],
)
def main(config: Config) -> None:
    from engine.sources.synthetic import CorpusConfig, Settings, write

    use(config.storage)
    settings = Settings(config.seed, config.text.median_words, config.text.sigma, config.skew, config.broken)
    corpus = CorpusConfig(config.output.path, config.records, settings, config.output.format, config.output.file_records)
    done = write(corpus)
    where, files = config.output.path, f"files: {done.files}"
    if not done.written:
        print(f"{where} already holds this corpus of {config.records:,} records, {files}; nothing to do")
        return
    rate = done.written / max(done.seconds, 1e-9)
    print(f"{where}: wrote {done.written:,} records in {done.seconds:.1f} s, {rate:,.0f} a second, {files}")


if __name__ == "__main__":
    main()
