"""Reports in, rows of `entities` out."""

from dataclasses import replace

import pyarrow as pa
import pytest

from engine.errors import ConfigError, ContractError
from engine.models.base import ModelSpec
from engine.models.prompt_mrc import Extractor, decode, load
from engine.models.prompt_mrc.checkpoint import read_checkpoint
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.consult import consult
from engine.models.prompt_mrc.prompts import PromptModule
from engine.records import entities_fields
from tests.models.conftest import records
from tests.models.prompt_mrc.conftest import World, tiny_config, tiny_learner, write

NESTED = "today we saw  the\tman 😀 sell hill green pear tree near a red\u00a0apple"
EXPECTED = [("B", "hill green pear tree"), ("A", "green pear"), ("A", "red\u00a0apple")]


def extractor(folder, **options):
    runtime = options.pop("runtime", {})
    return load(ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32", **options}, runtime))


def rows(system, texts):
    return system.run(system.prepare(records(texts))).sort_by("row").to_pylist()


def mentions(row, text):
    return [(each["type"], text[each["start"] : each["end"]]) for each in row["entities"]]


def test_nested_spans_are_found_with_offsets_into_the_original_text(model):
    (row,) = rows(extractor(model), [NESTED])
    assert mentions(row, NESTED) == EXPECTED
    assert (row["decision"], row["reasons"], row["invalid_start_gt_end"], row["n_windows"]) == ("auto", [], 0, 1)
    assert not any(each["zero_shot"] for each in row["entities"])


def test_no_entity_lies_in_two_parts_of_a_text(model):
    # A B is a hill, an A and a tree; what the model says of the words is the same in both.
    whole, parted = "we saw hill green pear tree today", "we saw hill green pear.\n\nTree today"
    for text, found in ((whole, ["hill green pear tree", "green pear"]), (parted, ["green pear"])):
        (row,) = rows(extractor(model), [text])
        assert [words for _, words in mentions(row, text)] == found


def test_prepared_texts_have_parts_and_scopes_and_no_text(model):
    system = extractor(model)
    prepared = system.prepare(records(["no\u00ad apple: a pear.\nNext", "", "red"]))
    assert prepared["word_part"].to_pylist() == [[0, 0, 0, 1, 1, 1, 3], [], [0]]
    scope = {"start": 4, "end": 9, "kind": "negated", "cue_start": 0, "cue_end": 2}
    assert prepared["scopes"].to_pylist() == [[scope], [], []]
    assert not [field for field in prepared.schema if pa.types.is_large_string(field.type)]
    # What is not read has no scope.
    (short,) = extractor(model, max_tokens=16).prepare(records(["pear " * 20 + "no apple"]))["scopes"].to_pylist()
    assert short == []


DENIED = "no red apple. we saw the green pear today; history of red plum"


def test_an_entity_says_what_the_text_says_of_it_and_by_which_words(model, tmp_path):
    (row,) = rows(extractor(model, types=["A"]), [DENIED])
    said = [
        (DENIED[each["start"] : each["end"]], each["assertion"], DENIED[each["cue_start"] or 0 : each["cue_end"] or 0])
        for each in row["entities"]
    ]
    assert said == [("red apple", "negated", "no"), ("green pear", "affirmed", ""), ("red plum", "historical", "history of")]
    entities = consult(DENIED, ["A"], model=str(model), options={"precision": "fp32"})
    assert [each["cue"] for each in entities] == ["no", None, "history of"]


def test_a_model_of_a_language_without_a_lexicon_says_nothing(model):
    system = extractor(model, types=["A"])
    checkpoint = replace(system.checkpoint, config=replace(system.config, language="es"))
    spanish = Extractor(checkpoint, system.options, {})
    assert spanish.prepare(records([DENIED]))["scopes"].to_pylist() == [None]
    (row,) = rows(spanish, [DENIED])
    assert len(row["entities"]) == 3
    assert all(each[name] is None for each in row["entities"] for name in ("assertion", "cue_start", "cue_end"))


def test_flat_decoding_keeps_one_of_overlapping_spans(model):
    # flat_across_types also means no overlap within a type, whatever the checkpoint says.
    assert extractor(model, flat_across_types=True).decoding.nested is False
    (row,) = rows(extractor(model, nested=False), [NESTED])
    assert mentions(row, NESTED) == EXPECTED[1:]


@pytest.mark.parametrize(
    ("trained", "options", "decoded"),
    [
        ("nested", {}, "nested"),
        ("nested", {"nested": False}, "flat"),
        ("nested", {"flat_across_types": True}, "flat"),
        ("nested", {"flat_across_types": False}, "nested"),
        ("nested", {"nested": False, "flat_across_types": False}, "flat within each type"),
        ("flat", {}, "flat"),
        ("flat", {"nested": True}, "nested"),
        ("flat", {"nested": False}, "flat"),
        ("flat", {"flat_across_types": False}, "flat within each type"),
        ("flat within each type", {"nested": False}, "flat within each type"),
        ("flat within each type", {"nested": True}, "nested"),
        ("flat within each type", {"flat_across_types": True}, "flat"),
    ],
)
def test_which_entities_may_overlap(model, trained, options, decoded):
    system = extractor(model)
    flags = {"nested": trained == "nested", "flat_across_types": trained == "flat"}
    checkpoint = replace(system.checkpoint, decoding=Decoding(**flags))
    assert Extractor(checkpoint, replace(system.options, **options), {}).decoding.overlaps == decoded


def test_a_long_report_in_windows_has_the_spans_of_its_parts(model):
    text = "\n".join([NESTED] * 12)
    # Flat within a type, since so small a model, trained on single sentences, also joins a start to the end of the next entity.
    (row,) = rows(extractor(model, nested=False, flat_across_types=False), [text])
    assert row["n_windows"] > 3
    assert mentions(row, text) == EXPECTED * 12
    assert len({(each["start"], each["end"], each["type"]) for each in row["entities"]}) == 36


def test_batches_do_not_change_rows(model):
    texts = [NESTED, "the man", "red apple today", "\n".join([NESTED] * 3)]
    whole = rows(extractor(model), texts)
    for other in (extractor(model, runtime={"batch_tokens": 64}), extractor(model, deterministic=True)):
        for row, same in zip(whole, rows(other, texts), strict=True):
            assert [list(each)[:3] for each in row["entities"]] == [list(each)[:3] for each in same["entities"]]
            for one, two in zip(row["entities"], same["entities"], strict=True):
                for name in ("score", "margin", "context_share", "soft_share"):
                    assert one[name] == (None if two[name] is None else pytest.approx(two[name], abs=1e-4))


def with_values(table, **columns):
    """The prepared table of one report with other values in some columns."""
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array([values], table.schema.field(name).type))
    return table


def test_a_span_that_does_not_lie_in_its_text_stops_the_run(model, monkeypatch):
    system = extractor(model, evidence="none")
    prepared = system.prepare(records(["sell hill green pear tree"]))
    assert system.run(prepared)["entities"][0].as_py()
    starts, ends = (prepared[name][0].as_py() for name in ("word_start", "word_end"))
    for broken in (
        {"text_chars": ends[-1] - 1},
        {"word_start": [-1] * len(starts)},
        {"word_end": [0] * len(ends)},
        {"word_start": [each + 100 for each in starts], "word_end": [each + 100 for each in ends]},
    ):
        with pytest.raises(ContractError, match=r"does not lie in its text of 2[45] characters") as caught:
            system.run(with_values(prepared, **broken))
        assert "pear" not in str(caught.value)
    right = system._spans
    for first, last in ((4, 1), (-2, 1), (1, 5)):

        def wrong(*arguments, first=first, last=last):
            (spans,), *counts = right(*arguments)
            return [[replace(spans[0], first=first, last=last)]], *counts

        monkeypatch.setattr(system, "_spans", wrong)
        with pytest.raises(ContractError, match=f"words {first} to {last} of 5 "):
            system.run(prepared)


def test_evidence_that_does_not_lie_in_its_text_stops_the_run(model, monkeypatch):
    system = extractor(model)
    prepared = system.prepare(records([NESTED]))
    evidence = system._evidence

    def wrong(*arguments):
        rows = evidence(*arguments)
        return {span: row | {"evidence": [{**row["evidence"][0], "end": len(NESTED) + 1}]} for span, row in rows.items()}

    monkeypatch.setattr(system, "_evidence", wrong)
    with pytest.raises(ContractError, match=f"evidence .* does not lie in its text of {len(NESTED)} characters"):
        system.run(prepared)


def test_a_start_is_counted_once_and_only_where_no_window_sees_its_entity(model, monkeypatch):
    real = decode.window_candidates

    def wrapped(*arguments):
        spans, _ = real(*arguments)
        return spans, {(span.text, span.first, span.type) for span in spans} | {(0, 0, 0), (0, 0, 1)}

    monkeypatch.setattr(decode, "window_candidates", wrapped)
    (row,) = rows(extractor(model), [" ".join([NESTED] * 4)])
    assert row["n_windows"] > 1 and row["entities"] and row["invalid_start_gt_end"] == 2


def test_evidence_is_split_into_text_template_and_soft_prompt(model):
    (row,) = rows(extractor(model), [NESTED])
    explained = [each for each in row["entities"] if each["evidence"] is not None]
    assert sorted(each["type"] for each in explained) == ["A", "B"]
    for each in explained:
        shares = [each[name] for name in ("context_share", "hard_share", "soft_share")]
        assert sum(shares) == pytest.approx(1, abs=1e-5) and min(shares) > 0
        assert 0 < len(each["evidence"]) <= 3
        assert sum(run["weight"] for run in each["evidence"]) <= each["context_share"] + 1e-6
        assert all(0 <= run["start"] < run["end"] <= len(NESTED) for run in each["evidence"])
    (every,) = rows(extractor(model, every=True), [NESTED])
    assert len(every["entities"]) == 3 and all(each["evidence"] and each["context_share"] > 0 for each in every["entities"])
    # The evidence of an entity does not depend on how many others have evidence.
    by_span = {(each["type"], each["start"], each["end"]): each for each in every["entities"]}
    for each in explained:
        same = by_span[each["type"], each["start"], each["end"]]
        assert same["soft_share"] == pytest.approx(each["soft_share"])
    (bare,) = rows(extractor(model, evidence="none"), [NESTED])
    assert all(each["evidence"] is None for each in bare["entities"])


def test_margins_name_the_type_that_comes_second(model):
    (row,) = rows(extractor(model), [NESTED])
    assert all(each["margin"] > 0 for each in row["entities"])
    assert [each["confused_with"] for each in row["entities"]] == ["A", "B", "B"]


def test_a_new_type_by_a_users_question_is_marked(model):
    anything = {"start": 1e-9, "end": 1e-9, "match": 1e-9}
    system = extractor(model, questions={"C": "which fruit is named"}, types=["C"], thresholds=anything)
    (row,) = rows(system, [NESTED])
    assert row["entities"] and all(each["type"] == "C" and each["zero_shot"] for each in row["entities"])
    # A question is always asked, whichever types are named beside it.
    both = extractor(model, questions={"C": "which fruit is named"}, types=["A"], thresholds=anything)
    assert {each["type"] for each in rows(both, [NESTED])[0]["entities"]} == {"A", "C"}
    # A question for a type of the model replaces its template.
    (row,) = rows(extractor(model, questions={"A": "which fruit is named"}), [NESTED])
    assert mentions(row, NESTED) == EXPECTED and not any(each["zero_shot"] for each in row["entities"])


def test_a_consultation_answers_with_words(model):
    entities = consult(NESTED, ["A", "B"], model=str(model), options={"precision": "fp32"})
    assert len(entities) == 3 and all(each["evidence"] for each in entities)
    best = consult(NESTED, ["A", "B"], model=str(model), options={"precision": "fp32", "every": False})
    assert sum(each["evidence"] is not None for each in best) == 2
    entities = consult(NESTED, ["A"], model=str(model), options={"precision": "fp32"})
    assert [(each["type"], each["text"]) for each in entities] == EXPECTED[1:]
    free = consult(NESTED, question="which fruit is named", model=str(model), options={"precision": "fp32"})
    assert all(each["type"] == "question" and each["zero_shot"] for each in free)
    options = {"precision": "fp32", "types": ["A"], "questions": None}
    assert {each["type"] for each in consult(NESTED, model=str(model), options=options)} == {"A"}
    for text, types, options, message in (
        ("  ", [], {}, "empty"),
        # NESTED has 15 tokens, so that one of its repetition is read.
        (f"{NESTED} {NESTED}", [], {"max_tokens": 16}, f"its last {len(NESTED) - len('today')} characters are not read"),
        (NESTED, ["B"], {"types": ["A"]}, "name them once"),
        ("a \ud800 b", [], {}, "not valid Unicode"),
    ):
        with pytest.raises(ConfigError, match=message):
            consult(text, types, model=str(model), options=options)


def test_exchanged_prompts_change_digest_and_answers(model, tmp_path):
    module = PromptModule.read(model / "prompts.safetensors")
    path = tmp_path / "other.safetensors"
    replace(module, domain="other", own={"A": module.own["B"], "B": module.own["A"]}).save(path)
    system = extractor(model, prompts=str(path))
    assert system.digest != extractor(model).digest
    assert mentions(rows(system, [NESTED])[0], NESTED) != EXPECTED


def test_a_folder_of_prompts_is_listed(model):
    with pytest.raises(ConfigError, match=r"name one of its files: prompts\.safetensors \(general: A, B\)$"):
        extractor(model, prompts=str(model))


def test_prompts_and_questions_that_do_not_fit_are_refused_at_once(model, tmp_path):
    module, path = PromptModule.read(model / "prompts.safetensors"), tmp_path / "other.safetensors"
    for other, message in (
        (replace(module, encoder="x"), "model.prompts: .*another encoder"),
        (replace(module, weights=None), "model.prompts: .*another model"),
        (replace(module, shared=module.shared[:, :8]), "model.prompts: .*other numbers"),
        (replace(module, shared=module.shared[:2]), "model.prompts: .*other numbers"),
    ):
        other.save(path)
        with pytest.raises(ConfigError, match=message):
            extractor(model, prompts=str(path))
    # 32 positions, of which [CLS], [SEP] and six soft vectors take eight.
    message = "entities.questions: the prompt for 'C' of 40 word pieces and 6 soft vectors takes 48 positions, there are 32"
    with pytest.raises(ConfigError, match=f"^{message}; shorten the question$"):
        extractor(model, questions={"A": "which fruit", "C": "fruit " * 40})


def test_deterministic_reads_one_window_at_a_time(model):
    system = extractor(model, deterministic=True)
    windows = [[f"window {part} of {text}" for part in range(3)] for text in range(2)]
    assert list(system._batches(windows)) == [[window] for of_text in windows for window in of_text]


def test_a_truncated_or_empty_report_is_reported(model):
    system = extractor(model, max_tokens=16)
    prepared = system.prepare(records([f"{NESTED} {NESTED}", "  "]))
    assert [each and each["kind"] for each in prepared["failure"].to_pylist()] == [None, "missing_text"]
    (row,) = system.run(prepared.slice(0, 1)).to_pylist()
    assert row["reasons"] == ["text_truncated"] and row["decision"] == "review" and row["truncated_chars"] > 0


def test_no_records_give_an_empty_table_of_the_same_columns(model):
    system = extractor(model)
    table = system.run(system.prepare(records([])))
    assert table.num_rows == 0 and set(pa.schema(entities_fields()).names) <= set(table.schema.names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": ["Z"]}, "no type 'Z'; it has A, B"),
        ({"questions": {"C": "fruit " * 40}}, "takes 48 positions"),
        ({"thresholds": {"middle": 0.5}}, "entities.thresholds: the model has no 'middle'; it has start, end, match"),
        ({"thresholds": {"start": 0}}, "entities.thresholds: start must lie between 0 and 1, and is 0"),
        ({"nested": True, "flat_across_types": True}, "exclude each other; set one of the two to false"),
        ({"every": True, "evidence": "none"}, "explain.every: with explain.method=none there is no evidence"),
        (
            {"evidence": "lime"},
            r"^evidence \(explain.method\): 'lime' is not allowed; wants one of attnlrp, gradient_x_input, none$",
        ),
        ({"questions_file": "nowhere"}, "cannot read"),
        ({"prompts": "nowhere"}, "no file nowhere"),
        ({"tasks": ["site"]}, "^model: unknown options tasks; this system has max_tokens, .*types"),
    ],
)
def test_impossible_settings_are_refused(model, options, message):
    with pytest.raises(ConfigError, match=message):
        rows(extractor(model, **options), ["a"])


def test_a_tagger_reads_no_questions_and_has_evidence_of_the_text_alone(tmp_path):
    folder = write(tiny_learner(tiny_config(mode="tagger"), World.make(2)), tmp_path / "m")
    with pytest.raises(ConfigError, match="mode 'tagger' reads no questions"):
        extractor(folder, questions={"C": "what"})
    for options, message in (
        ({"nested": True}, "nested: a tagger has no nested spans"),
        ({"thresholds": {"end": 0.5, "match": 0.5}}, "thresholds: the model has no 'end'; it has match"),
    ):
        with pytest.raises(ConfigError, match=f"entities.{message}"):
            extractor(folder, **options)
    system = extractor(folder)
    system.network.tagger.bias.data[1] = 9.0  # every word begins an A
    (row,) = rows(system, ["the man"])
    assert mentions(row, "the man") == [("A", "the"), ("A", "man")]
    (entity,) = [each for each in row["entities"] if each["evidence"] is not None]
    assert entity["context_share"] == pytest.approx(1) and entity["match_score"] is None


def test_a_checkpoint_is_read_as_it_was_written_and_a_changed_file_is_refused(model, learned, tmp_path):
    checkpoint = read_checkpoint(str(model))
    assert checkpoint.config == learned.network.config and checkpoint.decoding == learned.decoding
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in model.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert read_checkpoint(str(copy)).digest == checkpoint.digest
    (copy / "prompts.safetensors").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"prompts.safetensors in .* is not the file"):
        read_checkpoint(str(copy))
