"""Writes synthetic reports with gold codes and evidence: `python -m jobs.make_corpus records=100000 output.path=corpus`; or
texts that are not reportable, against which to measure what a coder makes of them: `corpus=unreportable`."""

from dataclasses import dataclass

from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from jobs._front import RESUMES, job
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
    corpus: str = key(
        "reports",
        "What to write: pathology reports with gold codes, or texts of which none states a reportable tumour, in twenty kinds by "
        "turns (column `kind`): noise of scanners, letters, benign findings, other languages.",
        choices=("reports", "unreportable"),
    )
    records: int = key(2000, "How many reports or texts.", low=1)
    seed: int = key(7, "Another seed, another corpus; the same seed, the same reports, however many.", low=0)
    skew: str = key("registry", "How common the sites are: as in a cancer registry, or equally.", choices=("registry", "uniform"))
    broken: float = key(0.0, "Share of records to damage on purpose, by turns in every way the format allows.", low=0, high=0.5)


@job(
    "make_corpus",
    Config,
    "Writes a corpus of synthetic pathology reports with gold site, histology and evidence, or of texts that are not reportable.",
    examples=[
        "records=100000 seed=7 output.path=corpus",
        "records=2000 broken=0.015 output.path=demo output.format=csv",
        "corpus=unreportable records=2000 output.path=unreportable",
    ],
    again=RESUMES,
)
def main(config: Config) -> None:
    from engine.sources.synthetic import CorpusConfig, Settings, Unreportable, write

    use(config.storage)
    if config.corpus == "unreportable":
        _refuse_keys_of_reports(config)
        settings = Unreportable(config.seed)
    else:
        settings = Settings(config.seed, config.text.median_words, config.text.sigma, config.skew, config.broken)
    corpus = CorpusConfig(config.output.path, config.records, settings, config.output.format, config.output.file_records)
    done = write(corpus)
    where, files = config.output.path, f"files: {done.files}"
    if not done.written:
        print(f"{where} already holds this corpus of {config.records:,} records, {files}; nothing to do")
        return
    rate = done.written / max(done.seconds, 1e-9)
    print(f"{where}: wrote {done.written:,} records in {done.seconds:.1f} s, {rate:,.0f} a second, {files}")


def _refuse_keys_of_reports(config: Config) -> None:
    set_keys = {"text": config.text != Text(), "skew": config.skew != Config.skew, "broken": config.broken != Config.broken}
    if any(set_keys.values()):
        names = ", ".join(name for name, is_set in set_keys.items() if is_set)
        raise ConfigError(f"{names}: only for corpus=reports; leave it out with corpus=unreportable")


if __name__ == "__main__":
    main()
