"""Turns a published encoder into one that models are trained on: safetensors and a fast tokenizer."""

from dataclasses import dataclass

from engine.keys import MISSING, key, section
from jobs._front import job


@dataclass
class Output:
    path: str = key(MISSING, "Folder to write; it must be new.", path=True)


@dataclass
class Config:
    encoder: str = key(MISSING, "Encoder to convert: path:<folder>, or hub:<id>@<commit>, which is fetched once.")
    output: Output = section(Output)


@job(
    "convert_encoder",
    Config,
    "Turns an encoder as it was published, with pytorch_model.bin, vocab.txt or vocab.json, into safetensors and a fast "
    "tokenizer. Nothing but tensors is unpickled. digest.json in the folder names the source and the SHA-256 of every file.",
    examples=["encoder=hub:org/model@<commit> output.path=encoders/model", "encoder=path:downloaded output.path=encoders/model"],
)
def main(config: Config) -> None:
    """Converts, and prints what was made of what."""
    from engine.conversion import convert

    print("\n".join(convert(config.encoder, config.output.path)))
    print(f"To train on it: model.encoder=path:{config.output.path}")


if __name__ == "__main__":
    main()
