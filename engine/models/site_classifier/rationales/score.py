"""The rationale bank of a training set: every rationale scored by models that have not seen its report, and judged by every rule.

The models are heads on cached token states of a frozen encoder, one for each fold, trained on the reports of the other folds
alone; what the encoder has seen before is another matter, see `BankConfig.plain`. What cannot be scored stands in the bank all
the same, with its reason. Beside the rationales of people stand those of a generator, if one is asked.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.encoders import attention_for, load_encoder
from engine.errors import ConfigError
from engine.models.base import ModelSpec, Say
from engine.models.code_task import Task
from engine.models.columns import list_values
from engine.models.run import records_of
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.config import LearnConfig
from engine.models.site_classifier.rationales import fold as of_fold
from engine.models.site_classifier.rationales.bank import BANK, VERDICT, Rule, folds, judged, rule
from engine.models.site_classifier.rationales.gather import HUMAN, Repeats, flag_held, flag_lonely, flag_unread, gathered
from engine.models.site_classifier.rationales.samples import SPANS, held_words, merged
from engine.models.site_classifier.rationales.synthetic import Generator, covered
from engine.models.site_classifier.states import encode, key_of
from engine.storage import is_s3, whole_file
from engine.storage.claim import Kind, claim

RULES = ("all", "drop_wrong", "at_most(0)", "at_most(0.05)", "at_most(0.1)", "at_most(0.2)", "top(0.25)", "top(0.5)", "top(0.75)")
ABOUT = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("generator_digest", pa.string()),
    pa.field("annotator", pa.string()),
    pa.field("spans", SPANS),
    pa.field("text", pa.string()),
]
TABLE = pa.schema([*(f.with_nullable(f.name not in ("record_id", "origin")) for f in BANK), *ABOUT, *VERDICT])
_KIND = Kind("rationale bank", "holds a bank of other data or settings ({changes}); choose a new folder")

# As `engine.training.folds.out_of_fold`.
OutOfFold = Callable[[str, pa.Schema, Sequence[int], Mapping[str, Any], str, Say], pa.Table]


@dataclass(frozen=True)
class Marked:
    """Labelled reports with their highlights: `examples` as `ReportSurvey` gives them, the texts of valid and test, and how many
    rationales are of no report."""

    examples: pa.Table
    repeats: Repeats
    unknown: int


@dataclass(frozen=True)
class BankConfig:
    """What is scored and how. `model` is the checkpoint whose encoder gives the states.

    A checkpoint's encoder was trained too, so a score is out of fold only where that training had none of these reports; with
    `plain` the states are those of the encoder as it was before, and the score is out of fold whatever the checkpoint saw.
    `head`, `learn` and `loop` (fields of `LoopConfig`) are those of the fold's models; `max_tokens` are read of each text. Every
    rule of `rules` comes with its random control.
    """

    task: str
    loop: Mapping[str, Any]
    model: str = "shipped"
    plain: bool = False
    head: str = "target"
    folds: int = 5
    seed: int = 7
    rules: tuple[str, ...] = RULES
    learn: LearnConfig = field(default_factory=lambda: LearnConfig(windows=4))
    max_tokens: int = 1024
    precision: str = "auto"
    threads: int = 0
    device: str = "cpu"


def score_rationales(
    config: BankConfig, output: str, say: Say, read: Callable[[], Marked], out_of_fold: OutOfFold, by: Generator | None = None
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Writes `<output>/rationale_bank/part-0.parquet`, a row for each rationale and rule, as `TABLE`; returns it with a summary.

    Args:
        read: reads the reports. out_of_fold: trains the models of the folds and asks them.
    Raises:
        ConfigError: the folder holds something else, there are no rationales, or the folds cannot be made.
        InputChanged: the reports are not those that the bank was begun with.
    """
    wanted = [rule(text) for text in config.rules]
    if config.folds < 2:
        raise ConfigError("folds: out of fold needs at least 2")
    marked = read()
    examples = marked.examples
    reports = examples.filter(pc.and_(pc.equal(examples["split"], "train"), pc.is_valid(examples[config.task])))
    if marked.unknown:
        say(f"{marked.unknown:,} rationales are of no report in the data")
    found = gathered(reports.to_pylist(), config.task, by)
    if not found:
        raise ConfigError("data.rationales: no report of train has a rationale; name their column, or a table of them")
    coder = _coder(config)
    flag_held(found, held_words(examples), marked.repeats, reports["pair"].to_pylist())
    flag_unread(found, reports["text"].to_pylist(), coder.tokenizer, config.max_tokens)
    labels, groups = reports[config.task].to_pylist(), reports["group"].to_pylist()
    fold = folds(labels, groups, config.folds, config.seed)
    folder = _claimed(config, coder, reports, found, output)
    target = folder / "rationale_bank" / "part-0.parquet"
    if not target.is_file():
        flag_lonely(found, labels, fold)
        scores = _scores(config, coder, reports, labels, fold, found, folder / "_work", out_of_fold, say)
        with whole_file(target) as part:
            pq.write_table(_judged(scores, found, _with_controls(wanted), config.seed), part)
    shutil.rmtree(folder / "_work", ignore_errors=True)
    table = pq.read_table(target)
    return table, summary(table)


def _scores(
    config: BankConfig,
    coder: SiteCoder,
    reports: pa.Table,
    labels: Sequence[str],
    fold: np.ndarray,
    found: Sequence[Mapping[str, Any]],
    work: Path,
    out_of_fold: OutOfFold,
    say: Say,
) -> pa.Table:
    """The scores of the rationales without a flaw, as `BANK`, in their order."""
    sound = [each for each in found if each["flaw"] is None]
    if config.plain:
        _unlearn(coder)
    else:
        say(
            "the encoder of model.path was trained too: where it has seen these reports, their scores are not out of fold; "
            "model.plain=true takes it as it was before"
        )
    names = [*reports["record_id"].to_pylist(), *(each["record_id"] for each in sound)]
    texts = [*reports["text"].to_pylist(), *(each["words"] for each in sound)]
    prepared = coder.prepare(records_of(names, texts))
    say(f"encoding {len(reports):,} reports and {len(sound):,} rationales")
    # The empty text has no token.
    nothing = np.empty(0, np.int32)
    size = encode(coder, prepared, work / of_fold.STATES, [key_of(nothing)]).width
    task = Task(config.task, tuple(sorted(set(labels))), tuple(Counter(labels)[label] for label in sorted(set(labels))))
    report = [each["report"] for each in sound]
    of_fold.write_texts(
        work,
        [*names, "(empty)"],
        [*list_values(prepared["input_ids"]), nothing],
        [*map(task.labels.index, [*labels, *(each["label"] for each in sound)]), -1],
        [*[None] * len(reports), *report, None],
        [*fold.tolist(), *fold[report].tolist(), -1] if sound else [*fold.tolist(), -1],
    )
    shape = replace(coder.config, head=config.head, tasks=(task,), paired=False)
    settings = {
        "learner": f"{of_fold.__name__}:learner",
        "answers": f"{of_fold.__name__}:answers",
        "model": shape.to_json(),
        "learn": asdict(replace(config.learn, seed=config.seed)),
        "loop": config.loop,
        "size": size,
        "runtime": {"work": str(work.absolute()), "threads": config.threads, "device": coder.device},
    }
    parts = sorted({int(fold[number]) for number in report})
    scores = out_of_fold("scores", of_fold.SCORES, parts, settings, str(work.absolute()), say)
    for number, accuracy in dict(zip(scores["fold"].to_pylist(), scores["accuracy"].to_pylist(), strict=True)).items():
        say(f"fold {number}: accuracy {accuracy:.3f} on the reports it has not seen")
    place = {name: row for row, name in enumerate(scores["record_id"].to_pylist())}
    return scores.select(BANK.names).take(pa.array([place[each["record_id"]] for each in sound], pa.int64()))


def _judged(scored: pa.Table, found: Sequence[Mapping[str, Any]], rules: Sequence[Rule], seed: int) -> pa.Table:
    """One row a rationale and rule. Each source is judged by itself, and the flawed ones are accepted by no rule.

    Nor is an abstractive one from which alone the classifier does not give the label. Both are set aside before a rule and its
    control count, so that these keep as many.
    """
    about = {each["record_id"]: each for each in found}
    says_other = [
        about[row["record_id"]]["text"] is not None and row["says"] != row["label"]
        for row in scored.select(["record_id", "says", "label"]).to_pylist()
    ]
    aside = scored.filter(pa.array(says_other, pa.bool_())).to_pylist()
    scored = scored.filter(pa.array([not other for other in says_other], pa.bool_()))
    source = np.array([about[name]["source"] for name in scored["record_id"].to_pylist()], dtype=object)
    rows: list[dict[str, Any]] = []
    for by in rules:
        for name in dict.fromkeys(source.tolist()):
            rows += judged(scored.filter(pa.array(source == name)), by, seed).to_pylist()
        flawed = (each for each in found if each["flaw"] is not None)
        verdict = {"rule": str(by), "accepted": False}
        rows += [{**row, **verdict, "reject_reason": "says_other"} for row in aside]
        rows += [
            {**{k: each[k] for k in ("record_id", "origin", "label")}, **verdict, "reject_reason": each["flaw"]}
            for each in flawed
        ]
    for row in rows:
        each = about[row["record_id"]]
        row |= {name: each[name] for name in ("source", "generator_digest", "annotator", "text")}
        row["spans"] = [{"start": start, "end": end} for start, end in each["spans"]]
    return pa.Table.from_pylist(rows, schema=TABLE)


def summary(table: pa.Table) -> list[dict[str, Any]]:
    """For each source and rule how many are kept, and of these the mean sufficiency, the share that alone is answered rightly,
    and the share of the characters marked by people in the same reports that they cover."""
    rows = table.to_pylist()
    marked: dict[str, set[tuple[int, int]]] = {}
    for row in rows:
        if row["source"] == HUMAN and row["sufficiency"] is not None:
            marked.setdefault(row["origin"], set()).update((span["start"], span["end"]) for span in row["spans"])
    # What two annotators marked counts once.
    human = {origin: merged(spans) for origin, spans in marked.items()}
    found = []
    for source, by in dict.fromkeys((row["source"], row["rule"]) for row in rows):
        mine = [row for row in rows if (row["source"], row["rule"]) == (source, by)]
        kept = [row for row in mine if row["accepted"]]
        extracted = [row for row in kept if row["spans"] and row["origin"] in human]
        coverage = [
            covered(human[row["origin"]], tuple((span["start"], span["end"]) for span in row["spans"])) for row in extracted
        ]
        found.append(
            {
                "source": source,
                "rule": by,
                "n": len(mine),
                "kept": len(kept),
                "sufficiency": _mean([row["sufficiency"] for row in kept]),
                "right_alone": _mean([row["says"] == row["label"] for row in kept]),
                "human_coverage": None if source == HUMAN else _mean(coverage),
            }
        )
    return found


def _mean(values: Sequence[Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _with_controls(rules: Sequence[Rule]) -> list[Rule]:
    """Each rule and, where it may leave something out, as many drawn at random."""
    return [each for one in rules for each in ([one] if one.name in ("all", "random") else [one, Rule("random", of=one)])]


def _coder(config: BankConfig) -> SiteCoder:
    options = {"method": "none", "checks": 0.0, "tasks": (), "max_tokens": config.max_tokens, "precision": config.precision}
    runtime = {"threads": config.threads, "device": config.device}
    found = load(ModelSpec("engine.models.site_classifier", config.model, options, runtime))
    if found.config.paired:
        raise ConfigError("model.path: a model that reads pairs of texts gives no states of a text alone")
    return found


def _unlearn(coder: SiteCoder) -> None:
    """Puts the encoder that the checkpoint began with in the place of its own."""
    own = next(coder.network.encoder.parameters())
    plain = load_encoder(coder.config.encoder, own.dtype, attention_for(coder.device))
    coder.network.encoder = plain.requires_grad_(False).to(own.device)


def _claimed(config: BankConfig, coder: SiteCoder, reports: pa.Table, found: Sequence[Mapping[str, Any]], output: str) -> Path:
    """Makes the folder this bank's own, or sees that it already is."""
    if is_s3(output):
        raise ConfigError("output.path: a rationale bank is written to a folder of this machine")
    texts = hashlib.sha256(repr([reports.select(["record_id", "text", "group", config.task]).to_pydict(), list(found)]).encode())
    settings = {name: value for name, value in asdict(config).items() if name not in ("threads", "device")}
    folder = Path(output).expanduser()
    claim(str(folder), {**settings, "digest": coder.digest}, _KIND, texts.hexdigest())
    return folder
