"""Settings of `jobs.train` that are refused before any work."""

from jobs.train import main


def test_a_figure_that_nobody_measures_is_refused_before_any_work(tmp_path, capsys):
    argv = [f"data.path={tmp_path}/none.parquet", f"output.path={tmp_path}/model"]
    assert main.run([*argv, "train.watch=macro_f1_stage"]) == 2
    told = capsys.readouterr().err
    assert "train.watch" in told and "macro_f1_site" in told and told.count("\n") == 1
    assert not (tmp_path / "model").exists()
