"""Explains the answers of a finished run: `python -m jobs.explain run=coded output.path=explained explain.sample=200`."""

from dataclasses import dataclass

from engine.explain.settings import METHOD_NAMES
from engine.keys import MISSING, key, section
from jobs._config import Cluster, Output
from jobs._front import RESUMES, job
from jobs._storage import Storage


@dataclass
class Input:
    path: str | None = key(
        None,
        "Where the reports are now: the run's input in a new place, or other files with some of its reports; null is where the "
        "run read them. How they are read is the run's.",
        path=True,
    )


@dataclass
class Model:
    path: str = key("shipped", "Checkpoint that the run used; 'shipped' is the model that comes along.", path=True)


@dataclass
class Explain:
    method: str = key("integrated_gradients", "How answers are explained; one method a run.", choices=METHOD_NAMES)
    sample: int | None = key(
        None,
        "How many of the run's records are explained, chosen by id and seed; null is all. The others are not_applicable.",
        low=1,
    )
    tasks: list[str] = key([], "Tasks to explain, or types of entities; [] is all of the run's.")
    targets: dict[str, str] = key({}, "A code to explain in place of the run's answer, such as {site: C50}; not for entities.")
    units: str = key(
        "word", "What gets a score; lime and kernel_shap take long reports by sentence only.", choices=("word", "sentence")
    )
    spans: int = key(5, "Most selected spans of a target.", low=1, high=50)
    max_units: int = key(512, "Most units kept of a target, the strongest; what they leave is told in weight_dropped.", low=1)
    faithfulness: float = key(
        0.1, "Share of explained records measured by erasing, beside random units; some 60 predictions each.", low=0.0, high=1.0
    )
    stability: float = key(
        0.02, "Share of explained records that are explained again as changed copies, to see what stays.", low=0.0, high=1.0
    )
    erasure: str = key(
        "mask", "What erasing does to a unit when faithfulness is measured; for entities mask alone.", choices=("mask", "delete")
    )
    baseline: str = key("default", "What gradients start from.", choices=("default", "mask", "zero"))
    steps: int = key(50, "Points of integrated gradients.", low=1)
    samples: int = key(0, "Copies for lime and kernel_shap; 0 is four for each unit, at least 64.", low=0)
    perturbations: int = key(8, "Changed copies for stability and for fused.", low=1)
    perturb_share: float = key(0.1, "Share of the units that each copy masks.", low=0.001, high=0.999)
    seed: int = key(0, "Seed of the sample and of every draw.", low=0)


@dataclass
class ExplainCluster(Cluster):
    precision: str = key(
        "fp32",
        "Arithmetic of the encoder; in bf16 gradients are coarse and a close answer may flip.",
        choices=("auto", "fp32", "bf16"),
    )


@dataclass
class Config:
    run: str = key(
        MISSING, "Folder of the finished run, the output.path of jobs.code_reports or jobs.extract_entities.", path=True
    )
    output: Output = section(Output)
    input: Input = section(Input)
    model: Model = section(Model)
    explain: Explain = section(Explain)
    cluster: ExplainCluster = section(ExplainCluster)
    storage: Storage = section(Storage)
    deterministic: bool = key(False, "The same bits whatever the batches and shards: slower, each report goes alone.")
    max_failed: float = key(1.0, "Share of failed records above which a finished run ends with exit code 4.", low=0.0, high=1.0)


@job(
    "explain",
    Config,
    "Explains the answers of a finished run, or of a sample of it, by one method: one row a record in <output.path>/explanations "
    "with the score of every unit, and measures of the explanation. The same command again continues where it stopped.",
    examples=[
        "run=coded output.path=explained explain.sample=200",
        "run=coded output.path=shap explain.method=kernel_shap explain.units=sentence explain.sample=30 explain.faithfulness=1",
        "run=coded input.path=these.parquet model.path=my_model explain.targets='{site: C50}' output.path=why_not_breast",
    ],
    again=RESUMES,
)
def main(config: Config) -> None:
    """Runs the engine over the run's input and tells what came of it."""
    from jobs._explain import run_config
    from jobs._run import run_and_tell

    run_and_tell(run_config(config))


if __name__ == "__main__":
    main()
