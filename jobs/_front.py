"""The front door of every job: `python -m jobs.<name> key=value ...`, Hydra in, exit code out.

    @dataclass
    class Config:
        output: Output = section(Output)            # engine/keys.py says how a key is written

    @job("make_corpus", Config, "Writes a synthetic corpus.", examples=["records=1000 output.path=corpus"])
    def main(config: Config) -> int | None:         # imports of heavy libraries belong in here: --help must be quick
        ...

    if __name__ == "__main__":
        main()

`conf/make_corpus.yaml`, if it is there, is the primary configuration; it begins with `defaults: [make_corpus_schema, ...]`.
Without it the dataclass stands alone. Hydra composes (groups, experiments, overrides) and does nothing else: no `outputs/`, no
logging set-up, no change of folder.

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
from engine.keys import Key, build, check_value, composed, keys_of, value_at
from jobs._overrides import SYSTEM, Texts, at_home, choosing, flat, in_one_line, quoted, split, translate
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
    """A job: its name, its configuration dataclass and what it does. Calling it is running it from the command line.

    `schema` is that dataclass, or what makes one for the package of a system: then `model=` or `model.system` chooses the system
    first, and a key of another one is unknown. `again` is what to do after the job was interrupted.
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
        """Does what a command line asks; returns the exit code and lets no exception out but SystemExit."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        with _interrupts() as came:
            return piped(self.name, lambda: self._run(argv, came))

    def _run(self, argv: Sequence[str], came: Sequence[int]) -> int:
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
                told = "; ".join(f"{key.name} ({key.help.rstrip('.')})" for key in missing)
                raise ConfigError(f"missing {told}: give {' '.join(f'{key.name}=...' for key in missing)}")
            return self.body(self.configured(values)) or EXIT_OK
        except KeyboardInterrupt as error:
            _say(self.name, ": ".join(["interrupted", *map(str, error.args)]) if error.args else f"interrupted; {self.again}")
            return EXIT_INTERRUPTED
        except Exception as error:
            if came:
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
        """Whether the keys of the job are those of a system that its user chooses."""
        return not isinstance(self.schema, type)

    def compose(self, overrides: Sequence[str], flags: Mapping[str, str]) -> tuple[dict, list[Key]]:
        """The configuration as nested plain values, checked, and the keys that still want a value.

        Raises:
            ConfigError: unknown key or choice, wrong type, value out of limits; in one line.
        """
        schema = self.schema(self._system(overrides, flags)) if self.chooses else self.schema
        keys = {key.name: key for key in keys_of(schema)}
        texts, groups = Texts(), self.groups(flags, keys.values())
        translated = [translate(each, keys, groups, texts) for each in overrides]
        values = texts.restore(self._hydra(translated, composed(schema), keys, texts, flags))
        missing = []
        for key in keys.values():
            home, _, last = key.name.rpartition(".")
            section = value_at(values, home) if home else values
            if section[last] == "???":
                missing.append(key)
                continue
            if key.path and isinstance(section[last], str):
                section[last] = at_home(section[last])
            check_value(key, section[last])
        return values, missing

    def schema_of(self, values: Mapping[str, Any]) -> type:
        """The dataclass of a composed configuration."""
        return self.schema(value_at(values, SYSTEM)) if self.chooses else self.schema

    def configured(self, values: Mapping[str, Any]) -> Any:
        """What the job's function gets of a composed configuration."""
        return build(self.schema_of(values), values)

    def groups(self, flags: Mapping[str, str], keys: Iterable[Key] | None = None) -> dict[str, list[str]]:
        """The configuration groups of the job, each with its choices: the files in the group's folder. Of `keys`, where they are
        given, a choice must set one; one that sets keys anywhere is offered where the job has all that it sets."""
        import yaml

        name = flags.get("--config-name", self.name)
        primary = [f / f"{name}.yaml" for f in self._folders(flags) if (f / f"{name}.yaml").is_file()]
        if not primary:
            return {}
        try:
            defaults = (yaml.safe_load(primary[0].read_text(encoding="utf-8")) or {}).get("defaults") or []
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError):
            raise ConfigError(f"{primary[0]} is not a readable YAML mapping") from None
        groups: dict[str, list[str]] = {}
        entries = [next(iter(entry.items())) for entry in defaults if isinstance(entry, dict)]
        # A choice with an interpolation goes along with another group's choice.
        named = [group for group, choice in entries if "${" not in (choice or "")]
        named = [group.removeprefix("optional ").removeprefix("override ") for group in named]
        sections = {key.name.partition(".")[0] for key in keys or ()}
        for group in named:
            files = [file for folder in self._folders(flags) for file in (folder / group).glob("*.yaml")]
            if keys is not None:
                local = group in sections
                beyond = [(file, _sets(file)) for file in files]
                files = [file for file, sets in beyond if (local if sets is None else sets <= {*sections, *named})]
                if not files and group not in sections:
                    continue
            groups[group] = sorted({file.stem for file in files})
        return groups

    def _folders(self, flags: Mapping[str, str]) -> list[Path]:
        return [self.conf] + ([Path(flags["--config-dir"])] if "--config-dir" in flags else [])

    def _system(self, overrides: Sequence[str], flags: Mapping[str, str]) -> str:
        """The package of the chosen system, which must be known before the keys are: as Hydra composes it of the choices alone.

        Raises:
            ConfigError: none is chosen, or there is no such package.
        """
        texts, groups = Texts(), self.groups(flags)
        package = texts.restore(self._hydra(choosing(overrides, groups, texts), None, {}, texts, flags))
        choices = " or ".join(f"model={name}" for name in groups.get("model", ())) or f"{SYSTEM}=<package>"
        if package is None:
            raise ConfigError(f"{SYSTEM}: no system is chosen; give {choices}")
        if not _exists(package):
            raise ConfigError(f"{SYSTEM}: there is no package '{package}'; give {choices}")
        return package

    def _hydra(
        self, overrides: list[str], schema: type | None, keys: Mapping[str, Key], texts: Texts, flags: Mapping[str, str]
    ) -> Any:
        """The composed values; without a schema the package of the system alone."""
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
        if not any((folder / f"{name}.yaml").is_file() for folder in self._folders(flags)):
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
    """Makes a function of a configuration a job. The function returns an exit code, or None for 0."""
    return lambda body: Job(name, schema, about, tuple(examples), body, conf, again)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The SIGINTs that come during the block, each a KeyboardInterrupt as ever: DuckDB and Ray make other errors of that."""
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    # In another thread Python lets nobody set a handler, and one that is not Python's own says what it wants by itself.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    is_ours = is_ours and threading.current_thread() is threading.main_thread()
    if is_ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        if is_ours:
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
    """The frames of an exception and of those behind it, without the messages: a foreign one may quote a record."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
        return
    chain = [error]
    while (behind := chain[-1].__cause__ or chain[-1].__context__) is not None and behind not in chain:
        chain.append(behind)
    for each in reversed(chain):
        print(f"{_name(each)} at", file=sys.stderr)
        print("".join(traceback.format_tb(each.__traceback__)), file=sys.stderr, end="")
    print(f"Messages are withheld, they may quote a report; {DEBUG}=1 shows them.", file=sys.stderr)
