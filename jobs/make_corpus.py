"""Writes synthetic reports with gold codes and evidence: `python -m jobs.make_corpus records=100000 output.path=corpus`; with
`corpus=unreportable` texts that are not reportable, to measure what a coder does with them; with `corpus=dermatology` Chinese
records with gold entities; with `corpus=radiographs` chest radiographs with known findings, and their reports."""

from dataclasses import dataclass, replace
from operator import attrgetter

from engine.errors import ConfigError
from engine.keys import extract, key, keys_of, same, section
from engine.sources.synthetic import CorpusConfig, Dermatology, Radiographs, Settings, Unreportable, write
from engine.storage import S3Config, use_s3
from jobs._front import RESUMES, job

CORPORA = {"reports": Settings, "unreportable": Unreportable, "dermatology": Dermatology, "radiographs": Radiographs}


@dataclass
class Output:
    path: str = same(CorpusConfig, "output.path")
    format: str = same(CorpusConfig, "output.format")
    file_records: int = same(CorpusConfig, "output.file_records")


@dataclass
class Text:
    median_words: float = same(Settings, "text.median_words")
    sigma: float = same(Settings, "text.sigma")


@dataclass
class Noise:
    left_out: float = same(Radiographs, "noise.left_out")
    hedged: float = same(Radiographs, "noise.hedged")
    copied: float = same(Radiographs, "noise.copied")


@dataclass
class Marker:
    finding: str | None = same(Radiographs, "marker.finding")
    positives: float = same(Radiographs, "marker.positives")
    negatives: float = same(Radiographs, "marker.negatives")


@dataclass
class Config:
    output: Output = section(Output)
    text: Text = section(Text)
    noise: Noise = section(Noise)
    marker: Marker = section(Marker)
    storage: S3Config = section(S3Config)
    corpus: str = key(
        "reports",
        "What to write: pathology reports with gold codes; texts without a reportable tumour, of twenty kinds in turn (column "
        "`kind`), such as scanner noise, letters, benign findings and other languages; Chinese records of outpatients with "
        "atopic dermatitis, with gold entities (column `spans`), which extractors can be trained on; or frontal chest "
        "radiographs with known signs of the 14 CheXpert findings, their boxes, and reports.",
        choices=tuple(CORPORA),
    )
    records: int = same(CorpusConfig, "records")
    seed: int = same(Settings, "seed")
    skew: str = same(Settings, "skew")
    broken: float = same(Settings, "broken")
    pixels: int = same(Radiographs, "pixels")
    studies: float = same(Radiographs, "studies")
    prevalence: float = same(Radiographs, "prevalence")


@job(
    "make_corpus",
    Config,
    "Writes a corpus of synthetic pathology reports with gold site, histology and evidence, of texts that are not reportable, "
    "of Chinese records with gold entities, or of chest radiographs with known findings.",
    examples=[
        "records=100000 seed=7 output.path=corpus",
        "records=2000 broken=0.015 output.path=demo output.format=csv",
        "corpus=unreportable records=2000 output.path=unreportable",
        "corpus=dermatology records=5000 output.path=dermatology",
        "corpus=radiographs records=2000 pixels=320 output.path=radiographs output.format=files",
    ],
    again=RESUMES,
)
def main(config: Config) -> None:
    use_s3(config.storage)
    kind = CORPORA[config.corpus]
    _refuse_other_keys(config, kind)
    settings = extract(kind, config)
    done = write(replace(extract(CorpusConfig, config), settings=settings))
    where, files = config.output.path, f"files: {done.files}"
    if not done.written:
        print(f"{where} already holds this corpus of {config.records:,} records, {files}; nothing to do")
        return
    rate = done.written / max(done.seconds, 1e-9)
    print(f"{where}: wrote {done.written:,} records in {done.seconds:.1f} s, {rate:,.0f} a second, {files}")


def _refuse_other_keys(config: Config, kind: type) -> None:
    """Refuses what only other corpora take."""
    own = {item.name for item in keys_of(kind)}
    others = {item.name: item for other in CORPORA.values() for item in keys_of(other) if item.name not in own}
    wrong = ", ".join(name for name, item in others.items() if attrgetter(name)(config) != item.default)
    if wrong:
        raise ConfigError(f"{wrong}: not for corpus={config.corpus}; leave it out")


if __name__ == "__main__":
    main()
