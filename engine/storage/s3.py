"""An object store that speaks S3.

A name is taken by a conditional PUT. If the answer to a successful one is lost, the next attempt finds the name taken by
itself: each carries a token in the object's metadata, by which the winner recognizes itself.
"""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from engine.errors import EngineError
from engine.storage.base import S3, TEMPORARY, Entry, S3Config
from engine.storage.s3_client import MISSING, NO_RANGE, UNMET, Client, Refused, split
from engine.storage.s3_file import TOKEN, WHOLE, Reader, Writer, is_ours

_MOST_DELETES = 1000


class S3Storage:
    """Buckets of one service, as one process sees them."""

    def __init__(self, config: S3Config) -> None:
        self._client = Client(config)
        self._conditional = config.conditional
        self._if_absent = {"IfNoneMatch": "*"} if config.conditional else {}

    def list(self, folder: str) -> Iterator[Entry]:
        base = folder.rstrip("/")
        visible = [entry for entry in self._below(base) if not _is_hidden(entry.path.removeprefix(base))]
        yield from sorted(visible, key=lambda entry: entry.path)

    def stat(self, path: str) -> Entry | None:
        answer = self._client.call("head_object", path, none_for=(MISSING,)) if split(path)[1] else None
        return answer and Entry(path, answer["ContentLength"], answer["ETag"].strip('"'))

    def is_folder(self, path: str) -> bool:
        return next(self._below(path.rstrip("/"), 1), None) is not None

    def open(self, path: str, expect: Entry | None = None) -> BinaryIO:
        if expect is not None:
            return Reader(self._client, expect)
        # A request for the end also tells the size, and a Parquet file is read from its end first.
        answer = self._client.call("get_object", path, none_for=(MISSING, NO_RANGE), Range=f"bytes=-{WHOLE}")
        if answer is None:
            # An empty object has no last bytes.
            entry = self.stat(path)
            if entry is None:
                raise FileNotFoundError(2, "no such object", path)
            return Reader(self._client, entry)
        body = answer["Body"]
        size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else len(body)
        return Reader(self._client, Entry(path, size, answer["ETag"].strip('"')), (size - len(body), body))

    def read(self, path: str) -> bytes | None:
        answer = self._client.call("get_object", path, none_for=(MISSING,))
        return answer and answer["Body"]

    def create(self, path: str, data: bytes) -> bool:
        if not self._conditional and self.stat(path) is not None:
            return False
        token = uuid.uuid4().hex
        request = {"Body": data, "Metadata": {TOKEN: token}, **self._if_absent}
        answer = self._client.call("put_object", path, none_for=(UNMET,), **request)
        return answer is not None or is_ours(self._client, path, token)

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        file = Writer(self._client, path)
        try:
            yield file
            file.commit()
        except BaseException:
            # Parts that stay behind if even this fails are a matter of the bucket's lifecycle rule.
            with suppress(EngineError):
                file.abort()
            raise

    def link(self, source: str, target: str) -> bool:
        bucket, key = split(source)
        origin = {"CopySource": {"Bucket": bucket, "Key": key}, "MetadataDirective": "COPY"}
        answer = self._client.call("copy_object", target, none_for=(MISSING, UNMET), **origin, **self._if_absent)
        return answer is not None or self.stat(target) is not None

    def remove(self, path: str) -> None:
        self._client.call("delete_object", path, none_for=(MISSING,))

    def remove_all(self, paths: Iterable[str]) -> None:
        remaining = iter(paths)
        while batch := tuple(islice(remaining, _MOST_DELETES)):
            bucket = split(batch[0])[0]
            keys = [{"Key": split(path)[1]} for path in batch]
            answer = self._client.call("delete_objects", batch[0], Delete={"Objects": keys, "Quiet": True})
            # On its own, each is retried as long as any request, and reported if that does not help.
            for error in answer.get("Errors", ()):
                self.remove(f"{S3}{bucket}/{error['Key']}")

    def remove_folder(self, folder: str) -> None:
        self.remove_all(entry.path for entry in self._below(folder.rstrip("/")))

    @contextmanager
    def scratch(self, folder: str) -> Iterator[str]:
        with TemporaryDirectory(prefix="marginalia-") as local:
            yield local

    def probe(self, folder: str) -> bool:
        path = f"{folder.rstrip('/')}/.probe-{uuid.uuid4().hex}"
        self._client.call("put_object", path, Body=b"")
        try:
            self._client.attempt("put_object", path, Body=b"", IfNoneMatch="*")
            return False
        except Refused as refused:
            # A store that does not know the header says so (501), or ignores it.
            return refused.status == UNMET
        finally:
            self.remove(path)

    def _below(self, folder: str, page_size: int = 1000) -> Iterator[Entry]:
        """All objects below a folder, in the store's order, without the markers that some tools leave for folders."""
        bucket, key = split(folder)
        request: dict[str, Any] = {"Prefix": f"{key}/" if key else "", "MaxKeys": page_size}
        while True:
            page = self._client.call("list_objects_v2", folder, **request)
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    yield Entry(f"{S3}{bucket}/{item['Key']}", item["Size"], item["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]


def _is_hidden(below: str) -> bool:
    return "/." in below or below.endswith(TEMPORARY)
