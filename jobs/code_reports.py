"""Codes a corpus of reports: one row a report, with the evidence beside the code."""

from typing import Any

from jobs._front import RESUMES, job
from jobs._run import run_and_tell, run_config, schema


@job(
    "code_reports",
    schema,
    "Codes reports from Parquet, CSV, JSONL or text files: one row a report in <output.path>/codes, with the evidence beside "
    "each code and the reasons for review. The same command again continues where it stopped, or does nothing.",
    examples=[
        "input.path=reports.parquet output.path=coded",
        "'input.path=my reports/*.csv' input.id=report_no input.text=report input.keep=[hospital] output.path=coded",
        "input.path=texts input.encoding=cp1252 explain=none output.path=coded",
        "input.path=reports cluster=gpu_box output.path=coded",
    ],
    again=RESUMES,
)
def main(config: Any) -> None:
    """Runs the engine and prints the summary."""
    run_and_tell(run_config(config))


if __name__ == "__main__":
    main()
