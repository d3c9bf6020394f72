"""The text that asks for each type: built-in templates, and a user's own questions.

`templates.csv` has a row for each type, language, style and version: the type's usual name and others, four questions, four
wordings of its definition, and four of the definition with examples. A user's own questions map types to texts, from a YAML file
or the command line; a type that occurs only there is asked for without training (zero-shot).
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import encoder_digest, encoder_folder, load_tokenizer, special_ids
from engine.errors import ConfigError
from engine.models.prompt_mrc.config import NAME, SOFT, STYLES, TAGGER, MrcConfig

if TYPE_CHECKING:
    from yaml import Node

_TABLE = Path(__file__).with_name("templates.csv")


@cache
def templates() -> Mapping[tuple[str, str, str, int], str]:
    """The built-in texts by type, language, style and version. A type's usual name has the style `name`."""
    with open(_TABLE, encoding="utf-8", newline="") as file:
        return {(r["type"], r["language"], r["style"], int(r["version"])): r["text"] for r in csv.DictReader(file)}


def template(name: str, language: str, style: str, version: int = 1) -> str:
    """The built-in text that asks for a type.

    Raises:
        ConfigError: there is no such language, style or version, or no template for the type.
    """
    _check_language(language)
    if style not in (NAME, *STYLES):
        raise ConfigError(f"model.style: '{style}' is none of {', '.join(STYLES)}")
    types = sorted({key[0] for key in templates() if key[1] == language})
    if name not in types:
        raise ConfigError(
            f"there is no question for the type '{name}' in '{language}'; give your own, "
            f"model.questions.{name}=<question>, or use {', '.join(types)}"
        )
    if (name, language, style, version) not in templates():
        versions = ", ".join(str(key[3]) for key in sorted(templates()) if key[:3] == (name, language, style))
        raise ConfigError(f"model.version: the style '{style}' has no version {version}; it has {versions}")
    return templates()[name, language, style, version]


def queries(
    types: Sequence[str], mode: str, language: str, style: str, version: int = 1, own: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The text in front of the context for each type, in their order; empty in a mode without words.

    In the mode `name`, a type without a built-in name in any language is asked for by its own name.

    Args:
        own: type -> a user's text, used instead of the built-in one.
    Raises:
        ConfigError: a type has no text, or the language of a mode with prompts is not built in.
    """
    if mode == TAGGER:
        return ()
    # Soft vectors start from definitions, so they have a language too.
    _check_language(language)
    if mode == SOFT:
        return ()

    def built_in(name: str) -> str:
        return _name(name, language) if mode == NAME else template(name, language, style, version)

    return tuple(own[name] if own and name in own else built_in(name) for name in types)


def complete_config(config: MrcConfig, own: Mapping[str, str] | None = None) -> MrcConfig:
    """The configuration with what follows from it: each type's query, and the encoder's digest and special tokens.

    Args:
        own: see `queries`.
    Raises:
        ConfigError: see `queries`; or the encoder is not available.
    """
    texts = queries(config.types, config.mode, config.language, config.style, config.version, own)
    special = special_ids(load_tokenizer(encoder_folder(config.encoder)))
    return replace(config, queries=texts, encoder_digest=encoder_digest(config.encoder), special=special)


def definition(name: str, config: MrcConfig) -> str:
    """The text that a type's soft vectors start from: its built-in definition, else its query, else its name."""
    query = dict(zip(config.types, config.queries, strict=False)).get(name, name.replace("_", " "))
    return templates().get((name, config.language, STYLES[1], 1), query)


def source(config: MrcConfig, name: str, text: str) -> dict[str, Any]:
    """Where the text that asks for a type comes from.

    Returns:
        `language`, `style` and `version` of a built-in template or name. Otherwise `source`: `type` for the type's own name,
        `own` for any other text, from a user or built for the training.
    """
    style, version = (NAME, 1) if config.mode == NAME else (config.style, config.version)
    if templates().get((name, config.language, style, version)) == text:
        return {"language": config.language, "style": style, "version": version}
    return {"source": "type" if text == name.replace("_", " ") else "own"}


def checked_questions(questions: Mapping[Any, Any] | Iterable[tuple[Any, Any]], where: str) -> dict[str, str]:
    """A user's own questions, type -> text, without superfluous blanks.

    Args:
        questions: a mapping or pairs, unchecked. where: they were given, for messages.
    Raises:
        ConfigError: a type or question is not text or empty, or a type occurs twice.
    """
    checked: dict[str, str] = {}
    for name, text in questions.items() if isinstance(questions, Mapping) else questions:
        if not isinstance(name, str) or not name.strip() or not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{where}: every type needs a name and a question, both as text")
        if name.strip() in checked:
            raise ConfigError(f"{where}: the type '{name.strip()}' occurs twice; ask for it once")
        checked[name.strip()] = " ".join(text.split())
    return checked


def read_questions(path: Path) -> dict[str, str]:
    """The questions in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is no mapping of types to questions, or asks for a type twice.
    """
    import yaml

    try:
        # Nodes instead of values: a mapping of values would drop repeated names, and not every value can be built.
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"questions: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise ConfigError(f"questions: {path} is no readable YAML file") from None
    where = f"questions in {path}"
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{where}: give a type and its question per line, such as 'Device: Which implants are mentioned?'")

    def string(value: "Node") -> str | None:
        return value.value if value.tag == "tag:yaml.org,2002:str" else None

    return checked_questions([(string(name), string(text)) for name, text in node.value], where)


def _check_language(language: str) -> None:
    languages = sorted({key[1] for key in templates()})
    if language not in languages:
        raise ConfigError(
            f"model.language: there are no questions in '{language}'; there are some in {', '.join(languages)}; "
            "with a question for every type in model.questions leave it out"
        )


def _name(name: str, language: str) -> str:
    names = {key[1]: text for key, text in templates().items() if (key[0], *key[2:]) == (name, NAME, 1)}
    if names and language not in names:
        raise ConfigError(
            f"model.language: '{name}' has its name in {', '.join(names)}, not in '{language}'; give it in model.questions, "
            "or set the language that it has"
        )
    return names.get(language, name.replace("_", " "))
