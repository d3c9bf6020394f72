"""Runs the commands with both trees and tells what differs."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.errors import EXIT_RETRY
from tests.unchanged import inputs
from tests.unchanged.allowed import reason
from tests.unchanged.cases import FULL, QUICK, Case, cases
from tests.unchanged.compare import Difference, digest, folders, pages, tensors

START = "1596810"
ROOT = Path(__file__).resolve().parents[2]
SIDES = ("old", "new")
SHIPPED = "shipped"
# Ray does not start under much load; the same command again goes on. What somebody killed is not started again.
_LIMIT, _TRIES, _PAUSE = 3600, 6, 30


@dataclass(frozen=True)
class Compared:
    """A table or file of a case, and what differs in it: `faults` and, with its reason, `allowed`."""

    case: str
    name: str
    rows: int
    faults: list[Difference]
    allowed: dict[str, str]


class Comparison:
    """Both trees and the folder of their results."""

    def __init__(self, old: Path, folder: Path, sizes: dict[str, int], together: bool) -> None:
        self.trees = dict(zip(SIDES, (old, ROOT), strict=True))
        self.folder, self.sizes, self.together = folder, sizes, together
        self.seconds: dict[str, dict[str, float]] = {}
        self.compared: list[Compared] = []

    def begin(self) -> bool:
        """Makes the folders and inputs; tells whether there are real reports.

        Raises:
            SystemExit: a tree's Python takes the code of another one.
        """
        for side, tree in self.trees.items():
            (self.folder / side).mkdir(parents=True)
            where = self._python(side, ["-c", "import engine, jobs; print(engine.__file__); print(jobs.__path__[0])"])
            if not all(line.startswith(f"{tree}/") for line in where.stdout.split()):
                sys.exit(f"{tree}: Python takes other code: {where.stdout}{where.stderr}")
        (self.folder / "logs").mkdir()
        return inputs.write(self.folder / "inputs", self.sizes["tcga"], self.sizes["entities"], self.sizes["sentences"])

    def do(self, case: Case) -> None:
        """Runs a case with both trees, one after the other or at once, and compares."""
        with ThreadPoolExecutor(len(SIDES) if self.together else 1) as pool:
            ended = dict(zip(SIDES, pool.map(lambda side: self._run(side, case), SIDES), strict=True))
        codes = {side: done.returncode for side, done in ended.items()}
        if any(codes.values()):
            last = {side: (done.stderr.strip().splitlines() or [""])[-1] for side, done in ended.items() if done.returncode}
            told = "; ".join(f"{side} ended with {codes[side]}: {line}" for side, line in last.items())
            self._note(case.name, "command", 0, [Difference(told, 0, None, "")])
            return
        for name, rows, found in folders(*(self.folder / side / case.name for side in SIDES)):
            self._note(case.name, name, rows, found)
        if case.said:
            self._note(case.name, "printed", *pages(*(ended[side].stdout for side in SIDES)))

    def shipped(self) -> None:
        """Compares the checkpoints that come along."""
        for package in sorted({p.parent.name for tree in self.trees.values() for p in tree.glob("engine/models/*/shipped")}):
            for name, rows, found in folders(*(tree / "engine/models" / package / "shipped" for tree in self.trees.values())):
                self._note(f"{SHIPPED}/{package}", name, rows, found)

    def digests(self) -> dict[str, str]:
        """The digest of each file of tensors that comes along in this tree."""
        files = sorted(ROOT.glob("engine/models/*/shipped/**/*.safetensors"))
        return {str(path.relative_to(ROOT)): digest(tensors(path)) for path in files}

    def _run(self, side: str, case: Case) -> subprocess.CompletedProcess[str]:
        words = case.spelled(self.trees[side])
        for _ in range(_TRIES):
            began = time.perf_counter()
            done = self._python(side, ["-m", *words] if words[0].startswith("jobs.") else words)
            self.seconds.setdefault(case.name, {})[side] = round(time.perf_counter() - began, 1)
            if done.returncode != EXIT_RETRY:
                break
            print(f"  {side}: ended with {done.returncode}; again", flush=True)
            time.sleep(_PAUSE)
        log = f"{' '.join(words)}\n\n{done.stdout}\n{done.stderr}"
        (self.folder / "logs" / f"{case.name}.{side}.txt").write_text(log, "utf-8")
        return done

    def _python(self, side: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        folder = self.folder / side
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"PYTHONPATH": str(self.trees[side]), "XDG_CACHE_HOME": str(folder / "_cache"), "OMP_NUM_THREADS": "1"}
        # -P: neither the folder it stands in nor that of a script comes before the tree.
        command = [sys.executable, "-P", *words]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_LIMIT)

    def _note(self, case: str, name: str, rows: int, found: list[Difference]) -> None:
        reasons = {each.what: reason(f"{case}/{name}: {each.what}", each.largest) for each in found}
        allowed = {what: why for what, why in reasons.items() if why is not None}
        compared = Compared(case, name, rows, [each for each in found if each.what not in allowed], allowed)
        self.compared.append(compared)
        print(f"  {case}/{name}: {rows:,} rows, {'equal' if not found else 'allowed' if not compared.faults else 'DIFFERENT'}")
        for each in compared.faults[:12]:
            by = "" if each.largest is None else f", by {each.largest:.3g} at most"
            first = f" (first {each.first})" if each.first else ""
            print(f"    {each.what[:200]}: {each.rows:,} rows{by}{first}")
        if len(compared.faults) > 12:
            print(f"    and {len(compared.faults) - 12} more")
        for what, why in allowed.items():
            print(f"    {what[:200]}: allowed, {why}")
        sys.stdout.flush()


def chosen(every: Sequence[Case], only: Sequence[str], quick: bool, real: bool) -> list[Case]:
    """The cases to run: those named by themselves or by their part, and before them those whose results they read."""
    by_name = {case.name: case for case in every}
    fit = [case for case in every if (case.quick or not quick) and (real or not case.tcga)]
    wanted = {case.name for case in fit if not only or {case.part, case.name} & set(only)}
    waiting = list(wanted)
    while waiting:
        for name in by_name[waiting.pop()].after:
            if name not in wanted:
                wanted.add(name)
                waiting.append(name)
    return [case for case in every if case.name in wanted]


@contextlib.contextmanager
def checked_out(commit: str, folder: Path, keep: bool) -> Iterator[Path]:
    """The tree of a commit as a git worktree in that folder."""
    subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", folder, commit], check=True)
    try:
        yield folder
    finally:
        if not keep:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", folder], check=True)


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 where nothing differs, 1 where something does."""
    parser = argparse.ArgumentParser("python -m tests.unchanged", description=__doc__)
    parser.add_argument("--since", default=START, help="commit to compare with (%(default)s)")
    parser.add_argument("--output", type=Path, help="new folder for results, logs and result.json; else a temporary one")
    parser.add_argument(
        "--only", default="", help=f"cases, or parts of them: {SHIPPED},{','.join(dict.fromkeys(c.part for c in cases(FULL)))}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases and small ones")
    parser.add_argument("--sizes", default="", help=f"other sizes, as in demo=50,tcga=20; there are {FULL}, with --quick {QUICK}")
    parser.add_argument("--together", action="store_true", help="both trees at once: half the time where two cores are free")
    parser.add_argument("--keep", action="store_true", help="leave the old tree and both trees' results in --output")
    options = parser.parse_args(argv)
    sizes = dict(QUICK if options.quick else FULL)
    for name, _, value in (each.partition("=") for each in options.sizes.split(",") if each):
        if name not in sizes:
            parser.error(f"--sizes: there is no {name}")
        sizes[name] = int(value)
    every = cases(sizes)
    only = [part for part in options.only.split(",") if part]
    if unknown := set(only) - {SHIPPED, *(name for case in every for name in (case.part, case.name))}:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    with contextlib.ExitStack() as stack:
        base = options.output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unchanged-")))
        base.mkdir(parents=True, exist_ok=True)
        work = base.resolve()
        if not options.keep:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="work-", dir=work)))
        old = stack.enter_context(checked_out(options.since, work / "tree", options.keep))
        comparison = Comparison(old, work, sizes, options.together)
        real = comparison.begin()
        if not only or SHIPPED in only:
            comparison.shipped()
        for case in chosen(every, only, options.quick, real):
            print(f"{case.name}: {' '.join(case.words)}", flush=True)
            comparison.do(case)
            print("  " + ", ".join(f"{side} {seconds:.0f} s" for side, seconds in comparison.seconds[case.name].items()))
        faults = [compared for compared in comparison.compared if compared.faults]
        if options.output:
            result = {
                "since": options.since,
                "sizes": sizes,
                "equal": not faults,
                "seconds": comparison.seconds,
                "shipped": comparison.digests(),
                "compared": [asdict(each) for each in comparison.compared],
            }
            (options.output / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(comparison.compared)} tables and files compared, {len(faults)} different")
    for each in faults:
        print(f"  {each.case}/{each.name}: {', '.join(d.what for d in each.faults[:6])}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
