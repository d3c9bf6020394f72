"""Writes a folder to check the product on another machine: `python -m jobs.gpu_check output.path=gpu-check`, then, on the other
machine, `python3 gpu_check.py`."""

from dataclasses import dataclass
from pathlib import Path

from engine.keys import MISSING, key, section
from jobs._front import CONF, job


@dataclass
class Output:
    path: str = key(MISSING, "New folder to write, less than 50 MB.", path=True)


@dataclass
class Config:
    output: Output = section(Output)
    texts: int = key(
        200,
        "Number of synthetic reports in the folder, for each language of its models; of radiographs there are at most 64.",
        low=1,
    )


@job(
    "gpu_check",
    Config,
    "Writes a folder with the product's core, its models, synthetic records and a processor's answers to "
    "them. Copy it to a machine with a GPU and run python3 gpu_check.py in it: this checks whether the "
    "answers are the same there, and how fast they are. It needs torch, transformers, "
    "pyarrow and Pillow, and no network.",
    examples=["output.path=gpu-check"],
)
def main(config: Config) -> None:
    import yaml

    from engine.benchmarks import gpu_folder

    systems = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))["system"] for file in CONF.glob("model/*.yaml")}
    cluster = yaml.safe_load((CONF / "cluster" / "gpu_box.yaml").read_text(encoding="utf-8"))
    folder = Path(config.output.path)
    checked = gpu_folder.shipping(dict(sorted(systems.items())))
    batches = {name: cluster[name] for name in ("batch_tokens", "batch_images") if name in cluster}
    gpu_folder.write(folder, checked, config.texts, batches)
    if missing := sorted(systems.keys() - checked):
        print(f"left out, because no model is included: {', '.join(missing)}")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.0f} MB; copy it to the other machine, and there: python3 gpu_check.py")


if __name__ == "__main__":
    main()
