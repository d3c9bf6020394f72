"""The compute core of a system that reads images, decoding and model apart, against a loop that takes one image at a time."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from engine.benchmarks.config import CORE, BenchConfig
from engine.benchmarks.corpus import LONG, as_records, sample
from engine.benchmarks.measure import Measurement, interleave
from engine.models.base import ModelSpec, load
from engine.models.image_system import ImageSystem
from engine.models.options import with_options, without_evidence

_NAIVE = "naive loop, one image at a time in fp32"


def compute_core(config: BenchConfig) -> list[Measurement]:
    """Images a second of prepare, of run and of both, against a naive loop; then other ways to run the same model.

    The naive loop decodes a file with Pillow, resizes it, and gives the network one image at a time, in fp32 and in the memory
    format that an array has. It writes no rows, so it does less. Each of `batch_sizes` and the other memory format is compared
    with what the product does.
    """
    import torch

    plain = without_evidence(config.model)
    system, naive = load(plain), load(with_options(plain, precision="fp32"))
    table = sample(config, config.core_reports, LONG)
    files, records = table["image"].to_pylist(), as_records(table)
    prepared = system.prepare(records)
    planes = [plane(data, naive) for data in files]
    contenders: dict[str, Callable[[], object]] = {
        "decode": lambda: system.prepare(records),
        "model": lambda: system.run(prepared),
        "whole": lambda: system.run(system.prepare(records)),
        "naive decode": lambda: [plane(data, naive) for data in files],
        "naive model": lambda: [answer(pixels, naive) for pixels in planes],
        "naive whole": lambda: [answer(plane(data, naive), naive) for data in files],
    }
    ways = {f"batches of {size}": _in_batches(plain, size) for size in config.batch_sizes if size != system.batch_images}
    ways["another memory format"] = load(plain)
    ways["another memory format"].network.encoder.to(memory_format=torch.contiguous_format)
    contenders |= {name: lambda s=way: s.run(prepared) for name, way in ways.items()}
    naive.network.encoder.to(memory_format=torch.contiguous_format)
    speed = {name: len(files) / seconds for name, seconds in interleave(contenders, config.repeats).items()}
    product = f"batches of {system.batch_images}, {_format(system)}"
    about: dict[str, Any] = {
        "part": CORE,
        "unit": "images/s",
        "repeats": config.repeats,
        "setting": f"{len(files)} {config.kind} of {LONG.pixels} pixels, {str(system.dtype).removeprefix('torch.')}, {product}",
    }
    names = {"decode": "decoding and preprocessing", "model": "model, with rows", "whole": "compute core, no evidence"}
    compared = [(names[name], name, _NAIVE, f"naive {name}") for name in names]
    # Here the other way is measured, and the product is what it is compared with.
    compared += [(f"model, {name}", name, f"the model as it runs: {product}", "model") for name in ways]
    return [
        Measurement(measured=measured, figure=speed[name], rival=other, rival_figure=speed[rival], **about)
        for measured, name, other, rival in compared
    ]


def plane(data: bytes, system: ImageSystem) -> np.ndarray:
    """A file as a square of grey pixels, as a user would write it."""
    from PIL import Image

    side = system.preprocessing.side
    return np.array(Image.open(BytesIO(data)).convert("L").resize((side, side), Image.Resampling.BILINEAR))


def answer(pixels: np.ndarray, system: ImageSystem) -> np.ndarray:
    """The logits of one image of grey pixels [side, side]."""
    import torch

    with torch.inference_mode():
        batch = system.preprocessing.normalize(torch.from_numpy(pixels)[None].to(system.device))
        return system.predict(system.pooled(system.cells(batch)).float()).cpu().numpy()


def _in_batches(spec: ModelSpec, size: int) -> ImageSystem:
    return load(ModelSpec(spec.system, spec.path, spec.options, {**spec.runtime, "batch_images": size}))


def _format(system: ImageSystem) -> str:
    """The memory format of the encoder's filters."""
    import torch

    filters = [value for value in system.network.encoder.parameters() if value.ndim == 4 and min(value.shape[1:]) > 1]
    last = bool(filters) and all(each.is_contiguous(memory_format=torch.channels_last) for each in filters)
    return "channels_last" if last else "contiguous"
