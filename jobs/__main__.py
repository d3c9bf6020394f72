"""All jobs under one name: `marginalia`, or `python -m jobs`, lists them; with a job's name and key=value it runs that job."""

import ast
import importlib
import sys
import textwrap
from pathlib import Path

from engine.errors import EXIT_CONFIG, EXIT_OK
from engine.keys import closest
from jobs import interrupted
from jobs._streams import open_streams, piped

WIDTH = 110


def main() -> None:
    """Runs the job that the command line names, or lists the jobs."""
    sys.excepthook = interrupted
    open_streams()
    words = sys.argv[1:]
    if words and words[0] in job_names():
        # As if the job had been started itself.
        sys.argv[1:] = words[1:]
        importlib.import_module(f"jobs.{words[0]}").main()
    sys.exit(piped("marginalia", lambda: _answer(words)))


def job_names() -> list[str]:
    """The jobs of this package, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def _answer(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(listing())
        return EXIT_OK
    print(f"marginalia: no job '{words[0]}'{closest(words[0], job_names())}; without a name it lists them", file=sys.stderr)
    return EXIT_CONFIG


def listing() -> str:
    """Every job with the first sentence of what it does, and how to go on."""
    names = job_names()
    width = max(map(len, names))
    lines = ["usage: marginalia <job> key=value ...     (or: python -m jobs.<job> key=value ...)", "", "Jobs:", ""]
    for name in names:
        first = f"  {name:<{width}}  "
        lines += textwrap.wrap(_sentence(name), WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
    return "\n".join([*lines, "", "marginalia <job> --help explains a job, with every key, its value now, and examples."])


def _sentence(name: str) -> str:
    """The first sentence of what a job does, read from its source, since importing all jobs takes seconds."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "job":
            return ast.literal_eval(node.args[2]).partition(". ")[0].rstrip(".") + "."
    raise ValueError(f"jobs/{name}.py has no @job")


if __name__ == "__main__":
    main()
