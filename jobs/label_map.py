"""Turns the labels of a public set of radiographs into one table."""

from dataclasses import dataclass

from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from engine.sources.labelled.chest import LAYOUTS
from engine.storage import S3Config, use_s3
from jobs._front import job


@dataclass
class Input:
    path: str = key(MISSING, "Folder of the set as it is published, local or s3://.", path=True)


@dataclass
class Output:
    path: str = key(MISSING, "Parquet file to write; a file that exists is not replaced.", path=True)


@dataclass
class Config:
    layout: str = key(MISSING, "How the set is laid out.", choices=LAYOUTS)
    input: Input = section(Input)
    output: Output = section(Output)
    storage: S3Config = section(S3Config)


@job(
    "label_map",
    Config,
    "Turns the labels of a public set of chest radiographs into one table: a row an image with its study and patient, the states "
    "of the 14 findings (1 positive, 0 negative, -1 uncertain), and boxes where the set has them.",
    examples=["layout=mimic-cxr-jpg input.path=mimic-cxr-jpg output.path=labels.parquet"],
)
def main(config: Config) -> None:
    """Writes the table and prints its number of rows."""
    import pyarrow.parquet as pq

    from engine.sources.labelled.chest import read_layout
    from engine.storage import full_path, storage_for

    use_s3(config.storage)
    path = full_path(config.output.path)
    if storage_for(path).stat(path) is not None:
        raise ConfigError(f"output.path: {path} exists; name a new file, or remove it")
    table = read_layout(config.layout, config.input.path)
    with storage_for(path).writer(path) as file:
        pq.write_table(table, file, compression="zstd")
    studies, failed = len(table["study_id"].unique()), len(table) - table["failure"].null_count
    print(f"{path}: {len(table):,} images of {studies:,} studies; the labels of {failed:,} could not be read")


if __name__ == "__main__":
    main()
