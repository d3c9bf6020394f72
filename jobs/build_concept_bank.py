"""Makes a bank of concepts from reports: `python -m jobs.build_concept_bank data.path=reports.parquet output.path=bank`."""

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

from engine.errors import ConfigError
from engine.keys import MISSING, key, same, section
from engine.pipeline.config import ClusterConfig
from engine.sources import InputConfig
from engine.storage import S3Config, use_s3
from jobs._front import RESUMES, job
from jobs._ray_job import check_paths

# Parts of a table, of some ten seconds each, that one process does as soon as Ray would.
_ALONE = 4


@dataclass
class Data:
    path: str = key(
        MISSING, "Reports, of training patients only: Parquet, CSV, JSONL or text files, a folder or a glob.", path=True
    )
    text: str = key("text", "Column with the text of the report. Not used for text files.")
    format: str | None = same(InputConfig, "format")
    encoding: str = same(InputConfig, "encoding")
    delimiter: str | None = same(InputConfig, "delimiter")
    quoting: str = same(InputConfig, "quoting")
    escape: str | None = same(InputConfig, "escape")


@dataclass
class Bank:
    splitter: str = key(
        "engine.text.chest.observations:observations",
        "Function, as module:function, that takes a report and returns its observations as a list of texts.",
    )
    url: str | None = key(
        None,
        "Base URL of an OpenAI-compatible endpoint, such as http://localhost:8000/v1, whose language model is asked for the "
        "observations instead of bank.splitter. The texts of all reports are sent to it.",
    )
    llm: str | None = key(None, "Name of the language model at bank.url.")
    embedder: str = key("pkg:minilm", "Embedder of concepts and prompts: pkg:minilm, path:<folder> or hub:<id>@<commit>.")
    instruction: str = key("", "Text that the embedder expects in front of every concept and prompt.")
    min_reports: int = key(
        1,
        "Reports that an observation must be in. The bank holds words of the reports, and rare ones may tell of a patient.",
        low=1,
    )


@dataclass
class Output:
    path: str = key(MISSING, "Folder for concept_bank/part-0.parquet, or that of the bank to continue.", path=True)


@dataclass
class Model:
    system: str = key(MISSING, "The package of the system that the bank is for.")


@dataclass
class Cluster:
    address: str | None = same(ClusterConfig, "address")


@dataclass
class Config:
    data: Data = section(Data)
    output: Output = section(Output)
    bank: Bank = section(Bank)
    model: Model = section(Model)
    cluster: Cluster = section(Cluster)
    storage: S3Config = section(S3Config)


@job(
    "build_concept_bank",
    Config,
    "Makes a bank of concepts from reports, for models whose answers about images are sums over named concepts: splits every "
    "report into observations, counts equal ones, embeds each once, and measures how well the embedder tells a finding from its "
    "absence.",
    examples=[
        "data.path=reports.parquet data.text=report output.path=bank",
        "data.path='reports/*.csv' bank.min_reports=5 output.path=s3://bucket/bank",
    ],
    again=RESUMES,
)
def main(config: Config) -> None:
    """Makes both tables and prints what they hold."""
    from engine.models.base import SideTable, module_of
    from engine.pipeline.tables import make
    from engine.sources.labelled import Labelled
    from engine.text.chest.extractor import ExtractorConfig

    use_s3(config.storage)
    output = config.output.path
    check_paths({"data.path": config.data.path, "output.path": output})
    build = module_of(config.model.system, "concepts")
    if build is None:
        raise ConfigError(f"{config.model.system} has no bank of concepts", "model.system")

    def made(table: SideTable, settings: dict) -> str:
        with _ray(config.cluster.address, len(table.parts)):
            return make(table, settings, output, lambda line: print(line, file=sys.stderr, flush=True))

    values = asdict(config.data)
    names = {name: f"data.{name}" for name in values}
    bank = config.bank
    if (bank.url is None) != (bank.llm is None):
        raise ConfigError("bank.url and bank.llm: give both, or neither")
    extractor = None if bank.url is None else ExtractorConfig(bank.url, bank.llm)
    observations = made(*build.observation_table(Labelled(**values, names=names), bank.splitter, extractor))
    path = made(*build.bank_table(observations, bank.embedder, bank.instruction, bank.min_reports))
    if lost := build.unreadable(observations):
        print(f"warning: {lost:,} reports have no text that can be read and are left out", file=sys.stderr)
    made_bank = build.read_bank(path)
    area = made_bank.facts["negation_auc"]
    print(f"{len(made_bank.texts):,} concepts, embedded by {bank.embedder}, sha256 {made_bank.sha256[:12]}...")
    print(f"{bank.embedder} tells a finding from its absence with an area under the ROC curve of {area:.3f}.")
    if area < build.ENOUGH:
        print(
            f"warning: that is below {build.ENOUGH}, so answers without training would mean little; choose another bank.embedder",
            file=sys.stderr,
        )
    print(f"Bank: {path}")


def _ray(address: str | None, parts: int) -> AbstractContextManager[None]:
    """Ray, where the work is worth its start."""
    if address is None and parts <= _ALONE:
        return nullcontext()
    # Before the start of Ray, which sets how much this logs.
    import ray.data  # noqa: F401

    from engine.pipeline.cluster import connected

    return connected(ClusterConfig(address=address))


if __name__ == "__main__":
    main()
