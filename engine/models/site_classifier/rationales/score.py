"""The rationale bank of a training set: every rationale scored by models that have not seen its report, and judged by every rule.

The models are heads on cached token states of a frozen encoder, one for each fold, trained on the reports of the other folds
alone; what the encoder has seen before is another matter, see `BankConfig.plain`. What cannot be scored stands in the bank all
the same, with its reason. Beside the rationales of people stand those of a generator, if one is asked.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from engine.encoders import attention_for, load_encoder
from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.models.run import PAIR
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.cached import HeadLearner, States, encode
from engine.models.site_classifier.config import ClassifierConfig, Task
from engine.models.site_classifier.learner import Examples, LearnConfig
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.rationales.bank import BANK, VERDICT, Rule, bank, folds, judged, rule
from engine.models.site_classifier.rationales.samples import held_words, merged, rationales, same_words, unfit
from engine.models.site_classifier.rationales.synthetic import Generator, covered, proposed
from engine.sources.labelled.values import SPANS
from engine.storage import is_s3
from engine.text.tokens import tokenize
from engine.training.data import DataConfig, load_examples, survey
from engine.training.finish import Say, records_of
from engine.training.fit import STATE
from engine.training.loop import LoopConfig, Worker, train
from engine.training.repeats import Repeats
from engine.training.site_classifier import tokenized

HUMAN = "human"
RULES = ("all", "drop_wrong", "at_most(0)", "at_most(0.05)", "at_most(0.1)", "at_most(0.2)", "top(0.25)", "top(0.5)", "top(0.75)")
ABOUT = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("generator_digest", pa.string()),
    pa.field("annotator", pa.string()),
    pa.field("spans", SPANS),
    pa.field("text", pa.string()),
]
TABLE = pa.schema([*(f.with_nullable(f.name not in ("record_id", "origin")) for f in BANK), *ABOUT, *VERDICT])


@dataclass(frozen=True)
class BankConfig:
    """What is scored and how. `model` is the checkpoint whose encoder gives the states, `task` one of `data.labels`.

    A checkpoint's encoder was trained too, so a score is out of fold only where that training had none of these reports; with
    `plain` the states are those of the encoder as it was before, and the score is out of fold whatever the checkpoint saw.
    `head` and `loop` are those of the fold's models; `max_tokens` are read of each text. Every rule of `rules` comes with its
    random control.
    """

    data: DataConfig
    task: str
    model: str = "shipped"
    plain: bool = False
    head: str = "target"
    folds: int = 5
    seed: int = 7
    rules: tuple[str, ...] = RULES
    learn: LearnConfig = field(default_factory=lambda: LearnConfig(windows=4))
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=5, batch=24, rate=1e-3))
    max_tokens: int = 1024
    precision: str = "auto"
    threads: int = 0
    device: str = "cpu"


def score_rationales(
    config: BankConfig, output: str, say: Say, by: Generator | None = None
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Writes `<output>/rationale_bank/part-0.parquet`, a row for each rationale and rule, as `TABLE`; returns it with a summary.

    Raises:
        ConfigError: the folder holds something else, there are no rationales, or the folds cannot be made.
    """
    wanted = [rule(text) for text in config.rules]
    if config.task not in config.data.labels or config.task in config.data.multi_label:
        raise ConfigError(f"task: '{config.task}' must be a task of data.labels that has one code a report")
    if config.folds < 2:
        raise ConfigError("folds: out of fold needs at least 2")
    known = survey(replace(config.data, samples=()))
    examples = load_examples(config.data, found=known)
    reports = examples.filter(pc.and_(pc.equal(examples["split"], "train"), pc.is_valid(examples[config.task])))
    lost = Counter(known.rejected["reason"].to_pylist())["unknown_record"]
    if lost:
        say(f"{lost:,} rationales are of no report in the data")
    found = _rationales(reports.to_pylist(), config.task, by)
    if not found:
        raise ConfigError("data.rationales: no report of train has a rationale; name their column, or a table of them")
    coder = _coder(config)
    _flag_held(found, held_words(examples), known.repeats, reports["pair"].to_pylist())
    _flag_unread(found, reports["text"].to_pylist(), coder, config.max_tokens)
    labels, groups = reports[config.task].to_pylist(), reports["group"].to_pylist()
    fold = folds(labels, groups, config.folds, config.seed)
    folder = _claim(config, coder, reports, found, output)
    target = folder / "rationale_bank" / "part-0.parquet"
    if not target.is_file():
        _flag_lonely(found, labels, fold)
        scored = _scored(config, coder, reports, labels, fold, found, folder / "_work", say)
        table = _judged(scored, found, _with_controls(wanted), config.seed)
        target.parent.mkdir(exist_ok=True)
        part = target.with_suffix(".tmp")
        pq.write_table(table, part)
        part.rename(target)
    shutil.rmtree(folder / "_work", ignore_errors=True)
    table = pq.read_table(target)
    return table, summary(table)


def _rationales(reports: Sequence[Mapping[str, Any]], task: str, by: Generator | None) -> list[dict[str, Any]]:
    """Each rationale with the number of its report, its text and, where it counts for nothing, its `flaw`."""
    found = []
    for number, report in enumerate(reports):
        own = {"report": number, "origin": report["record_id"], "label": report[task]}
        for index, one in enumerate(rationales(report["marks"], len(report["text"]))):
            flaw = unfit(one, report["text"])
            if flaw is None and one.label not in (None, report[task]):
                flaw = "other_label"
            about = {"source": HUMAN, "generator_digest": None, "annotator": one.annotator}
            name = f"{report['record_id']}#{HUMAN}{index}"
            if one.outside:
                lost = {"spans": one.outside, "words": "", "text": None, "flaw": "outside_report"}
                found.append({**own, "record_id": f"{name}-outside" if one.spans else name, **about, **lost})
            if one.spans:
                words = "" if flaw else one.text(report["text"])
                told = {"spans": one.spans, "words": words, "text": None, "flaw": flaw}
                found.append({**own, "record_id": name, **about, **told})
        if by is not None:
            made = proposed(by, report["record_id"], report["text"], report[task])
            found.append(
                {
                    **own,
                    "record_id": f"{report['record_id']}#{by.mode}",
                    "source": by.name,
                    "generator_digest": by.digest,
                    "annotator": None,
                    "spans": made.spans,
                    "words": made.text,
                    # The words of a report stand in its own table alone; what was written anew stands nowhere else.
                    "text": made.text if by.mode == "abstractive" else None,
                    "flaw": made.flaw,
                }
            )
    return found


def _flag_held(found: Sequence[dict[str, Any]], held: Set[bytes], repeats: Repeats, pairs: Sequence[str | None]) -> None:
    """What is marked in valid or test, or is a whole report there, must not be learned."""
    for each in found:
        words = each["words"]
        if each["flaw"] is None and (same_words(words) in held or repeats.holds(words, pairs[each["report"]])):
            each["flaw"] = "other_split"


def _flag_unread(found: Sequence[dict[str, Any]], texts: Sequence[str], coder: SiteCoder, most: int) -> None:
    """Whoever has not read a rationale in its report cannot say what the report would be without it."""
    read: dict[int, int] = {}
    for each in found:
        if each["flaw"] is None and each["spans"]:
            number = each["report"]
            if number not in read:
                (tokens,) = tokenize(coder.tokenizer, [texts[number]], most)
                read[number] = len(texts[number]) - tokens.truncated_chars
            if each["spans"][-1][1] > read[number]:
                each["flaw"] = "beyond_max_tokens"


def _flag_lonely(found: Sequence[dict[str, Any]], labels: Sequence[str], fold: np.ndarray) -> None:
    """A class whose reports are all in one fold is unknown to the model that would score them."""
    places = {label: {int(fold[i]) for i, one in enumerate(labels) if one == label} for label in set(labels)}
    for each in found:
        if each["flaw"] is None and len(places[each["label"]]) < 2:
            each["flaw"] = "class_in_one_fold"


def _scored(
    config: BankConfig,
    coder: SiteCoder,
    reports: pa.Table,
    labels: Sequence[str],
    fold: np.ndarray,
    found: Sequence[Mapping[str, Any]],
    work: Path,
    say: Say,
) -> pa.Table:
    """The bank's scores of the rationales without a flaw."""
    sound = [each for each in found if each["flaw"] is None]
    count, classes = len(reports), sorted(set(labels))
    origin = reports.select([name for name in reports.column_names if name != config.task])
    alone = origin.take(pa.array([each["report"] for each in sound], pa.int64()))
    alone = _put(alone, record_id=[each["record_id"] for each in sound], text=[each["words"] for each in sound])
    blank = _put(origin.slice(0, 1), record_id=["(empty)"], text=[""])
    texts = pa.concat_tables([origin, alone, blank])
    if config.plain:
        _unlearn(coder)
    else:
        say(
            "the encoder of model.path was trained too: where it has seen these reports, their scores are not out of fold; "
            "model.plain=true takes it as it was before"
        )
    gold = [*labels, *(each["label"] for each in sound), None]
    texts = texts.append_column(config.task, pa.array(gold, pa.string()))
    prepared = coder.prepare(records_of(texts.slice(0, len(texts) - 1)))
    say(f"encoding {count:,} reports and {len(sound):,} rationales")
    states = encode(coder, prepared, work / "states")
    # An empty text has no token and no window: every head gives it what it gives to nothing at all.
    states = States(states.tokens, np.append(states.start, states.start[-1]), np.pad(states.first, ((0, 1), (0, 0))))
    task = Task(config.task, tuple(classes), tuple(Counter(labels)[label] for label in classes))
    shape = replace(coder.config, head=config.head, tasks=(task,), paired=False)
    known = tokenized(texts, shape, coder.tokenizer, config.max_tokens)
    of_report = np.array([each["report"] for each in sound], dtype=np.int64)
    whole, by_itself, nothing = (np.zeros((len(sound), len(classes))) for _ in range(3))
    for number in range(config.folds):
        mine = np.flatnonzero(fold[of_report] == number) if len(sound) else np.empty(0, np.int64)
        if not len(mine):
            continue
        held = np.zeros(len(texts), dtype=bool)
        held[:count] = fold == number
        of_fold = replace(known, train=known.train & ~held & (np.arange(len(texts)) < count), valid=held)
        learner = _learned(config, shape, coder, of_fold, states, work, number, say)
        whole[mine] = _probabilities(learner, of_report[mine])
        by_itself[mine] = _probabilities(learner, count + mine)
        nothing[mine] = _probabilities(learner, np.array([len(texts) - 1]))
    return bank(sound, fold[of_report].tolist() if len(sound) else [], classes, whole, by_itself, nothing)


def _learned(
    config: BankConfig,
    shape: ClassifierConfig,
    coder: SiteCoder,
    texts: Examples,
    states: States,
    work: Path,
    number: int,
    say: Say,
) -> HeadLearner:
    torch.manual_seed(config.seed)
    learn = replace(config.learn, seed=config.seed)
    learner = HeadLearner(SiteNetwork(shape, coder.network.encoder), texts, states, learn, torch.device(coder.device))
    folder = work / f"fold{number}"
    resume = folder / "last"
    curve = train(learner, config.loop, Worker(device=learner.device), folder, resume if (resume / STATE).is_file() else None)
    say(f"fold {number}: accuracy {curve[-1][f'valid_accuracy_{config.task}']:.3f} on the reports it has not seen")
    return learner


@torch.inference_mode()
def _probabilities(learner: HeadLearner, members: np.ndarray) -> np.ndarray:
    """[members, classes] of whole texts; a report that several rationales are of stands here as often."""
    (task,) = learner.network.config.tasks
    texts, again = np.unique(members, return_inverse=True)
    found = np.zeros((len(texts), len(task.labels)))
    place = {int(text): index for index, text in enumerate(texts)}
    for batch, rows in learner.batches(list(place)):
        logits = learner.pooled(batch, rows).logits[task.name]
        found[[place[row] for row in rows]] = logits.double().softmax(-1).cpu().numpy()
    return found[again]


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


def _put(table: pa.Table, **columns: Sequence[str]) -> pa.Table:
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), table.schema.field(name), pa.array(values, pa.string()))
    return table


def _coder(config: BankConfig) -> SiteCoder:
    options = {"method": "none", "checks": 0.0, "tasks": (), "max_tokens": config.max_tokens, "precision": config.precision}
    spec = ModelSpec("engine.models.site_classifier", config.model, options, {"threads": config.threads, "device": config.device})
    found = load(replace(spec, options={**options, "pair": PAIR.name}))
    if found.config.paired:
        raise ConfigError("model.path: a model that reads pairs of texts gives no states of a text alone")
    return found


def _unlearn(coder: SiteCoder) -> None:
    """Puts the encoder that the checkpoint began with in the place of its own."""
    own = next(coder.network.encoder.parameters())
    plain = load_encoder(coder.config.encoder, own.dtype, attention_for(coder.device))
    coder.network.encoder = plain.requires_grad_(False).to(own.device)


def _claim(config: BankConfig, coder: SiteCoder, reports: pa.Table, found: Sequence[Mapping[str, Any]], output: str) -> Path:
    """Makes the folder this bank's own, or sees that it already is."""
    if is_s3(output):
        raise ConfigError("output.path: a rationale bank is written to a folder of this machine")
    texts = hashlib.sha256(repr([reports.select(["record_id", "text", "group", config.task]).to_pydict(), list(found)]).encode())
    plain = {**vars(config), "data": vars(config.data), "learn": vars(config.learn), "loop": vars(config.loop)}
    values = {name: value for name, value in plain.items() if name not in ("threads", "device", "data")}
    text = json.dumps({**values, "digest": coder.digest, "texts": texts.hexdigest()}, indent=1, default=list) + "\n"
    folder, note = Path(output).expanduser(), Path(output).expanduser() / "settings.json"
    if not note.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"output.path: {output} is not empty and holds no rationale bank; choose a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(text)
    elif note.read_text() != text:
        raise ConfigError(f"output.path: {output} holds a bank of other data or settings; choose a new folder")
    return folder
