"""The house of docs/architecture.md: which room imports from which, no circles, and nobody knows a system by its name."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.models.base import systems

ROOT = Path(__file__).parents[1]
# From the ground up: a file imports from its own room and from rooms that stand before it here.
ROOMS = (
    *("errors", "machine", "keys", "records", "storage"),
    *("text", "images", "hub", "encoders", "vision", "conversion", "batching", "shuffling", "registry"),
    *("sources", "explain", "evaluation"),
    *("pages", "models"),
    *("local_ray", "pipeline", "training", "benchmarks", "serving"),
    "studies",
)
MAY_IMPORT_RAY = {"pipeline", "training", "benchmarks", "serving", "studies"}
# Studies name what they study.
STUDIES = ("engine/studies/", "jobs/study/")


def _files() -> dict[str, Path]:
    """Module name -> file, of engine and jobs."""
    found = {}
    for path in sorted([*ROOT.glob("engine/**/*.py"), *ROOT.glob("jobs/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = _files()


def _imports(module: str, path: Path) -> Iterator[str]:
    """The modules of engine and jobs that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in FILES or node.module in FILES:
                    yield full if full in FILES else node.module


GRAPH = {module: sorted(set(_imports(module, path)) - {module}) for module, path in FILES.items()}


# A package of the models that fills no table holds what several systems share.
SYSTEMS = sorted(name.rpartition(".")[2] for name in systems())


def _room(module: str) -> str:
    return module.split(".")[1] if module.startswith("engine.") else module


def _system(module: str) -> str | None:
    """The system whose folder a module lies in."""
    parts = [*module.split("."), ""]
    return parts[2] if parts[:2] == ["engine", "models"] and parts[2] in SYSTEMS else None


def test_every_room_has_its_place() -> None:
    rooms = {_room(module) for module in FILES if module.startswith("engine.")}
    assert rooms <= set(ROOMS), f"give these a place: {sorted(rooms - set(ROOMS))}"


def test_no_file_imports_from_a_room_below_its_own() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if module.startswith("engine.")
        and (other.startswith("jobs") or (other != "engine" and ROOMS.index(_room(other)) > ROOMS.index(_room(module))))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_system_imports_another_one() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if _system(module) and _system(other) and _system(module) != _system(other)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    circles = [sorted(some) for some in _components(GRAPH) if len(some) > 1]
    assert not circles, "\n".join(" <-> ".join(some) for some in circles)


def test_only_rooms_that_work_in_a_cluster_import_ray() -> None:
    wrong = []
    for module, path in FILES.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
        if "ray" in names and module.startswith("engine.") and _room(module) not in MAY_IMPORT_RAY:
            wrong.append(module)
    assert not wrong


def test_nothing_outside_its_folder_knows_a_system_by_name() -> None:
    # A name that is also a word counts only where it is a package or a choice.
    names = [name if "_" in name else rf"(?<=models[./]){name}|(?<=model=){name}" for name in SYSTEMS]
    named = re.compile(rf"\b({'|'.join(names)})\b")
    wrong = []
    for module, path in FILES.items():
        place = path.relative_to(ROOT).as_posix()
        if _system(module) or place.startswith(STUDIES):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        wrong += [f"{place}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if named.search(line)]
    assert not wrong, "\n".join(wrong)


def _components(graph: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Groups of modules that reach each other (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph[module]:
            if other not in index:
                yield from visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            at = stack.index(module)
            yield stack[at:]
            del stack[at:]

    for module in graph:
        if module not in index:
            yield from visit(module)
