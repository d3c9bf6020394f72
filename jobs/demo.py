"""`make demo`: codes synthetic reports and reads drawn radiographs with the shipped models, for a first look at the results."""

from dataclasses import dataclass

from engine.keys import build, key, same, section
from engine.models.options import options_of
from engine.models.run import shipped_system
from engine.records import CODES, ENTITIES, FINDINGS
from jobs import _config
from jobs._front import RESUMES, job
from jobs._run import run_config, schema

CODING, READING = shipped_system(CODES), shipped_system(FINDINGS)
IMAGES = 20
# The default evidence takes twice as long, too long for a first look.
QUICK = "pooling"
QUERIES = (
    (
        "Which sites, and what share of their reports needs no person? (DuckDB)",
        "SELECT site_code, count(*) AS reports, round(avg((decision = 'auto')::INT), 2) AS share_auto, "
        "round(avg(site_prob), 3) AS mean_prob\nFROM '{codes}' WHERE decision <> 'failed'\n"
        "GROUP BY site_code ORDER BY reports DESC LIMIT 8",
    ),
    (
        "Why must a person look? (DuckDB)",
        "SELECT reason, count(*) AS reports\nFROM (SELECT unnest(reasons) AS reason FROM '{codes}')\n"
        "GROUP BY reason ORDER BY reports DESC",
    ),
    (
        "How often is the code right? The synthetic reports come with the answer. (DuckDB)",
        "SELECT decision, count(*) AS reports, round(avg((site_code = site)::INT), 3) AS right_site\n"
        "FROM '{codes}' WHERE decision IN ('auto', 'review')\nGROUP BY decision ORDER BY decision",
    ),
)


@dataclass
class Folder:
    path: str = key("demo", "Folder for the corpus, the tables and the page.", path=True)


@dataclass
class Model(_config.Model):
    system: str = key(CODING, "The package of the coding system.")
    head: str | None = same(options_of(CODING), "model.head")


@dataclass
class Config:
    output: Folder = section(Folder)
    model: Model = section(Model)
    records: int = key(2000, "Number of synthetic reports.", low=20)
    seed: int = key(7, "Seed of the corpus.", low=0)


@job(
    "demo",
    Config,
    "Writes synthetic reports, codes them with the shipped model, queries the result and shows the evidence of twenty reports. "
    "Then it draws twenty radiographs, reads them, and shows what each answer is made of.",
    examples=["", "records=200 output.path=small_demo"],
    again=RESUMES,
)
def main(config: Config) -> None:
    """The steps of a first look."""
    from engine.models.entities.consult import finder
    from engine.pages.examples import Choice
    from engine.pipeline import run
    from engine.sources.synthetic import CorpusConfig, Radiographs, Settings, write
    from jobs._progress import reporter
    from jobs._summary import closing
    from jobs.evidence_page import write_page

    corpus, coded, page = (f"{config.output.path}/{name}" for name in ("corpus", "coded", "evidence.html"))
    print(f"1. {config.records:,} synthetic reports, some of them broken on purpose -> {corpus}")
    write(CorpusConfig(corpus, config.records, Settings(config.seed, broken=0.015)))

    print(f"2. Coding them, with the quick kind of evidence (explain.method=pooling) -> {coded}", flush=True)
    values = {
        "input": {"path": corpus, "id": "record_id", "keep": ["site", "histology", "facility"]},
        "output": {"path": coded},
        "model": vars(config.model),
        "explain": {"method": QUICK},
    }
    settings = run_config(build(schema(config.model.system), values))
    summary = run(settings, reporter())
    print(closing(summary))

    print("\n3. Three questions to the table")
    for title, query in QUERIES:
        show(title, query.format(codes=f"{summary.folder}/*.parquet".replace("'", "''")))

    print("\n4. The evidence, and the diseases, chemicals, parts of the body and cancers that the texts name", flush=True)
    found = finder(shipped_system(ENTITIES))
    shown = write_page(summary, settings.input, page, Choice(), "Twenty synthetic reports", found)
    print(f"{page}: {shown} reports with the words that decided; open it in your browser")

    images, read, seen = (f"{config.output.path}/{name}" for name in ("radiographs", "read", "radiographs.html"))
    print(f"\n5. {IMAGES} drawn radiographs, read by a model of real ones: see how it answers, not what -> {read}", flush=True)
    write(CorpusConfig(images, IMAGES, Radiographs(config.seed)))
    values = {
        "input": {"path": images, "id": "record_id"},
        "output": {"path": read},
        "model": {"system": READING},
        "cluster": {"actors": 1},
    }
    settings = run_config(build(schema(READING), values))
    summary = run(settings, reporter())
    print(closing(summary))
    shown = write_page(summary, settings.input, seen, Choice(), "Drawn radiographs")
    print(f"{seen}: {shown} radiographs with the concepts that each answer is the sum of, and the patches that it rests on")


def show(title: str, query: str) -> None:
    """Runs a query and prints it with its result."""
    import duckdb
    from rich.console import Console
    from rich.table import Table

    result = duckdb.sql(query)
    table = Table(*result.columns)
    for row in result.fetchall():
        table.add_row(*map(str, row))
    print(f"\n{title}\n\n{query}\n")
    console = Console()
    with console.capture() as drawn:
        console.print(table)
    # rich itself would end the process with 1 if nobody reads any more.
    print(drawn.get(), end="")


if __name__ == "__main__":
    main()
