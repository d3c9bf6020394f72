"""Codes a corpus of reports: one row a report, with the evidence beside the code."""

from jobs._config import CodeReports, run_config
from jobs._front import RESUMES, job


@job(
    "code_reports",
    CodeReports,
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
def main(config: CodeReports) -> None:
    """Runs the engine and tells what came of it."""
    settings = run_config(config)

    from jobs._run import run_and_tell

    run_and_tell(settings)


if __name__ == "__main__":
    main()
