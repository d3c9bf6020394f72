"""The table of labels as its user makes it."""

import pyarrow.parquet as pq

from engine.sources.labelled.chest import SCHEMA
from jobs import label_map


def test_a_set_as_one_table(tmp_path, capsys):
    folder, path = tmp_path / "set", tmp_path / "labels.parquet"
    folder.mkdir()
    (folder / "1.xml").write_text('<e><uId id="CXR1"/><major>Pneumothorax</major><parentImage id="a"/><parentImage id="b"/></e>')
    (folder / "2.xml").write_text("<e>")
    order = ["layout=open-i", f"input.path={folder}", f"output.path={path}"]
    assert label_map.main.run(order) == 0
    assert "3 images of 2 studies; the labels of 1 could not be read" in capsys.readouterr().out
    assert pq.read_table(path).schema.equals(SCHEMA)
    assert label_map.main.run(order) == 2
    assert "name a new file" in capsys.readouterr().err
