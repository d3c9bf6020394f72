"""Observations by a language model: a client for any endpoint that speaks OpenAI's chat completions.

It sends the text of reports to the endpoint that the user configures, and nowhere else; neither texts nor answers reach a log or
an error. Temperature 0; the answer must be a JSON list of texts (`engine.text.chest.observations.parse_observations`).
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigError, RetryableError, RowError
from engine.keys import MISSING, check_keys, key
from engine.text.chest.observations import parse_observations

_TASK = (
    "You turn a chest radiograph's report into a JSON list of short descriptive observations, each one finding in a few words. "
    'Keep negative findings, such as "No pneumothorax". Leave out comparisons with earlier images, recommendations, signatures, '
    "history and measurements alone. Answer with the JSON list only."
)
# Two invented reports with their answers.
_SHOTS = (
    (
        "Moderate cardiomegaly, unchanged. No effusion or pneumothorax. Recommend CT.",
        ["Moderate cardiomegaly", "No effusion", "No pneumothorax"],
    ),
    (
        "Patchy opacity at the left base may be pneumonia. Heart and mediastinum are normal. Compared to June.",
        ["Patchy left basal opacity that may be pneumonia", "Heart and mediastinum are normal"],
    ),
)
_PASSING = frozenset({408, 409, 425, 429})


@dataclass(frozen=True)
class ExtractorConfig:
    """The endpoint of a language model."""

    url: str = key(
        MISSING, "Base URL of an OpenAI-compatible endpoint, such as http://localhost:8000/v1. Reports are sent to it."
    )
    model: str = key(MISSING, "Name of the model at that endpoint.")
    retries: int = key(
        4, "Times that a request is sent again after a failure that may pass; the wait doubles from a second.", low=0
    )
    timeout_seconds: float = key(120.0, "Seconds without an answer after which a request counts as failed.", low=1.0)

    def __post_init__(self) -> None:
        check_keys(self, "extractor.")
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("extractor.url: give a URL that begins with http:// or https://")


class Extractor:
    """Extracts observations; safe to use from several threads."""

    def __init__(self, config: ExtractorConfig, wait_seconds: float = 1.0) -> None:
        self._config, self._wait = config, wait_seconds

    def observations(self, text: str) -> list[str]:
        """The observations of a report.

        Raises:
            ConfigError: the endpoint refuses the request. RetryableError: it does not answer. RowError: it sends no JSON list.
        """
        answer = self._post({"model": self._config.model, "temperature": 0, "messages": _messages(text)})
        try:
            return parse_observations(json.loads(answer)["choices"][0]["message"]["content"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise RowError("parse_error", "observations: the endpoint gave no message") from None

    def _post(self, body: dict[str, Any]) -> bytes:
        """The endpoint's answer to a request."""
        url = f"{self._config.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        for attempt in range(self._config.retries + 1):
            if attempt:
                time.sleep(self._wait * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self._config.timeout_seconds) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code not in _PASSING:
                    raise ConfigError(
                        f"extractor.url: the endpoint refuses requests for this model with status {error.code}"
                    ) from None
            except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException):
                pass
        raise RetryableError(f"the endpoint at extractor.url failed {self._config.retries + 1} times; is it running?")


def _messages(text: str) -> list[dict[str, str]]:
    shots = [(report, json.dumps(answer)) for report, answer in _SHOTS]
    turns = [{"role": role, "content": words} for pair in shots for role, words in zip(("user", "assistant"), pair, strict=True)]
    return [{"role": "system", "content": _TASK}, *turns, {"role": "user", "content": text}]
