"""A bank of concepts from reports: what counts as one concept, and what a bank knows of itself."""

import json
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, InputChanged
from engine.models.clear import concepts
from engine.models.clear.concepts import bank_table, counted, normal, observation_table, read_bank, unreadable
from engine.models.embedding import embed
from engine.pipeline.tables import make
from engine.sources.labelled import Labelled

REPORTS = [
    "No pneumothorax. Small left  effusion.",
    "no pneumothorax .  Heart size is normal. No pneumothorax.",
    None,
    "Heart size is normal",
    "   ",
]
SPLITTER = f"{__name__}:split"


def split(text: str) -> list[str]:
    return text.split(".")


@pytest.fixture(params=["reports.parquet", "reports.csv"])
def reports(request, tmp_path):
    path = tmp_path / request.param
    table = pl.DataFrame({"report": REPORTS})
    table.write_parquet(path) if path.suffix == ".parquet" else table.write_csv(path)
    return Labelled(str(path), text="report", names={"text": "data.text", "path": "data.path"})


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    pl.DataFrame({"report": REPORTS}).write_parquet(folder / "reports.parquet")
    return made(Labelled(f"{folder}/reports.parquet", text="report"), folder)


def made(reports, folder, embedder="tiny:bert", instruction="", least=1):
    def quiet(line):
        pass

    table, settings = observation_table(reports, SPLITTER)
    observations = make(table, settings, f"{folder}/out", quiet)
    table, settings = bank_table(observations, embedder, instruction, least)
    return make(table, settings, f"{folder}/out", quiet)


def test_observations_are_counted_by_report(reports, tmp_path):
    table, settings = observation_table(reports, SPLITTER)
    path = make(table, settings, f"{tmp_path}/out", print)
    rows = {row["text"]: row["n_reports"] for row in pq.read_table(path).to_pylist()}
    lost = rows.pop(None)
    assert rows == {"no pneumothorax": 2, "heart size is normal": 2, "small left effusion": 1}
    assert lost == unreadable(path) and lost >= 1


def test_sums_do_not_depend_on_the_cut_or_the_order():
    parts = [pa.table([["b", "a"], [1, 2]], concepts._COUNTS), pa.table([["a", None], [3, 4]], concepts._COUNTS)]
    whole = counted(parts, {})
    assert whole.to_pydict() == {"text": ["a", "b", None], "n_reports": [5, 1, 4]}
    assert counted([counted(parts[:1], {}), parts[1]], {}).equals(whole) and counted(parts[::-1], {}).equals(whole)


def test_what_is_one_observation():
    assert (
        normal("  No\n acute   Process .") == "no acute process"
        and normal(" . ") == ""
        and normal("Size 2.5 cm") == "size 2.5 cm"
    )


def test_a_bank_knows_its_concepts_and_its_embedder(bank):
    made_bank = read_bank(bank)
    assert made_bank.texts == ["heart size is normal", "no pneumothorax", "small left effusion"]
    assert made_bank.n_reports.tolist() == [2, 2, 1] and made_bank.embeddings.dtype == np.float16
    np.testing.assert_allclose(made_bank.embeddings, embed(made_bank.texts, "tiny:bert"), atol=1e-3)
    assert (made_bank.embed(["no pneumothorax"]) == embed(["no pneumothorax"], "tiny:bert")).all()
    assert made_bank.facts["embedder"] == "tiny:bert" and 0 <= made_bank.facts["negation_auc"] <= 1
    assert read_bank(bank, made_bank.sha256).sha256 == made_bank.sha256
    schema = pq.read_schema(bank)
    assert schema.names == ["concept_id", "text", "n_reports", "embedding"]
    assert schema.field("embedding").type == pa.list_(pa.float16(), 32) and schema.field("concept_id").type == pa.int32()


def test_many_parts_make_the_same_bank(bank, tmp_path, monkeypatch):
    monkeypatch.setattr(concepts, "_ROWS", 1)
    pl.DataFrame({"report": REPORTS}).write_parquet(tmp_path / "reports.parquet")
    one, other = read_bank(bank), read_bank(made(Labelled(f"{tmp_path}/reports.parquet", text="report"), tmp_path))
    assert one.texts == other.texts
    np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-3)


def test_rare_observations_can_be_left_out_and_prompts_get_the_instruction(reports, tmp_path):
    made_bank = read_bank(made(reports, tmp_path, instruction="finding: ", least=2))
    assert made_bank.texts == ["heart size is normal", "no pneumothorax"]
    assert (made_bank.embed(["edema"]) == embed(["finding: edema"], "tiny:bert")).all()


def test_mistakes_are_told(reports, tmp_path, bank):
    with pytest.raises(ConfigError, match=r"bank\.splitter: there is no function 'nothing:here'"):
        observation_table(reports, "nothing:here")
    with pytest.raises(ConfigError, match=r"data\.text"):
        observation_table(Labelled(reports.path, text="other", names=reports.names), SPLITTER)
    with pytest.raises(ConfigError, match=r"lower bank\.min_reports"):
        made(reports, tmp_path, least=3)
    with pytest.raises(ConfigError, match="there is no file"):
        read_bank(f"{tmp_path}/none.parquet")
    with pytest.raises(InputChanged, match="is not the bank that this model was made with"):
        read_bank(bank, "0" * 64)
    pl.DataFrame({"text": ["a"]}).write_parquet(tmp_path / "plain.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    for name in ("plain", "broken"):
        with pytest.raises(ConfigError, match="is no bank of concepts"):
            read_bank(f"{tmp_path}/{name}.parquet")


def test_a_bank_of_another_embedder_takes_no_prompts(bank, tmp_path):
    copy = shutil.copy(bank, tmp_path / "bank.parquet")
    table = pq.read_table(copy)
    facts = json.loads(table.schema.metadata[b"concept_bank"]) | {"embedder_sha256": "0" * 64}
    pq.write_table(table.replace_schema_metadata({"concept_bank": json.dumps(facts)}), copy)
    with pytest.raises(ConfigError, match="is not the embedder that made this bank"):
        read_bank(str(copy)).embed(["edema"])
