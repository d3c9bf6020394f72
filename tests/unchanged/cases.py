"""The commands that both trees are given, each in a folder of its own side by side: `coded` below is `<output>/old/coded` for the
one and `<output>/new/coded` for the other, `../inputs` what both read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXPLAIN_METHODS = (
    *("integrated_gradients", "fused", "gradient_x_input", "grad_l2", "attnlrp", "occlusion", "lime", "kernel_shap"),
    *("attention", "pooling", "random"),
)
FULL = {"demo": 200, "tcga": 300, "tokens": 512, "few": 6, "entities": 30, "explained": 3, "labelled": 250, "sentences": 240}
QUICK = {"demo": 40, "tcga": 12, "tokens": 256, "few": 2, "entities": 6, "explained": 2, "labelled": 100, "sentences": 160}
EVIDENCE = Path(__file__).with_name("evidence.py")

_RUN = ("cluster.actors=1", "cluster.threads=1", "cluster.precision=fp32", "deterministic=true")
_ALONE = ("threads=1", "precision=fp32")
_TRAIN = ("cluster.threads=1", "cluster.precision=fp32", "train.batch=12", "train.rate=3e-3", "train.seed=7")
_MEASURE = ("baseline=false", "evidence_sample=2")


@dataclass(frozen=True)
class Case:
    """One command, whose results lie in the folder `name`.

    `part` is what `--only` chooses by, `after` the cases whose results it reads. Where a tree no longer has the file `gone`, it
    gets the words `instead`. `quick`: --quick has it too. `tcga`: it needs the real reports. `said`: what it prints is compared
    too.
    """

    part: str
    name: str
    words: Sequence[str]
    after: Sequence[str] = ()
    quick: bool = True
    tcga: bool = False
    said: bool = False
    gone: str | None = None
    instead: Sequence[str] = ()

    def spelled(self, tree: Path) -> Sequence[str]:
        """The command as that tree knows it."""
        return self.words if self.gone is None or (tree / self.gone).exists() else self.instead


def cases(sizes: dict[str, int]) -> list[Case]:
    """All commands, those that others read before those."""
    demo, few = sizes["demo"], sizes["few"]
    head = (
        *("data.path=labelled", "data.rationales=evidence_site", "learn.windows=2", "learn.budget=4096", "train.epochs=2"),
        *("train.batch=12", "train.rate=1e-3", "train.seed=7", *_MEASURE),
    )
    return [
        Case("corpus", "corpus", _corpus("corpus", demo, 7, "broken=0.1")),
        Case("corpus", "gold", _corpus("gold", demo, 7)),
        Case("corpus", "few", _corpus("few", few, 9)),
        Case("corpus", "texts", _corpus("texts", sizes["entities"], 13)),
        Case("corpus", "labelled", _corpus("labelled", sizes["labelled"], 5, "text.median_words=40")),
        Case(
            *("run", "coded"),
            (*_read("code_reports", "corpus", "coded"), "input.keep=[site,histology,facility]", *_RUN),
            after=["corpus"],
        ),
        Case(
            *("run", "coded_dpla"),
            (*_read("code_reports", "few", "coded_dpla"), "model.head=dpla", "explain.checks_fraction=1", *_RUN),
            after=["few"],
            quick=False,
        ),
        Case(
            *("run", "coded_tcga"),
            (*_tcga("code_reports", "coded_tcga"), f"text.max_tokens={sizes['tokens']}", *_RUN),
            tcga=True,
            quick=False,
        ),
        Case("evidence", "evidence", (str(EVIDENCE), "few", "evidence", str(sizes["tokens"])), after=["few"]),
        Case(
            *("entities", "found"),
            (*_read("extract_entities", "texts", "found"), *_RUN),
            after=["texts"],
        ),
        Case(
            *("entities", "found_every"),
            (
                *_read("extract_entities", "few", "found_every"),
                *("explain.every=true", "entities.questions={Device: 'Which implants or instruments are named?'}", *_RUN),
            ),
            after=["few"],
            quick=False,
        ),
        Case(
            *("entities", "found_tcga"),
            (*_tcga("extract_entities", "found_tcga", "tcga_few"), f"text.max_tokens={sizes['tokens']}", *_RUN),
            tcga=True,
            quick=False,
        ),
        *(_explained(f"explained_{method}", "coded", method, sizes, at < 1) for at, method in enumerate(EXPLAIN_METHODS)),
        _explained("explained_dpla", "coded_dpla", "integrated_gradients", sizes, False),
        Case(
            *("evaluate", "evaluated"),
            (
                *("jobs.evaluate", "run=coded", "gold=gold", "output.path=evaluated", "id=record_id", "group=patient_id"),
                *("slices=[facility,style]", "text=text", "spans={site: evidence_site, histology: evidence_histology}"),
                *("rounds=200", "model.path=shipped"),
            ),
            after=["coded", "gold"],
            said=True,
        ),
        Case(
            *("evaluate", "evaluated_tcga"),
            (
                *("jobs.evaluate", "run=coded_tcga", "gold=../inputs/tcga.parquet", "output.path=evaluated_tcga"),
                *("id=report_id", "group=patient_id", "labels={site: icdo3_topography_3, histology: icdo3_histology}"),
                *("slices=[split]", "rounds=200", "model.path=shipped"),
            ),
            after=["coded_tcga"],
            said=True,
            tcga=True,
            quick=False,
        ),
        Case(
            *("calibrate", "calibrated"),
            (
                *("jobs.calibrate", "data.path=labelled", "data.id=record_id", "data.group=patient_id", "target=0.6"),
                *("output.path=calibrated", "method=isotonic", *_ALONE),
            ),
            after=["labelled"],
            said=True,
        ),
        Case(
            *("calibrate", "calibrated_tcga"),
            (
                *("jobs.calibrate", "data.path=../inputs/tcga.parquet", "data.id=report_id", "data.group=patient_id"),
                *("data.labels={site: icdo3_topography_3, histology: icdo3_histology}", "target=0.9"),
                *(f"max_tokens={sizes['tokens']}", "output.path=calibrated_tcga", *_ALONE),
            ),
            said=True,
            tcga=True,
            quick=False,
        ),
        Case(
            *("train", "trained_site"),
            (
                *("jobs.train", "model=site_classifier", "data.path=labelled", "output.path=trained_site", "model.rank=4"),
                *("model.window=62", "learn.windows=1", "train.epochs=3", "learn.budget=2048", *_TRAIN, *_MEASURE),
            ),
            after=["labelled"],
            said=True,
        ),
        Case(
            *("train", "trained_marked"),
            (
                *("jobs.train", "model=site_classifier", "data.path=labelled", "output.path=trained_marked", "model.rank=4"),
                *("model.encoder=tiny:bert", "model.window=30", "model.head=target", "data.rationales=evidence_site"),
                *("data.samples=[rationale,complement]", "learn.marking=0.5", "learn.ratio=0.5", "data.synthetic=40"),
                *("train.epochs=2", "train.patience=1", "learn.budget=2048", *_TRAIN, *_MEASURE),
            ),
            after=["labelled"],
            said=True,
            quick=False,
        ),
        *(
            Case(
                *("train", f"trained_{mode}"),
                (
                    *("jobs.train", "model=prompt_mrc", "data.path=../inputs/annotated", f"output.path=trained_{mode}"),
                    *(f"model.mode={mode}", "model.rank=4", "model.window=64", "model.overlap=16", "train.epochs=4"),
                    *("learn.budget=2048", *_TRAIN),
                ),
                said=True,
                quick=mode == "hybrid",
            )
            for mode in ("hybrid", "tagger")
        ),
        Case(
            *("head", "trained_head"),
            (
                *("jobs.train_head", "model.path=shipped", "model.heads=[target]", "output.path=trained_head", *head),
                *("learn.max_tokens=256", *_ALONE),
            ),
            after=["labelled"],
            gone="jobs/train_head.py",
            instead=(
                *("jobs.train", "model.base=shipped", "model.freeze_encoder=true", "model.head=target"),
                *("output.path=trained_head", *head, "learn.max_tokens=256", "cluster.threads=1", "cluster.precision=fp32"),
            ),
        ),
    ]


def _corpus(name: str, records: int, seed: int, *more: str) -> tuple[str, ...]:
    return ("jobs.make_corpus", f"output.path={name}", f"records={records}", f"seed={seed}", *more)


def _read(job: str, reports: str, output: str) -> tuple[str, ...]:
    return (f"jobs.{job}", f"input.path={reports}", "input.id=record_id", f"output.path={output}")


def _tcga(job: str, output: str, sample: str = "tcga") -> tuple[str, ...]:
    return (f"jobs.{job}", f"input.path=../inputs/{sample}.parquet", "input.id=report_id", f"output.path={output}")


def _explained(name: str, run: str, method: str, sizes: dict[str, int], quick: bool) -> Case:
    words = (
        *("jobs.explain", f"run={run}", f"output.path={name}", f"explain.method={method}"),
        *(f"explain.sample={sizes['explained']}", "explain.steps=6", "explain.samples=64", "explain.perturbations=2"),
        *(f"explain.units={'sentence' if method in ('lime', 'kernel_shap') else 'word'}", "explain.faithfulness=0.5"),
        *("explain.stability=0.5", *_RUN),
    )
    return Case("explain", name, words, after=[run], quick=quick)
