"""`jobs.build_concept_bank` as a user starts it."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import polars as pl
import pytest

from engine.models.clear.concepts import read_bank
from jobs import build_concept_bank
from jobs.build_concept_bank import main

SPLITTER = "bank.splitter=tests.models.clear.test_concepts:split"


@pytest.fixture
def reports(tmp_path):
    path = tmp_path / "reports.parquet"
    pl.DataFrame({"report": ["No edema. Large heart.", "no edema", None]}).write_parquet(path)
    return path


def test_a_bank_is_made_once(reports, tmp_path, capsys):
    command = [f"data.path={reports}", "data.text=report", f"output.path={tmp_path / 'bank'}", SPLITTER]
    assert main.run(command) == 0
    out, err = capsys.readouterr()
    path = str(tmp_path / "bank/concept_bank/part-0.parquet")
    assert "2 concepts, embedded by pkg:minilm" in out and f"Bank: {path}\n" in out
    assert "warning: 1 reports have no text" in err and "would mean little" not in err
    bank = read_bank(path)
    assert bank.texts == ["no edema", "large heart"] and bank.embeddings.shape == (2, 384)
    assert main.run(command) == 0
    out, err = capsys.readouterr()
    assert bank.sha256[:12] in out and "parts" not in err
    assert main.run([*command, "bank.min_reports=2"]) == 2
    assert "choose a new folder" in capsys.readouterr().err


def test_an_embedder_that_is_blind_to_negation_is_warned_of(reports, tmp_path, capsys):
    command = [f"data.path={reports}", "data.text=report", f"output.path={tmp_path / 'bank'}", SPLITTER]
    assert main.run([*command, "bank.embedder=tiny:bert"]) == 0
    assert "warning: that is below 0.8" in capsys.readouterr().err


def test_mistakes_end_in_one_line(reports, tmp_path, capsys):
    assert main.run([f"data.path={reports}", f"output.path={tmp_path / 'bank'}", SPLITTER]) == 2
    assert capsys.readouterr().err.startswith("build_concept_bank: data.text: ")
    command = [f"data.path={reports}", "data.text=report", f"output.path={tmp_path / 'bank'}", SPLITTER]
    assert main.run([*command, "model.system=engine.models.entities"]) == 2
    assert "model.system: engine.models.entities has no bank of concepts" in capsys.readouterr().err


def test_a_language_model_is_asked(reports, tmp_path, capsys):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, request["model"], request["temperature"]))
            large = "Large" in request["messages"][-1]["content"]
            content = json.dumps(["No edema", "Large heart"]) if large else "no list"
            body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    served = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=served.serve_forever, daemon=True).start()
    command = [f"data.path={reports}", "data.text=report", f"output.path={tmp_path / 'bank'}"]
    endpoint = f"bank.url=http://127.0.0.1:{served.server_port}/v1"
    assert main.run([*command, endpoint]) == 2 and "give both, or neither" in capsys.readouterr().err
    assert main.run([*command, endpoint, "bank.llm=some-model"]) == 0
    served.shutdown()
    assert asked == [("/v1/chat/completions", "some-model", 0)] * 2
    # The answer that is no list leaves its report out, beside the one without a text.
    assert "warning: 2 reports" in capsys.readouterr().err
    assert read_bank(str(tmp_path / "bank/concept_bank/part-0.parquet")).texts == ["large heart", "no edema"]


@pytest.mark.long
def test_ray_makes_the_same_bank(reports, tmp_path, monkeypatch, capfd):
    def made(name):
        assert main.run([f"data.path={reports}", "data.text=report", f"output.path={tmp_path / name}", SPLITTER]) == 0
        return read_bank(str(tmp_path / name / "concept_bank/part-0.parquet"))

    alone = made("alone")
    monkeypatch.setattr(build_concept_bank, "_ALONE", 0)
    with_ray = made("with_ray")
    assert alone.sha256 == with_ray.sha256
    assert "ray" not in capfd.readouterr().err.lower().replace("with_ray", "")
