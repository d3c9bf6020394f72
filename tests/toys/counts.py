"""A side table of how often each token occurs, made in a process of its own: `python -m tests.toys.counts '{"folder": ...}'`.

Further `texts`, each of them a part, and `settings`: `least` is the length of a token that counts, `log` a file of what was done.
`die` is the text at which the process kills itself, or `reduce`. A text with the word `slip` meets a bug of the map.
"""

import json
import os
import signal
import sys
from collections import Counter

import pyarrow as pa

from engine.errors import ConfigError, EngineError
from engine.models.base import SideTable
from engine.pipeline.tables import make
from engine.storage import S3Config, use_s3

SCHEMA = pa.schema([pa.field("token", pa.string(), nullable=False), pa.field("count", pa.int64(), nullable=False)])


def table_of(texts, **more):
    return SideTable("counts", SCHEMA, tuple(texts), **{"map": f"{__name__}:count", "reduce": f"{__name__}:total", **more})


def count(text, settings):
    if text == os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "mistake":
        raise ConfigError("data.path: there is nothing")
    if "slip" in text:
        raise ValueError(text)
    _note(settings, text)
    return _rows(Counter(text.split()), settings)


def total(tables, settings):
    if os.environ.get("DIE") == "reduce":
        os.kill(os.getpid(), signal.SIGKILL)
    _note(settings, "total")
    summed = Counter()
    for table in tables:
        summed.update(dict(zip(table["token"].to_pylist(), table["count"].to_pylist(), strict=True)))
    return _rows(summed, settings)


def _rows(counter, settings):
    rows = [{"token": token, "count": n} for token, n in sorted(counter.items()) if len(token) >= settings["least"]]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _note(settings, text):
    """Notes what was done, so that a test sees what is done once only."""
    if settings.get("log"):
        with open(settings["log"], "a") as file:
            file.write(f"{text}\n")


def main(order):
    if "endpoint" in order:
        use_s3(S3Config(endpoint=order["endpoint"], region="us-east-1"))
    # Not a setting, which would make it another table.
    os.environ["DIE"] = order.get("die", "")
    try:
        print(make(table_of(order["texts"]), order["settings"], order["folder"], lambda line: print(line, file=sys.stderr)))
    except EngineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
