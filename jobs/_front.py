"""The front door of every job: `python -m jobs.<name> key=value ...`, Hydra in, exit code out.

    @dataclass
    class Config:
        output: Output = section(Output)            # jobs/_keys.py says how a key is written

    @job("make_corpus", Config, "Writes a synthetic corpus.", examples=["records=1000 output.path=corpus"])
    def main(config: Config) -> int | None:         # imports of heavy libraries belong in here: --help must be quick
        ...

    if __name__ == "__main__":
        main()

`conf/make_corpus.yaml`, if it is there, is the primary configuration; it begins with `defaults: [make_corpus_schema, ...]`.
Without it the dataclass stands alone. Hydra composes (groups, experiments, overrides) and does nothing else: no `outputs/`, no
logging set-up, no change of folder.

Text values never pass through Hydra's parser. A stand-in is composed in their place and replaced afterwards, so that a file may
be called `my reports [2024], a=b~.csv` and needs no quotes beyond those for the shell.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import EXIT_BUG, EXIT_OK, ConfigError, EngineError
from jobs._keys import Key, build, check_value, closest, keys_of
from jobs._streams import is_full, open_streams, piped, unread

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
_OVERRIDE = re.compile(r"(\+{0,2})([A-Za-z_][\w.]*)=(.*)", re.DOTALL)
_ENTRY = re.compile(r"\+{0,2}([^={}]+)=(.*)", re.DOTALL)
_ITEM = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]*?)\s*(,|$)""", re.DOTALL)
_FLAGS = {"-h": "--help", "-c": "--cfg", "-cd": "--config-dir", "-cn": "--config-name", "-m": "--multirun"}
_TAKES_VALUE = ("--cfg", "--config-dir", "--config-name")


@dataclass(frozen=True)
class Job:
    """A job: its name, its configuration dataclass and what it does. Calling it is running it from the command line.

    `again` is what to do after it was interrupted.
    """

    name: str
    schema: type
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
            flags, overrides = _split(argv)
            if "--help" in flags:
                from jobs._help import help_text

                values, _ = self.compose(overrides, flags)
                print(help_text(self, values, self.groups(flags)))
                return EXIT_OK
            values, missing = self.compose(overrides, flags)
            if "--cfg" in flags:
                import yaml

                print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000).rstrip())
                return EXIT_OK
            if missing:
                told = "; ".join(f"{key.name} ({key.help.rstrip('.')})" for key in missing)
                raise ConfigError(f"missing {told}: give {' '.join(f'{key.name}=...' for key in missing)}")
            return self.body(build(self.schema, values)) or EXIT_OK
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

    def compose(self, overrides: Sequence[str], flags: Mapping[str, str]) -> tuple[dict, list[Key]]:
        """The configuration as nested plain values, checked, and the keys that still want a value.

        Raises:
            ConfigError: unknown key or choice, wrong type, value out of limits; in one line.
        """
        keys = {key.name: key for key in keys_of(self.schema)}
        texts = _Texts()
        groups = self.groups(flags)
        translated = [_translate(each, keys, groups, texts) for each in overrides]
        values = texts.restore(self._hydra(translated, keys, texts, flags))
        missing = []
        for key in keys.values():
            *sections, last = key.name.split(".")
            home = values
            for each in sections:
                home = home[each]
            if home[last] == "???":
                missing.append(key)
                continue
            if key.path and isinstance(home[last], str):
                home[last] = _home(home[last])
            check_value(key, home[last])
        return values, missing

    def groups(self, flags: Mapping[str, str]) -> dict[str, list[str]]:
        """The configuration groups of the job, each with its choices: the files that lie beside its default one, or in a folder
        beside its folder."""
        import yaml

        name = flags.get("--config-name", self.name)
        primary = [f / f"{name}.yaml" for f in self._folders(flags) if (f / f"{name}.yaml").is_file()]
        if not primary:
            return {}
        try:
            defaults = (yaml.safe_load(primary[0].read_text(encoding="utf-8")) or {}).get("defaults") or []
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError):
            raise ConfigError(f"{primary[0]} is not a readable YAML mapping") from None
        found: dict[str, list[str]] = {}
        for entry in defaults:
            if isinstance(entry, dict):
                named, choice = next(iter(entry.items()))
                if "${" in (choice or ""):
                    continue  # It goes along with another group's choice.
                group = named.removeprefix("optional ").removeprefix("override ")
                deep = "*/" * (len(PurePosixPath(choice or "").parts) - 1)
                homes = [f / group for f in self._folders(flags)]
                files = [file.relative_to(home) for home in homes for file in home.glob(f"{deep}*.yaml")]
                found[group] = sorted({file.with_suffix("").as_posix() for file in files})
        return found

    def _folders(self, flags: Mapping[str, str]) -> list[Path]:
        return [self.conf] + ([Path(flags["--config-dir"])] if "--config-dir" in flags else [])

    def _hydra(self, overrides: list[str], keys: Mapping[str, Key], texts: "_Texts", flags: Mapping[str, str]) -> dict:
        import yaml
        from hydra import compose, initialize_config_dir
        from hydra.core.config_store import ConfigStore
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        ConfigStore.instance().store(f"{self.name}_schema", self.schema, provider="marginalia")
        if "--config-dir" in flags:
            folder = os.path.abspath(flags["--config-dir"])
            if not os.path.isdir(folder):
                raise ConfigError(f"--config-dir: no folder {folder}")
            overrides = [*overrides, "hydra.searchpath=[" + _quoted("file://" + folder) + "]"]
        name = flags.get("--config-name", self.name)
        if not any((folder / f"{name}.yaml").is_file() for folder in self._folders(flags)):
            if "--config-name" in flags:
                raise ConfigError(f"--config-name: no file {name}.yaml in the configuration folders")
            name = f"{self.name}_schema"
        logging.getLogger("hydra").setLevel(logging.ERROR)
        try:
            with initialize_config_dir(str(self.conf), version_base="1.3", job_name=self.name):
                config = compose(name, overrides)
            return OmegaConf.to_container(config, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(texts.restore(_one_line(error, keys))) from None
        except yaml.YAMLError as error:
            raise ConfigError(f"a configuration file is no valid YAML: {_flat(error)}") from None


def job(
    name: str, schema: type, about: str, examples: Sequence[str] = (), conf: Path = CONF, again: str = Job.again
) -> Callable[[Callable[[Any], int | None]], Job]:
    """Makes a function of a configuration a job. The function returns an exit code, or None for 0."""
    return lambda body: Job(name, schema, about, tuple(examples), body, conf, again)


@dataclass
class _Texts:
    """Text values on their way around Hydra's parser and OmegaConf's interpolation."""

    held: dict[str, str] = field(default_factory=dict)

    def hold(self, text: str) -> str:
        stand_in = f"text_value_{len(self.held):04d}_"
        self.held[stand_in] = text
        return stand_in

    def restore(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.restore(k): self.restore(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.restore(v) for v in value]
        if isinstance(value, str) and "text_value_" in value:
            return re.sub(r"text_value_\d{4}_", lambda m: self.held.get(m[0], m[0]), value)
        return value


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


def _split(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Command line to flags (with their values) and overrides."""
    flags: dict[str, str] = {}
    overrides: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flag, equals, value = word.partition("=")
        flag = _FLAGS.get(flag, flag)
        if flag == "--multirun":
            raise ConfigError("--multirun is not supported: start the job once for each setting, each with its own output folder")
        if flag in _TAKES_VALUE:
            if not equals and not rest:
                raise ConfigError(f"{flag} wants a value")
            flags[flag] = value if equals else rest.pop(0)
        elif flag == "--help":
            flags[flag] = ""
        elif flag != "--resolve":
            raise ConfigError(
                f"unknown option {flag}{closest(flag, ['--help', '--resolve', *_TAKES_VALUE])}; settings are key=value"
            )
    if flags.get("--cfg", "job") != "job":
        raise ConfigError(f"--cfg {flags['--cfg']}: only --cfg job is supported")
    return flags, overrides


def _translate(override: str, keys: Mapping[str, Key], groups: Mapping[str, list[str]], texts: _Texts) -> str:
    """One override as Hydra may have it: known key, known choice, text replaced by a stand-in."""
    entry = _ENTRY.fullmatch(override)
    for name, key in keys.items() if entry else ():
        # An entry's name is the user's own, such as a type's, with letters that Hydra's parser does not know.
        if key.kind is dict and entry[1].startswith(f"{name}."):
            value = texts.hold(entry[2]) if key.inner is str else entry[2]
            return f"++{name}.{texts.hold(entry[1].removeprefix(f'{name}.'))}={value}"
    match = _OVERRIDE.fullmatch(override)
    if not match:
        if re.fullmatch(r"~[\w.]+(=.*)?", override):
            raise ConfigError(f"{override}: a key cannot be removed; set it to null if --help says that it may be")
        raise ConfigError(f"'{override}' is not key=value; --help lists the keys")
    _, name, value = match.groups()
    if name in groups:
        if value not in groups[name] and value != "null":
            inside = [k for k in keys if k.startswith(name + ".")]
            hint = closest(value, groups[name]) or (f"; for one setting give {inside[0]}=..." if inside else "")
            raise ConfigError(f"{name}: no choice '{value}'{hint}; has {', '.join(groups[name])}")
        return f"{name}={value}"
    key = keys.get(name)
    if key is None:
        raise ConfigError(f"unknown key '{name}'{closest(name, [*keys, *groups])}; --help lists them all")
    if value == "???" or (value == "null" and key.optional):
        return f"{name}={value}"
    if key.is_text:
        return f"{name}={texts.hold(value if key.path else _unquoted(value))}"
    if key.is_texts:
        return f"{name}=[{','.join(texts.hold(item) for item in _items(value))}]"
    if not value.strip() or not ("${" in value or _reads(key.kind, value)):
        raise ConfigError(f"{name}: {value!r} is not allowed; wants {key.wants}")
    return f"{'++' if key.kind is dict else ''}{name}={value}"


def _reads(kind: type, value: str) -> bool:
    """Whether a number or a truth value can be read from a text; other kinds are left to Hydra."""
    if kind is bool:
        return value.lower() in ("true", "false", "yes", "no", "on", "off", "1", "0")
    try:
        return kind not in (int, float) or kind(value) is not None
    except ValueError:
        return False


def _items(value: str) -> list[str]:
    """`[a, b c, "d, e"]`, with or without brackets, to its items."""
    inner = value.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    return [_unquoted(m[1]) for m in _ITEM.finditer(inner) if m[1]]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _quoted(text: str) -> str:
    escaped = re.sub(r"(\\*)(')", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped).replace("${", r"\${") + "'"


def _home(path: str) -> str:
    """`~/x` below the home folder, as a shell would have it, unless a folder here is really called `~`."""
    return os.path.expanduser(path) if path.startswith("~/") and not os.path.lexists("~") else path


def _one_line(error: BaseException, keys: Mapping[str, Key]) -> str:
    """What Hydra or OmegaConf complains about, in our words where the key is known."""
    cause: BaseException | None = error
    while cause is not None:
        written = re.search(r"full_key: (\S+)", str(cause))
        name = getattr(cause, "full_key", None) or (written[1] if written else None)
        if name:
            key = keys.get(name) or keys.get(name.partition("[")[0]) or keys.get(name.rpartition(".")[0])
            given = re.search(r"[Vv]alue '(.*?)'", str(cause))
            if key is None:
                return f"{name}: {_flat(cause)}"
            return f"{name}: {repr(given[1]) if given else 'this value'} is not allowed; wants {key.wants}"
        cause = cause.__cause__
    told = _flat(error)
    name = re.search(r"\+\+([\w.]+)=\{", told)
    if name and name[1] in keys:
        return f"{name[1]}: what stands in braces cannot be read; give each entry by itself, as in {name[1]}.<name>=<value>"
    return told


def _flat(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("full_key", "object_type", "reference_type")))


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
