"""Settings of `jobs.train` that are refused before any work."""

from jobs.train import main


def test_a_figure_that_nobody_measures_is_refused_before_any_work(tmp_path, capsys):
    argv = [f"data.path={tmp_path}/none.parquet", f"output.path={tmp_path}/model"]
    assert main.run([*argv, "train.watch=macro_f1_stage"]) == 2
    message = capsys.readouterr().err
    assert "train.watch" in message and "macro_f1_site" in message and message.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_keys_of_another_system_and_figures_it_does_not_measure_are_refused(tmp_path, capsys):
    argv = [f"data.path={tmp_path}/none.parquet", f"output.path={tmp_path}/model"]
    for words, message in (
        (["model.mode=soft"], "unknown key 'model.mode'"),
        (["model=prompt_mrc", "learn.windows=3"], "unknown key 'learn.windows'"),
        (["model=prompt_mrc", "data.group=patient"], "unknown key 'data.group'"),
        (
            ["model=prompt_mrc", "data.types=[Drug,Gene]", "train.watch=f1_Disease"],
            "is none of f1, precision, recall, f1_Drug, f1_",
        ),
        # Of one type there is nothing beside the whole.
        (["model=prompt_mrc", "data.types=[Drug]", "train.watch=f1_Drug"], "is none of f1, precision, recall\n"),
        (["model=prompt_mrc", "evidence_sample=9"], "unknown key 'evidence_sample'"),
        (["model=prompt_mrc", "model.mode=soft", "model.version=2"], "model.version: model.mode=soft has no use for it"),
        (["model=prompt_mrc", "model.mode=name", "model.style=question"], "model.style: model.mode=name has no use for it"),
        (["model=prompt_mrc", "model.mode=hard", "model.type_soft=3"], "model.type_soft: model.mode=hard has no use for it"),
        (["model=prompt_mrc", "model.mode=name", "model.ontology=x.csv"], "model.ontology: model.mode=name has no use for it"),
        (["model=prompt_mrc", "model.mode=tagger", "model.nested=true"], "model.nested: model.mode=tagger has no use for it"),
        (["model=prompt_mrc", "model.mentions=3"], "model.mentions: only templates built from a table have mentions"),
        (["model=prompt_mrc", "model.ontology=x.csv", "model.version=2"], "model.ontology replaces the built-in templates"),
        (["model=prompt_mrc"], "data.path: there is no file or folder"),
    ):
        assert main.run([*argv, *words]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
        assert not (tmp_path / "model" / "README.md").exists()


def test_weights_of_no_task_and_a_clip_that_stops_everything_are_refused(tmp_path, capsys):
    argv = [f"data.path={tmp_path}/none.parquet", f"output.path={tmp_path}/model"]
    for words, message in (
        (["learn.weights={site: 2, stage: 1}"], "learn.weights: there is no task 'stage'; there are site, histology"),
        (["learn.budget=127"], "learn.budget"),
        (["train.clip=0"], "train.clip: must be above 0"),
        (
            ["model.base=shipped", "model.head=cls", "train.watch=accuracy_stage"],
            "train.watch: 'accuracy_stage' is none of macro_",
        ),
        (
            ["model.base=shipped", "model.head=cls"],
            "model.freeze_encoder: a training that goes on from a model keeps its encoder",
        ),
        (["model.freeze_encoder=true"], "model.freeze_encoder: there is no model.base"),
    ):
        assert main.run([*argv, *words]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
        assert not (tmp_path / "model").exists()


def test_the_settings_of_a_training_are_the_keys_of_its_system():
    from jobs._train import schema, settings_of

    found = settings_of(composed("model=prompt_mrc", "data.path=/x", "output.path=/y", "learn.budget=8192"))
    assert set(found) == {"data", "model", "learn", "precision", "seed"} and found["learn"]["budget"] == 8192
    assert found["learn"]["negatives"] == 2 and found["model"]["window"] == 180 and "system" not in found["model"]
    found = settings_of(composed("data.path=/x", "output.path=/y"))
    assert found["learn"]["budget"] is None and found["data"]["samples"] == ["rationale"] and found["baseline"] is True
    assert schema("engine.models.site_classifier") is not schema("engine.models.prompt_mrc")


def composed(*words):
    values, missing = main.compose(words, {})
    assert not missing
    return main.configured(values)
