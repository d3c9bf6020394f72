"""The command line of every job: `python -m jobs.<name> key=value ...`. Hydra composes the settings; an exit code comes out.

    @dataclass
    class Config:
        output: Output = section(Output)            # engine/keys.py says how a key is written

    @job("make_corpus", Config, "Writes a synthetic corpus.", examples=["records=1000 output.path=corpus"])
    def main(config: Config) -> int | None:         # imports of heavy libraries belong in here: --help must be quick
        ...

    if __name__ == "__main__":
        main()

`conf/make_corpus.yaml`, if it exists, is the primary configuration; it begins with `defaults: [make_corpus_schema, ...]`. Without
it the dataclass stands alone. Hydra composes groups, experiments and overrides, and does nothing else: no `outputs/`, no logging,
no change of folder.

Exit codes: 0 done; 1 a bug; 2 wrong configuration or input; 3 try again; 4 done, with too many failed records; 130 interrupted;
141 nobody reads the output any more, such as `head`.
"""

import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.errors import EXIT_BUG, EXIT_OK, ConfigError, EngineError
from engine.keys import Key, build, check_value, compose, keys_of, value_at
from jobs._overrides import SYSTEM, Texts, at_home, flat, in_one_line, quoted, split, system_overrides, translate
from jobs._streams import is_full, open_streams, piped, unread
from jobs._usage import help_text

CONF = Path(__file__).resolve().parents[1] / "conf"
EXIT_INTERRUPTED = 130
RESUMES = "the same command again goes on where it stopped"
DEBUG = "MARGINALIA_DEBUG"

_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Job:
    """A job: its name, its configuration dataclass and what it does. Calling it runs it with the process's command line.

    `schema` is the dataclass, or a function that makes one for the package of a system. Then `model=` or `model.system` chooses
    the system first, and a key of another system is unknown. `again` is the advice after an interrupt.
    """

    name: str
    schema: type | Callable[[str], type]
    about: str
    examples: Sequence[str]
    body: Callable[[Any], int | None]
    conf: Path = CONF
    again: str = "run the same command again"

    def __call__(self) -> None:
        open_streams()
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")
        sys.exit(self.run(sys.argv[1:]))

    def run(self, argv: Sequence[str]) -> int:
        """Runs a command line and returns the exit code; raises nothing but SystemExit."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        with _interrupts() as interrupts:
            return piped(self.name, lambda: self._run(argv, interrupts))

    def _run(self, argv: Sequence[str], interrupts: Sequence[int]) -> int:
        try:
            flags, overrides = split(argv)
            values, missing = self.compose(overrides, flags)
            if "--help" in flags:
                keys = keys_of(self.schema_of(values))
                print(help_text(self.name, self.about, self.examples, keys, values, self.groups(flags, keys), self.chooses))
                return EXIT_OK
            if "--cfg" in flags:
                import yaml

                print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000).rstrip())
                return EXIT_OK
            if missing:
                names = "; ".join(f"{key.name} ({key.help.rstrip('.')})" for key in missing)
                raise ConfigError(f"missing {names}: give {' '.join(f'{key.name}=...' for key in missing)}")
            return self.body(self.configured(values)) or EXIT_OK
        except KeyboardInterrupt as error:
            _say(self.name, ": ".join(["interrupted", *map(str, error.args)]) if error.args else f"interrupted; {self.again}")
            return EXIT_INTERRUPTED
        except Exception as error:
            # DuckDB and Ray turn an interrupt into errors of their own.
            if interrupts:
                _say(self.name, f"interrupted; {self.again}")
                return EXIT_INTERRUPTED
            if (isinstance(error, BrokenPipeError) and unread()) or is_full(error):
                raise
            if isinstance(error, EngineError):
                _say(self.name, str(error))
                if error.exit_code == EXIT_BUG:
                    _say_where(error)
                return error.exit_code
            _say(self.name, f"unexpected {_name(error)}; this is a bug")
            _say_where(error)
            return EXIT_BUG

    @property
    def chooses(self) -> bool:
        """Whether the keys depend on the system that the user chooses."""
        return not isinstance(self.schema, type)

    def compose(self, overrides: Sequence[str], flags: Mapping[str, str]) -> tuple[dict, list[Key]]:
        """The configuration as nested plain values, checked, and the keys that still need a value.

        Raises:
            ConfigError: unknown key or choice, wrong type, value out of limits; in one line.
        """
        schema = self.schema(self._system(overrides, flags)) if self.chooses else self.schema
        keys = {key.name: key for key in keys_of(schema)}
        texts, groups = Texts(), self.groups(flags, keys.values())
        translated = [translate(override, keys, groups, texts) for override in overrides]
        values = texts.restore(self._hydra(translated, compose(schema), keys, texts, flags))
        missing = []
        for key in keys.values():
            home, _, last = key.name.rpartition(".")
            section = value_at(values, home) if home else values
            if section[last] == "???":
                missing.append(key)
            else:
                if key.path and isinstance(section[last], str):
                    section[last] = at_home(section[last])
                check_value(key, section[last])
        return values, missing

    def schema_of(self, values: Mapping[str, Any]) -> type:
        """The dataclass of a composed configuration."""
        return self.schema(value_at(values, SYSTEM)) if self.chooses else self.schema

    def configured(self, values: Mapping[str, Any]) -> Any:
        """A composed configuration as the job's function gets it."""
        return build(self.schema_of(values), values)

    def groups(self, flags: Mapping[str, str], keys: Iterable[Key] | None = None) -> dict[str, list[str]]:
        """The configuration groups of the job, each with its choices: the files in the group's folder.

        With `keys`, only choices that set one; a choice that sets keys anywhere is offered where the job has all that it sets.
        """
        sections = {key.name.partition(".")[0] for key in keys or ()}
        entries = [next(iter(entry.items())) for entry in self._defaults(flags) if isinstance(entry, dict)]
        # An entry with an interpolation depends on the choice of another group.
        names = [group for group, choice in entries if "${" not in (choice or "")]
        names = [group.removeprefix("optional ").removeprefix("override ") for group in names]
        groups: dict[str, list[str]] = {}
        for group in names:
            files = [file for folder in self._folders(flags) for file in (folder / group).glob("*.yaml")]
            if keys is not None:
                sets = {file: _sets(file) for file in files}
                files = [file for file in files if ({group} if sets[file] is None else sets[file] - {*names}) <= sections]
                if not files and group not in sections:
                    continue
            groups[group] = sorted({file.stem for file in files})
        return groups

    def _defaults(self, flags: Mapping[str, str]) -> list[Any]:
        """The defaults list of the primary configuration; empty where there is none."""
        import yaml

        file = self._primary(flags)
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8")) if file else None
            return (values or {}).get("defaults") or []
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError):
            raise ConfigError(f"{file} is not a readable YAML mapping") from None

    def _primary(self, flags: Mapping[str, str]) -> Path | None:
        """The file of the primary configuration."""
        files = [folder / f"{flags.get('--config-name', self.name)}.yaml" for folder in self._folders(flags)]
        return next(filter(Path.is_file, files), None)

    def _folders(self, flags: Mapping[str, str]) -> list[Path]:
        return [self.conf] + ([Path(flags["--config-dir"])] if "--config-dir" in flags else [])

    def _system(self, overrides: Sequence[str], flags: Mapping[str, str]) -> str:
        """The package of the chosen system, as Hydra composes it from the choices alone: the keys depend on it.

        Raises:
            ConfigError: no system is chosen, or there is no such package.
        """
        texts, groups = Texts(), self.groups(flags)
        package = texts.restore(self._hydra(system_overrides(overrides, groups, texts), None, {}, texts, flags))
        choices = " or ".join(f"model={name}" for name in groups.get("model", ())) or f"{SYSTEM}=<package>"
        if package is None:
            raise ConfigError(f"{SYSTEM}: no system is chosen; give {choices}")
        if not _exists(package):
            raise ConfigError(f"{SYSTEM}: there is no package '{package}'; give {choices}")
        return package

    def _hydra(
        self, overrides: list[str], schema: type | None, keys: Mapping[str, Key], texts: Texts, flags: Mapping[str, str]
    ) -> Any:
        """The composed values; without a schema only the package of the system."""
        import yaml
        from hydra import compose, initialize_config_dir
        from hydra.core.config_store import ConfigStore
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        ConfigStore.instance().store(f"{self.name}_schema", schema or {}, provider="marginalia")
        if "--config-dir" in flags:
            folder = os.path.abspath(flags["--config-dir"])
            if not os.path.isdir(folder):
                raise ConfigError(f"--config-dir: no folder {folder}")
            overrides = [*overrides, "hydra.searchpath=[" + quoted("file://" + folder) + "]"]
        name = flags.get("--config-name", self.name)
        if self._primary(flags) is None:
            if "--config-name" in flags:
                raise ConfigError(f"--config-name: no file {name}.yaml in the configuration folders")
            name = f"{self.name}_schema"
        logging.getLogger("hydra").setLevel(logging.ERROR)
        try:
            with initialize_config_dir(str(self.conf), version_base="1.3", job_name=self.name):
                config = compose(name, overrides)
            return OmegaConf.to_container(config, resolve=True) if schema else OmegaConf.select(config, SYSTEM)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(texts.restore(in_one_line(error, keys))) from None
        except yaml.YAMLError as error:
            raise ConfigError(f"a configuration file is no valid YAML: {flat(error)}") from None


def job(
    name: str,
    schema: type | Callable[[str], type],
    about: str,
    examples: Sequence[str] = (),
    conf: Path = CONF,
    again: str = Job.again,
) -> Callable[[Callable[[Any], int | None]], Job]:
    """Turns a function of a configuration into a job. The function returns an exit code, or None for 0."""
    return lambda body: Job(name, schema, about, tuple(examples), body, conf, again)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The SIGINTs that come during the block; each still raises KeyboardInterrupt."""
    interrupts: list[int] = []

    def handle(number: int, frame: Any) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    # Only the main thread may set a handler, and a handler that is not Python's own stays.
    python_handles = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    replaces = python_handles and threading.current_thread() is threading.main_thread()
    if replaces:
        signal.signal(signal.SIGINT, handle)
    try:
        yield interrupts
    finally:
        if replaces:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _exists(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _sets(file: Path) -> set[str] | None:
    """The sections and groups that a file sets, None if they are its own group's alone."""
    import yaml

    text = file.read_text(encoding="utf-8", errors="replace")
    if "@package _global_" not in text:
        return None
    try:
        values = yaml.safe_load(text) or {}
        names = [next(iter(entry)) for entry in values.pop("defaults", []) if isinstance(entry, dict)]
    except (yaml.YAMLError, AttributeError):
        return set()  # Hydra says what is wrong with it when it is chosen.
    return {*values, *(name.removeprefix("override ").strip("/") for name in names)}


def _say(name: str, message: str) -> None:
    one_line = re.sub(r"[ ]*[\r\n]+[ ]*", " ", message.strip())
    print(f"{name}: {one_line}", file=sys.stderr)


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def _say_where(error: BaseException) -> None:
    """Prints the frames of an exception and of its causes, without messages: one of another library may quote a record."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
        return
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for cause in reversed(chain):
        print(f"{_name(cause)} at", file=sys.stderr)
        print("".join(traceback.format_tb(cause.__traceback__)), file=sys.stderr, end="")
    print(f"Messages are withheld, they may quote a report; {DEBUG}=1 shows them.", file=sys.stderr)
