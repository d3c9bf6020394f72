"""Audits a model whose answers are sums over concepts: `python -m jobs.audit_concepts data.path=... output.path=audit`."""

import json
import sys
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from engine.models.base import ModelSpec, module_of
from engine.models.findings.studies import StudyData
from engine.storage import S3Config, storage_for, use_s3
from jobs._front import job

PAGE, VALUES = "audit.html", "audit.json"


@dataclass
class Output:
    path: str = key(MISSING, "Folder for the page and its figures; a new one.", path=True)


@dataclass
class Model:
    system: str = key(MISSING, "The package of the system that the model belongs to.")
    path: str = key("shipped", "Checkpoint folder of the model to audit; 'shipped' is the included one.", path=True)


@dataclass
class Config:
    output: Output = section(Output)
    model: Model = section(Model)
    data: StudyData = section(StudyData)
    storage: S3Config = section(S3Config)
    part: str | None = key("test", "Split of the studies that are audited; null: all of them.")
    findings: list[str] = key([], "Findings to audit; [] are all that have both cases and others.")
    remove: list[str] = key(
        [],
        "Parts of concepts' texts, such as [marker,wire]: what would the answers be if no image differed in those concepts? "
        "[]: the first concept of each audit is removed.",
    )
    rounds: int = key(1000, "Resamples, by patient, for the intervals.", low=10)
    threads: int = key(0, "CPU threads; 0 leaves it to torch.", low=0)
    device: str = key("cpu", "Where the model runs.", choices=("cpu", "cuda"))


def _module(package: str) -> Any:
    module = module_of(package, "auditing")
    if module is None:
        raise ConfigError(f"model.system: {package} cannot be audited; its answers are no sums over concepts")
    return module


@job(
    "audit_concepts",
    Config,
    "Audits a model whose answers are sums over concepts, on labelled image studies: which concepts a label stands for in "
    "the data, in which groups of alike images the model does worse and what those show more than their neighbours, and how its "
    "answers change when images are made alike in a concept. Writes a page and the same figures as JSON.",
    examples=[
        "data.path=labelled.parquet output.path=audit",
        "model.path=my_model data.path=labelled.parquet part=null findings=[Pneumonia] remove=[marker] output.path=audit",
    ],
)
def main(config: Config) -> None:
    """Audits, and writes the page."""
    from engine.pages.audit import page

    use_s3(config.storage)
    folder = config.output.path.rstrip("/")
    for name in (PAGE, VALUES):
        if storage_for(folder).stat(f"{folder}/{name}") is not None:
            raise ConfigError(f"output.path: {folder}/{name} exists; name a new folder")
    module, runtime = _module(config.model.system), {name: getattr(config, name) for name in ("device", "threads")}
    spec = ModelSpec(config.model.system, config.model.path, {}, runtime)
    audit = module.run(spec, config, lambda line: print(line, file=sys.stderr, flush=True))
    for name, text in ((PAGE, page(audit)), (VALUES, json.dumps(_without_pictures(audit), indent=1))):
        with storage_for(folder).writer(f"{folder}/{name}") as file:
            file.write(text.encode())
    for label in audit["labels"]:
        first = ", ".join(each["text"] for each in label["data"][:3])
        low = sum(1 for cluster in label["clusters"] if cluster["partner"])
        print(
            f"{label['name']}: {label['positives']:,} with it, {label['negatives']:,} without; first concepts: {first}; "
            f"{low} groups lower"
        )
    print(f"Page: {folder}/{PAGE}")


def _without_pictures(values: Any) -> Any:
    """The same figures without the images."""
    if isinstance(values, dict):
        return {name: _without_pictures(value) for name, value in values.items() if name != "thumbnails"}
    return [_without_pictures(value) for value in values] if isinstance(values, list) else values


if __name__ == "__main__":
    main()
