"""What the studies of CLEAR share: features of public and made radiographs, texts for them, a concept bank, and dual encoders.

Features are computed once by the product's own reading and frozen encoder; every dual encoder is trained on them. Texts for
training are the notes of `cxr_ieee8023` (real), the reports of made radiographs (synthetic), and sentences written from the
labels of NIH images (silver). The bank is made of the Open-i reports of train.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from engine import __version__, sources
from engine.encoders import set_threads
from engine.models.clear.concepts import Bank, bank_table, observation_table, read_bank
from engine.models.clear.examples import FrozenImages
from engine.models.clear.learner import PairLearner, Pairs
from engine.models.clear.network import DualEncoder
from engine.models.clear.towers import Tower
from engine.models.embedding import embed
from engine.pipeline import tables
from engine.records import seed_of
from engine.sources import InputConfig
from engine.sources.labelled import Labelled
from engine.sources.synthetic import CorpusConfig, write
from engine.sources.synthetic.radiographs import EDITION
from engine.sources.synthetic.radiographs import Radiographs as Made
from engine.storage import storage_for, whole_file
from engine.studies.run import Task
from engine.text.plain import plain
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train
from engine.vision.encoders import image_encoder_config, image_encoder_digest, preprocessing_of

ENCODER, TEXT, SPLITTER = "pkg:efficientnet-lite0", "pkg:minilm", "engine.text.chest.observations:observations"
NIH, NOTES, HANNOVER = "cxr_nih/labels.parquet", "cxr_ieee8023/pairs.parquet", "cxr_hannover/metadata.parquet"
PREPROCESSING = preprocessing_of(ENCODER, image_encoder_config(ENCODER))
LEAST = 20
"""Positives of a label that is in a mean."""
_FOLDS = 5
# How NIH's labels are written in a sentence; the others are written as they are.
_WORDS = {"Effusion": "pleural effusion", "Pleural_Thickening": "pleural thickening"}


@dataclass(frozen=True)
class Images:
    """Some images: `frame` has a row for each, with `id` and `patient`; `features` [n, width] in its order."""

    frame: pl.DataFrame
    features: NDArray

    def take(self, chosen: NDArray) -> "Images":
        """Those that are chosen [n]."""
        return Images(self.frame.filter(pl.Series(chosen)), self.features[chosen])

    @property
    def patients(self) -> NDArray:
        return self.frame["patient"].to_numpy()


@dataclass(frozen=True)
class Radiographs:
    """See `engine.studies.run.Model`; `of` gives the images of a public set by its path, `made` those of a made corpus."""

    folder: Path
    identity: str
    data: str
    say: Any
    text: str = TEXT

    @cached_property
    def nih(self) -> Images:
        images = self.of(NIH, "image_id")
        return replace(images, frame=images.frame.rename({"finding_labels": "labels"}))

    @cached_property
    def notes(self) -> Images:
        """Frontal images with their notes."""
        images = self.of(NOTES, "image_id", "case_group")
        return images.take((images.frame["view"] != "L").to_numpy())

    @cached_property
    def hannover(self) -> Images:
        return self.of(HANNOVER, "image_id")

    @cached_property
    def bank(self) -> Bank:
        return read_bank(self.openi)

    @cached_property
    def openi(self) -> str:
        """A bank of the observations that are in the Open-i reports of train."""
        reports = pl.read_parquet(f"{self.data}/cxr_openi_reports/reports.parquet").filter(pl.col("split") == "train")
        text = pl.concat_str([pl.col(name).fill_null("") for name in ("findings", "impression")], separator="\n")
        return self.bank_file(reports.select(pl.col("report_id").alias("id"), text=text))

    def bank_file(self, reports: pl.DataFrame) -> str:
        """A bank of the observations that are in reports, which have `id` and `text`."""
        name = hashlib.sha256(repr((__version__, reports.rows())).encode()).hexdigest()[:12]
        folder, file = str(self.folder / f"bank-{name}"), self.folder / f"reports-{name}.parquet"
        if not file.is_file():
            with whole_file(file) as part:
                reports.write_parquet(part)
        observations = tables.make(*observation_table(Labelled(str(file), id="id", text="text"), SPLITTER), folder, self.say)
        return tables.make(*bank_table(observations, self.text, "", 1), folder, self.say)

    def made(self, settings: Made, count: int) -> Images:
        """A corpus of made radiographs."""
        name = hashlib.sha256(repr((EDITION, settings, count)).encode()).hexdigest()[:12]
        path = self.folder / f"made-{name}"
        write(CorpusConfig(str(path), count, settings))
        frame = pl.read_parquet(path / "*.parquet").drop("image").rename({"record_id": "id", "patient_id": "patient"})
        return self._joined(frame, self._features(InputConfig(str(path), id="record_id", reads="images"), name))

    def of(self, path: str, id: str, patient: str = "patient_id") -> Images:
        full = f"{self.data}/{path}"
        frame = pl.read_parquet(full).rename({id: "id", patient: "patient"}).with_columns(pl.col("patient").cast(pl.String))
        return self._joined(frame, self._features(InputConfig(full, id=id, reads="images"), Path(path).parent.name))

    def _joined(self, frame: pl.DataFrame, features: Mapping[str, NDArray]) -> Images:
        frame = frame.filter(pl.col("id").is_in(list(features)))
        return Images(frame, np.stack([features[name] for name in frame["id"]]))

    def _features(self, config: InputConfig, name: str) -> dict[str, NDArray]:
        file = self.folder / f"features-{name}.npz"
        if not file.is_file():
            system = FrozenImages(ENCODER, PREPROCESSING, "auto")
            storage, ids, parts = storage_for(config.path), [], []
            files = sources.list_files(config, storage)
            for shard in sources.cut(config, storage, files, 64 << 20):
                records = sources.read(config, storage, shard, sources.keep_fields(config, storage, files))
                prepared = system.prepare(records.filter(records["failure"].is_null()))
                prepared = prepared.filter(prepared["failure"].is_null())
                ids += prepared["record_id"].to_pylist()
                parts.append(system.features(prepared).float().numpy())
                self.say(f"{name}: features of {len(ids):,} images")
            with whole_file(file) as part, open(part, "wb") as stream:
                np.savez(stream, ids=np.array(ids), features=np.concatenate(parts))
        with np.load(file) as stored:
            return dict(zip(stored["ids"].tolist(), stored["features"], strict=True))


def fit(task: Task) -> Radiographs:
    """Where features are kept; nothing is computed before it is needed."""
    set_threads(task.threads)
    text = task.settings.get("clear.text", TEXT)
    encoders = f"{image_encoder_digest(ENCODER)} {PREPROCESSING}" + (f" {text}" if text != TEXT else "")
    identity = hashlib.sha256(encoders.encode()).hexdigest()[:16]
    folder = task.models / "clear" / identity
    folder.mkdir(parents=True, exist_ok=True)
    return Radiographs(folder, identity, task.data.rstrip("/"), task.say, text)


def folds(patients: NDArray, seed: int) -> NDArray:
    """The fold [n] of each image, 0 to 4, by a hash of its patient."""
    return np.array([seed_of(str(patient), "fold", seed) % _FOLDS for patient in patients])


def states(labels: Sequence[Sequence[str]], names: Sequence[str]) -> NDArray:
    """1 or 0 [n, K] for lists of labels: NIH's labels are complete, so what is not named is absent."""
    return np.array([[float(name in each) for name in names] for each in labels])


def frequent(labels: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """The labels with at least `LEAST` positives, and the others, each in order of the alphabet; not `No Finding`."""
    counts: dict[str, int] = {}
    for each in labels:
        for name in set(each) - {"No Finding"}:
            counts[name] = counts.get(name, 0) + 1
    return sorted(n for n, count in counts.items() if count >= LEAST), sorted(n for n, count in counts.items() if count < LEAST)


def words(label: str) -> str:
    """A label as reports write it."""
    return _WORDS.get(label, label).lower()


def sentences(labels: Sequence[str], id: str) -> str:
    """A silver report from the labels of an image: each is named, in an order and a wording drawn by the image's id."""
    rng = np.random.default_rng(seed_of(id, "silver"))
    named = [words(name) for name in labels if name != "No Finding"]
    if not named:
        return str(rng.choice(["No acute cardiopulmonary abnormality.", "The lungs are clear.", "Normal chest radiograph."]))
    rng.shuffle(named)
    forms = ("There is {}.", "{} is present.", "Findings consistent with {}.")
    parts = [forms[int(rng.integers(len(forms)))].format(name) for name in named]
    return " ".join(part[0].upper() + part[1:] for part in parts)


@dataclass(frozen=True)
class Texts:
    """Images [n, width] with a text each."""

    features: NDArray
    texts: Sequence[str]

    @classmethod
    def of(cls, *parts: tuple[NDArray, Sequence[str]]) -> "Texts":
        return cls(np.concatenate([features for features, _ in parts]), [text for _, texts in parts for text in texts])


class _Held:
    """Pairs in memory, see `engine.models.examples.Source`."""

    mixed = False

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def order(self, epoch: int, ratio: float, seed: int) -> list[int]:
        return np.random.default_rng([seed, epoch]).permutation(len(self.pairs.keys)).tolist()

    def hold(self, members: Sequence[int], epoch: int) -> tuple[Pairs, list[int]]:
        return self.pairs, list(members)

    def held_back(self) -> Any:
        return iter(())

    def close(self) -> None:
        pass


def embedded(texts: Sequence[str], radiographs: Radiographs) -> NDArray:
    """Embeddings [n, e] of texts; those that are new are added to the ones in the folder."""
    file, stored = radiographs.folder / "texts.npz", {}
    if file.is_file():
        with np.load(file) as known:
            stored = dict(zip(known["texts"].tolist(), known["embeddings"], strict=True))
    names = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    new = {name: text for name, text in zip(names, texts, strict=True) if name not in stored}
    if new:
        stored |= dict(zip(new, embed(list(new.values()), radiographs.text), strict=True))
        with whole_file(file) as part, open(part, "wb") as stream:
            np.savez(stream, texts=np.array(list(stored)), embeddings=np.stack(list(stored.values())))
    return np.stack([stored[name] for name in names])


def dual(texts: Texts, settings: Mapping[str, Any], seed: int, radiographs: Radiographs) -> DualEncoder:
    """A dual encoder trained on pairs; trained before, it is read from the folder of radiographs."""
    keys = np.array([seed_of(plain(text)) for text in texts.texts], np.int64)
    what = repr((sorted(settings.items()), seed)).encode() + keys.tobytes() + texts.features.astype(np.float16).tobytes()
    file = radiographs.folder / f"dual-{hashlib.sha256(what).hexdigest()[:16]}.pt.safetensors"
    rows = embedded(texts.texts, radiographs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = DualEncoder(texts.features.shape[1], rows.shape[1], settings["width"])
    if not file.is_file():
        source = _Held(Pairs(list(texts.features.astype(np.float32)), list(rows), keys))
        loop = LoopConfig(
            epochs=settings["epochs"], batch=settings["batch"], rate=settings["rate"], weight_decay=settings["decay"], seed=seed,
            validated=False, report_every=10_000, checkpoint_every=10_000,
        )  # fmt: skip
        learner = PairLearner(encoder, Tower(), Tower(), source, seed, Worker())
        train(learner, loop, Worker(), file.with_suffix(".work"))
        from safetensors.torch import save_file

        with whole_file(file) as part:
            save_file(encoder.state_dict(), part)
    from safetensors.torch import load_file

    encoder.load_state_dict(load_file(file))
    return encoder.eval()


def in_space(encoder: DualEncoder, features: NDArray) -> NDArray:
    """Images v [n, d] of features [n, width]."""
    with torch.inference_mode():
        return encoder.image(torch.from_numpy(features.astype(np.float32))).numpy()


def concepts_in_space(encoder: DualEncoder, bank: Bank) -> NDArray:
    """Concepts t [C, d], in the precision of a checkpoint."""
    with torch.inference_mode():
        return encoder.text(torch.from_numpy(bank.embeddings.astype(np.float32))).numpy().astype(np.float16)
