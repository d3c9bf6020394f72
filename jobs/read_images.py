"""Reads a corpus of images, such as radiographs: one row an image study, with its findings and the patches they rest on."""

from typing import Any

from jobs._front import RESUMES, job
from jobs._run import run_and_tell, run_config, schema


@job(
    "read_images",
    schema,
    "Finds findings in images (DICOM, PNG, JPEG and others) from a folder, a manifest or Parquet: one row an image study in "
    "<output.path>/findings. Each finding is clearly present, clearly absent, or unclear and for a person to see. The same "
    "command again continues where it stopped, or does nothing.",
    examples=[
        "input.path=radiographs output.path=read",
        "input.path=manifest.csv input.image=path input.study=study_id input.keep=[patient_id] output.path=read",
        "input.path=radiographs explain.method=none 'decision.required=[Pneumothorax,Edema]' output.path=read",
    ],
    again=RESUMES,
)
def main(config: Any) -> None:
    """Runs the engine and prints the summary."""
    run_and_tell(run_config(config))


if __name__ == "__main__":
    main()
