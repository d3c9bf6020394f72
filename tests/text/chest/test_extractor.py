"""The client of a language model, against a local server that answers as it is told."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from engine.errors import ConfigError, RetryableError, RowError
from engine.text.chest.extractor import Extractor, ExtractorConfig

REPORT = "Secret effusion of a patient."


def message(content):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


@pytest.fixture
def server():
    """A server on a free port: `answers` are (status, body) in turn, the last one again and again; `asked` the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            served.asked.append((self.path, json.loads(body)))
            status, answer = served.answers.pop(0) if len(served.answers) > 1 else served.answers[0]
            if status is None:
                # Hangs up without an answer.
                self.connection.close()
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_):
            pass

    served = HTTPServer(("127.0.0.1", 0), Handler)
    served.answers, served.asked = [(200, message('["No effusion"]'))], []
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def extractor(server, **settings):
    url = f"http://127.0.0.1:{server.server_port}/v1/"
    return Extractor(ExtractorConfig(url, "small", **settings), wait_seconds=0.001)


def test_a_report_is_sent_and_the_list_comes_back(server):
    assert extractor(server).observations(REPORT) == ["No effusion"]
    ((path, body),) = server.asked
    assert path == "/v1/chat/completions" and body["model"] == "small" and body["temperature"] == 0
    roles = [each["role"] for each in body["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert body["messages"][-1]["content"] == REPORT
    assert all(isinstance(json.loads(each["content"]), list) for each in body["messages"] if each["role"] == "assistant")


@pytest.mark.parametrize("failure", [(500, "busy"), (503, ""), (429, ""), (None, "")])
def test_a_failure_that_passes_is_tried_again(server, failure):
    server.answers = [failure, failure, *server.answers]
    assert extractor(server).observations(REPORT) == ["No effusion"] and len(server.asked) == 3


def test_one_that_does_not_pass_ends_with_a_line(server):
    server.answers = [(500, REPORT)]
    with pytest.raises(RetryableError, match="failed 3 times") as failed:
        extractor(server, retries=2).observations(REPORT)
    assert len(server.asked) == 3 and "Secret" not in str(failed.value)


def test_a_refusal_is_the_user_s_and_is_not_tried_again(server):
    server.answers = [(404, REPORT)]
    with pytest.raises(ConfigError, match="status 404") as refused:
        extractor(server).observations(REPORT)
    assert len(server.asked) == 1 and "Secret" not in str(refused.value)


def test_nobody_listening_is_retryable(server):
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(RetryableError):
        Extractor(ExtractorConfig(f"http://127.0.0.1:{port}", "small", retries=1), wait_seconds=0.001).observations(REPORT)


@pytest.mark.parametrize("answer", [message('Here: ["Secret"]'), message(None), "{}", "Secret", '{"choices": []}', "[1]"])
def test_an_answer_that_is_no_list_fails_the_row_and_no_word_of_it_gets_out(server, answer, caplog):
    server.answers = [(200, answer)]
    with caplog.at_level(logging.DEBUG), pytest.raises(RowError) as broken:
        extractor(server).observations(REPORT)
    assert broken.value.kind == "parse_error" and "Secret" not in str(broken.value) and "Secret" not in caplog.text


def test_a_url_must_be_one():
    with pytest.raises(ConfigError, match="http://"):
        ExtractorConfig("localhost:8000", "small")
