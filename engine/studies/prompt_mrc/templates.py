"""Trains with one of several kinds of templates in front of the text, and says how long they are.

    templates.kind: manual      hand-written: definition and examples
                    auto        the definition in templates.ontology and mentions from train
                    mentions    the type's name and mentions from train
                    name        the type's name
    templates.ontology: pkg:ontology
    templates.examples: 12      mentions in an automatic template, at most

Automatic templates have no more word pieces than the longest hand-written one, so that their length is no advantage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tokenizers import Tokenizer

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models.base import Corpus
from engine.models.prompt_mrc.config import HARD, NAME, STYLES
from engine.models.prompt_mrc.ontology import BuiltTemplate, build_templates, pieces_of, read_definitions
from engine.models.prompt_mrc.templates import queries
from engine.studies import whole
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.settings import options

MANUAL, AUTO, MENTIONS = "manual", "auto", "mentions"
QUESTIONS = "model.questions"


@dataclass(frozen=True)
class TemplatesConfig:
    kind: str
    ontology: str = "pkg:ontology"
    examples: int = 12


def fit(task: Task) -> whole.Fitted:
    """A model that asks for each type by a template of the arm's kind."""
    questions = {name: template.text for name, template in templates(task).items()}
    settings = {name: {**values, QUESTIONS: questions} for name, values in vars(task).items() if name in ("settings", "identity")}
    return whole.fit(replace(task, **settings))


def measure(model: whole.Fitted, task: Task) -> Measured:
    """`longest_template` in word pieces, and the mentions in each automatic one."""
    texts, tokenizer = templates(task), _tokenizer(model.corpus)
    rows = [Row("longest_template", max(pieces_of(each.text, tokenizer) for each in texts.values()), note="word pieces")]
    if task.settings["templates.kind"] in (AUTO, MENTIONS):
        rows += [Row("mentions_in", each.mentions, slice=f"type={name}") for name, each in texts.items()]
    return Measured(rows)


def templates(task: Task) -> Mapping[str, BuiltTemplate]:
    """What stands in front of the text for each type.

    Raises:
        ConfigError: there is no such kind, or the ontology table cannot be read or has none of the types.
    """
    config = options(TemplatesConfig, task, "templates")
    if config.kind not in (MANUAL, AUTO, MENTIONS, NAME):
        raise ConfigError(f"study: {task.study.name}: templates.kind is manual, auto, mentions or name, not '{config.kind}'")
    corpus = whole.corpus_of(task)
    model, tokenizer = corpus.config, _tokenizer(corpus)  # type: ignore[attr-defined]
    mode, style = (NAME, NAME) if config.kind == NAME else (HARD, STYLES[2])
    texts = queries(model.types, mode, model.language, style)
    if config.kind in (AUTO, MENTIONS):
        definitions = read_definitions(config.ontology, model.types, "templates.ontology") if config.kind == AUTO else {}
        room = max(pieces_of(text, tokenizer) for text in texts)
        documents = corpus.corpus  # type: ignore[attr-defined]
        return build_templates(documents, model.encoder, definitions, mentions=config.examples, budget=room)
    return {name: BuiltTemplate(text, 0) for name, text in zip(model.types, texts, strict=True)}


def _tokenizer(corpus: Corpus) -> Tokenizer:
    return load_tokenizer(encoder_folder(corpus.config.encoder))  # type: ignore[attr-defined]
