"""The door to the folder for another machine; what it writes: tests/benchmarks/test_gpu_folder.py."""

from engine.benchmarks import gpu_folder
from jobs import gpu_check
from jobs._front import CONF


def test_every_system_that_has_a_name_is_in_it(tmp_path, monkeypatch, capsys):
    asked = []

    def write(folder, *given):
        folder.mkdir()
        (folder / "a").write_bytes(bytes(1_600_000))
        asked.append((folder, *given))

    monkeypatch.setattr(gpu_folder, "write", write)
    assert gpu_check.main.run([f"output.path={tmp_path}/my folder"]) == 0
    systems = {file.stem: f"engine.models.{file.stem}" for file in sorted(CONF.glob("model/*.yaml"))}
    assert {"prompt_mrc", "site_classifier"} <= set(systems)
    assert asked == [(tmp_path / "my folder", systems, 200, {"batch_tokens": 65536})]
    assert (
        capsys.readouterr().out == f"{tmp_path}/my folder: 2 MB; copy it to the other machine, and there: python3 gpu_check.py\n"
    )


def test_a_folder_that_is_taken_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "a").touch()
    assert gpu_check.main.run([f"output.path={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"gpu_check: output.path: {tmp_path} is not empty; give a new folder\n"
