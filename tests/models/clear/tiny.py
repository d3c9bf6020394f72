"""A model with tiny encoders and drawn weights, without a training."""

import numpy as np
import pyarrow as pa
import torch

from engine.encoders import encoder_digest
from engine.models.clear.bank import collapse
from engine.models.clear.checkpoint import Space, settle_checkpoint, write_checkpoint
from engine.models.clear.config import Config
from engine.models.clear.network import DualEncoder
from engine.models.findings.decide import FindingCalibration
from engine.text.chest import FINDINGS
from engine.vision.encoders import image_encoder_digest, load_image_encoder

CONCEPTS, WIDTH, EMBEDDING = 30, 8, 12


def write(folder):
    """A checkpoint of all findings, each with a cut of its own; returns the folder."""
    rng = np.random.default_rng(5)
    image, text = "tiny:lite0", "tiny:bert"
    own = (image, image_encoder_digest(image), "small-64", text, encoder_digest(text), WIDTH, 32, "probe")
    torch.manual_seed(5)
    dual = DualEncoder(load_image_encoder(image, torch.float32).width, 4, WIDTH)
    tensors = {f"dual.{name}": value for name, value in dual.state_dict().items()}
    t, e = rng.normal(size=(CONCEPTS, WIDTH)).astype(np.float16), rng.normal(size=(CONCEPTS, EMBEDDING))
    directions = rng.normal(size=(EMBEDDING, len(FINDINGS)))
    ids = np.arange(CONCEPTS)
    concepts = pa.table(
        {
            "concept_id": pa.array(ids, pa.int32()),
            "text": [f"observation {number}" for number in ids],
            "n_reports": pa.array(ids + 1, pa.int32()),
        }
    )
    # A finding's logit is z w + b with z = v T'E / |v T'E|, so a concept's weight for it is its embedding's share, e w.
    space = Space(t, collapse(t, e), np.zeros(t.shape[1]), directions, rng.normal(size=len(FINDINGS)), e @ directions)
    bank = folder.with_name(f"{folder.name}.bank")
    bank.write_bytes(b"no bank")
    write_checkpoint(folder, Config(FINDINGS, *own, {"path": str(bank), "sha256": "none"}), tensors, concepts, space)
    settle_checkpoint(folder, {name: FindingCalibration().at(0.5) for name in FINDINGS})
    return folder
