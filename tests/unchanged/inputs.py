"""What both trees read beside the synthetic reports that each makes for itself: samples of real data, else text made up here."""

from pathlib import Path

import polars as pl

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REPORTS = SHARED / "pathology_tcga" / "reports_ocr.parquet"
SENTENCES = SHARED / "ner_en" / "NCBI-disease.parquet"

_DISEASES = ("lung cancer", "sepsis", "renal failure", "acute gastritis", "anaemia", "breast carcinoma", "asthma")
_DRUGS = ("aspirin", "cisplatin", "folic acid", "iodine", "morphine")
_SENTENCES = (
    "The patient with {disease} was given {drug} .",
    "No sign of {disease} was seen after {drug} .",
    "{disease} had been known for two years .",
    "Treated with {drug} , the {disease} went back .",
    "The visit was without findings .",
)


def write(folder: Path, reports: int, few: int, sentences: int) -> bool:
    """Writes `tcga.parquet` and `tcga_few.parquet`, where there are real reports, and `annotated/`; tells whether there are."""
    folder.mkdir(parents=True)
    if REPORTS.is_file():
        every = pl.read_parquet(REPORTS).sort("report_id")
        spread(every, reports).write_parquet(folder / "tcga.parquet")
        spread(every, few).write_parquet(folder / "tcga_few.parquet")
    (folder / "annotated").mkdir()
    shares = {"train": sentences // 2, "valid": sentences // 4, "test": sentences // 4}
    if SENTENCES.is_file():
        every = pl.read_parquet(SENTENCES).sort("sentence_id")
        parts = [spread(every.filter(pl.col("split") == split), count) for split, count in shares.items()]
        pl.concat(parts).write_parquet(folder / "annotated" / "sentences.parquet")
    else:
        first = 0
        for split, count in shares.items():
            (folder / "annotated" / f"{split}.iob2").write_text("\n".join(map(iob2, range(first, first + count))), "utf-8")
            first += count
    return REPORTS.is_file()


def spread(table: pl.DataFrame, count: int) -> pl.DataFrame:
    """So many rows, evenly from the whole table."""
    return table.gather_every(max(1, table.height // count)).head(count)


def iob2(number: int) -> str:
    """A made-up sentence, a token and its tag a line; another one for each number."""
    words = {"disease": _DISEASES[number // 5 % 7], "drug": _DRUGS[number // 35 % 5]}
    lines = [f"Visit\tO\n{number}\tO"]
    for token in _SENTENCES[number % 5].split():
        name = token.strip("{}")
        if name == token:
            lines.append(f"{token}\tO")
        else:
            parts = words[name].split()
            lines += [f"{part}\t{'I' if at else 'B'}-{name.capitalize()}" for at, part in enumerate(parts)]
    return "\n".join(lines) + "\n"
