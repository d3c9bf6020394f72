"""Pairs of image and report as examples: outputs of frozen encoders, or what an encoder that is trained reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.encoders import encoder_folder, load_tokenizer
from engine.models.columns import lists, matrix_column
from engine.models.embedding import embed
from engine.models.examples import COMMON
from engine.models.findings.studies import StudyData, split_of
from engine.models.image_system import ImageSystem
from engine.models.options import ImageOptions
from engine.records import IMAGES, seed_of
from engine.sources.base import Shard
from engine.sources.labelled import Reader
from engine.sources.labelled.splits import TEST
from engine.storage import S3Config, use_s3
from engine.text.plain import plain
from engine.vision.encoders import load_image_encoder

if TYPE_CHECKING:
    import torch


class FrozenImages(ImageSystem):
    """Features of image studies by a frozen encoder, exactly as the product computes them."""

    Options = ImageOptions

    def __init__(self, encoder: str, preprocessing: str, precision: str) -> None:
        config = SimpleNamespace(preprocessing=preprocessing, image=encoder)
        super().__init__(SimpleNamespace(config=config, digest=""), ImageOptions(precision=precision), {})

    def build(self, dtype: "torch.dtype") -> Any:
        import torch

        network = torch.nn.Module()
        network.encoder = load_image_encoder(self.config.image, dtype)
        return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class EncodePairs:
    """Turns a piece of the table into pairs, on any machine; studies of test, without report or without a readable image are left
    out. A study with several images is the mean of their features; an encoder that is trained reads the first of them."""

    data: StudyData
    model: Mapping[str, Any]
    learn: Mapping[str, Any]
    precision: str
    s3: S3Config

    @property
    def schema(self) -> pa.Schema:
        image = pa.binary() if self.learn["image"] else pa.list_(pa.float32())
        text = pa.large_list(pa.int32()) if self.learn["text"] else pa.list_(pa.float32())
        return pa.schema([*COMMON, pa.field("image", image), pa.field("text", text), pa.field("key", pa.int64())])

    @cached_property
    def images(self) -> FrozenImages:
        return FrozenImages(self.model["image"], self.model["preprocessing"], self.precision)

    def __call__(self, piece: Shard) -> pa.Table:
        use_s3(self.s3)
        reader = Reader(self.data.labelled())
        return pa.concat_tables([self.schema.empty_table(), *map(self.encoded, reader.read(piece))])

    def encoded(self, table: pa.Table) -> pa.Table:
        """The pairs of some labelled studies, with their images."""
        table = table.append_column("part", split_of(self.data, table))
        table = table.filter(pc.field("failure").is_null() & (pc.field("part") != TEST))
        table = table.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(pc.coalesce(table["report"], ""))), 0))
        table = table.append_column("row", pa.array(range(len(table)), pa.int32()))
        prepared = self.images.prepare(table.select(["row", "record_id", IMAGES]))
        prepared = prepared.filter(prepared["failure"].is_null())
        # By key: a study whose images cannot be read is not among the prepared ones.
        table = table.take(pc.index_in(prepared["row"], table["row"]))
        reports = table["report"].to_pylist()
        columns = {
            "record_id": table["record_id"],
            "split": table["part"],
            "sample": pa.array([False] * len(table)),
            "image": self._images(prepared),
            "text": self._texts(reports),
            "key": pa.array([seed_of(plain(report)) for report in reports], pa.int64()),
        }
        return pa.table(columns, schema=self.schema)

    def _images(self, prepared: pa.Table) -> pa.Array:
        if self.learn["image"]:
            return pa.array([images[0]["pixels"].as_py() for images in prepared[IMAGES]], pa.binary())
        return matrix_column(self.images.features(prepared).numpy()) if len(prepared) else pa.array([], pa.list_(pa.float32()))

    def _texts(self, reports: list[str]) -> pa.Array:
        if self.learn["text"]:
            tokenizer = load_tokenizer(encoder_folder(self.model["text"]))
            codes = tokenizer.encode_batch(reports, add_special_tokens=False)
            return lists([np.array(code.ids[: self.learn["tokens"]], np.int32) for code in codes])
        return matrix_column(embed(reports, self.model["text"])) if reports else pa.array([], pa.list_(pa.float32()))
