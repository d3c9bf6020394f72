"""What is asked about a text, type by type: templates that come along, and a user's own.

`templates.csv` has a row each type, language, style and version: the type's name as people say it, four questions, four ways to
put its definition, and the same with examples. A user's own questions are a mapping of type to text, from a YAML file or the
command line; a type that only they know is asked for without training (zero-shot).
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.models.prompt_mrc.config import NAME, SOFT, STYLES, TAGGER, MrcConfig

if TYPE_CHECKING:
    from yaml import Node

_TABLE = Path(__file__).with_name("templates.csv")


@dataclass(frozen=True)
class Template:
    """One way to ask for one type."""

    type: str
    language: str
    style: str
    version: int
    text: str


@cache
def templates() -> tuple[Template, ...]:
    """All that come along."""
    with open(_TABLE, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return tuple(Template(r["type"], r["language"], r["style"], int(r["version"]), r["text"]) for r in rows)


def check_language(language: str) -> None:
    """Whether templates, names and definitions come along in a language.

    Raises:
        ConfigError: none do.
    """
    known = sorted({each.language for each in templates()})
    if language not in known:
        raise ConfigError(
            f"model.language: there are no questions in '{language}'; there are some in {', '.join(known)}; "
            "with a question for every type in model.questions leave it out"
        )


def template(name: str, language: str, style: str, version: int = 1) -> Template:
    """The template of a type.

    Raises:
        ConfigError: there is no such language, style or version, or no template for the type.
    """
    check_language(language)
    if style not in (NAME, *STYLES):
        raise ConfigError(f"model.style: '{style}' is none of {', '.join(STYLES)}")
    mine = [each for each in templates() if each.type == name and each.language == language]
    if not mine:
        known = sorted({each.type for each in templates() if each.language == language})
        raise ConfigError(
            f"there is no question for the type '{name}' in '{language}'; give your own, "
            f"model.questions.{name}=<question>, or use {', '.join(known)}"
        )
    for each in mine:
        if (each.style, each.version) == (style, version):
            return each
    versions = sorted(each.version for each in mine if each.style == style)
    raise ConfigError(f"model.version: the style '{style}' has no version {version}; it has {', '.join(map(str, versions))}")


def queries(
    types: Sequence[str], mode: str, language: str, style: str, version: int = 1, own: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """What stands in front of a text for each type, in their order; `own` texts go before those that come along. None in a mode
    without words; a type that has a name in no language goes by the one it was given.

    Raises:
        ConfigError: a type has neither, or nothing comes along in the language of a mode with prompts.
    """
    if mode == TAGGER:
        return ()
    # Soft vectors start from definitions, so that they too have a language.
    check_language(language)
    if mode == SOFT:
        return ()
    ask = partial(_name, language=language) if mode == NAME else partial(_text, language=language, style=style, version=version)
    return tuple(own[name] if own and name in own else ask(name) for name in types)


def _text(name: str, language: str, style: str, version: int) -> str:
    return template(name, language, style, version).text


def _name(name: str, language: str) -> str:
    known = {each.language: each.text for each in templates() if (each.type, each.style) == (name, NAME)}
    if known and language not in known:
        raise ConfigError(
            f"model.language: '{name}' has its name in {', '.join(known)}, not in '{language}'; give it in model.questions, "
            "or set the language that it has"
        )
    return known.get(language, name.replace("_", " "))


def source(config: MrcConfig, name: str, text: str) -> dict[str, Any]:
    """Where what is asked for a type comes from: `language`, `style` and `version` of the template or name that comes along; else
    `source`, which is `type` for the type's own name and `own` for any other text, a user's or one made for the training."""
    style, version = (NAME, 1) if config.mode == NAME else (config.style, config.version)
    if Template(name, config.language, style, version, text) in templates():
        return {"language": config.language, "style": style, "version": version}
    return {"source": "type" if text == name.replace("_", " ") else "own"}


def questions_of(values: object, where: str) -> dict[str, str]:
    """A user's own questions: type -> text, as they stand in a YAML file or on the command line.

    Raises:
        ConfigError: not a mapping of names to texts, an empty one of these, or a name twice.
    """
    return _questions(None if not isinstance(values, Mapping) else list(values.items()), where)


def read_questions(path: Path) -> dict[str, str]:
    """The questions in a YAML file.

    Raises:
        ConfigError: it cannot be read, is no mapping of types to questions, or asks for a type twice.
    """
    import yaml

    try:
        # Nodes and no values: a mapping of values has lost those whose name comes again, and not every value can be made.
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"questions: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise ConfigError(f"questions: {path} is no readable YAML file") from None
    mapping = isinstance(node, yaml.MappingNode)
    return _questions([(_string(name), _string(text)) for name, text in node.value] if mapping else None, f"questions in {path}")


def _string(node: "Node") -> str | None:
    return node.value if node.tag == "tag:yaml.org,2002:str" else None


def _questions(pairs: Sequence[tuple[object, object]] | None, where: str) -> dict[str, str]:
    if pairs is None:
        raise ConfigError(f"{where}: wants a type and its question a line, such as 'Device: Which implants are mentioned?'")
    found: dict[str, str] = {}
    for name, text in pairs:
        if not isinstance(name, str) or not name.strip() or not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{where}: every type wants a name and a question, both as text")
        if name.strip() in found:
            raise ConfigError(f"{where}: the type '{name.strip()}' stands there twice; ask for it once")
        found[name.strip()] = " ".join(text.split())
    return found
