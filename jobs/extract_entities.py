"""Extracts entities from a corpus of reports: one row a report, with the place of each entity and its evidence."""

from typing import Any

from jobs._front import RESUMES, job
from jobs._run import run_and_tell, run_config, schema


@job(
    "extract_entities",
    schema,
    "Finds diseases, chemicals and other entities in reports from Parquet, CSV, JSONL or text files: one row a report in "
    "<output.path>/entities. For types that the model was not trained for, ask a question in your own words. The same command "
    "again continues where it stopped, or does nothing.",
    examples=[
        "input.path=reports.parquet output.path=found",
        "input.path=reports.parquet 'entities.types=[Disease,Chemical]' explain.method=none output.path=found",
        "input.path=reports.parquet 'entities.questions={Device: \"Which implants are named?\"}' output.path=found",
        "input.path=reports.parquet 'entities.questions.Device=Which implants, or stents, are named?' output.path=found",
        "input.path=reports.parquet entities.questions_file=questions.yaml output.path=found",
    ],
    again=RESUMES,
)
def main(config: Any) -> None:
    """Runs the engine and prints the summary."""
    run_and_tell(run_config(config))


if __name__ == "__main__":
    main()
