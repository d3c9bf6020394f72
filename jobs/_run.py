"""A run of the engine as a front door shows it: progress while it works, and what came of it."""

from engine import pipeline
from engine.errors import TooManyFailures
from jobs._progress import reporter
from jobs._summary import closing


def run_and_tell(settings: pipeline.RunConfig) -> None:
    """Runs and prints the closing summary, also of a run that finished with too many failures.

    Raises:
        EngineError: as `engine.pipeline.run`.
    """
    try:
        print(closing(pipeline.run(settings, reporter())))
    except TooManyFailures:
        print(closing(pipeline.status(settings.output)))
        raise
