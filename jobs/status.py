"""Shows the state of a run, from its output folder alone."""

from dataclasses import dataclass

from engine.keys import key, section
from engine.storage import S3Config, use_s3
from jobs._finished import RunFolder
from jobs._front import job


@dataclass
class Config:
    output: RunFolder = section(RunFolder)
    storage: S3Config = section(S3Config)
    json: bool = key(False, "Print one JSON object instead of lines.")


@job(
    "status",
    Config,
    "Shows what a run has done, and whether a command is working on it. It reads only the output folder and "
    "needs neither model nor input. It can be used while the run goes on.",
    examples=["output.path=coded", "output.path=coded json=true"],
)
def main(config: Config) -> None:
    """Prints the state of a run."""
    from dataclasses import asdict

    from engine.pipeline import status
    from jobs._summary import standing

    use_s3(config.storage)
    summary = status(config.output.path)
    if config.json:
        import json

        print(json.dumps({**asdict(summary), "finished": summary.finished}, sort_keys=True))
    else:
        print(standing(summary))


if __name__ == "__main__":
    main()
