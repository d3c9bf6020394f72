"""An object store that speaks S3.

A name is taken by a conditional PUT. The answer to one that succeeded may be lost, and the next attempt then finds the name
taken by itself: each carries a token in the object's metadata, so that the winner always knows itself.
"""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from engine.errors import EngineError
from engine.storage.base import S3, TEMPORARY, Entry, S3Config
from engine.storage.s3_client import Client, Refused
from engine.storage.s3_file import TOKEN, WHOLE, Reader, Writer, is_ours, put, refusal

_DELETES = 1000


class S3Storage:
    """Buckets of one service, as one process sees them."""

    def __init__(self, config: S3Config) -> None:
        self._client = Client(config)
        self._conditional = config.conditional

    def list(self, folder: str) -> Iterator[Entry]:
        base = folder.rstrip("/")
        found = [(path, size, tag) for path, size, tag in self._below(base) if not _hidden(path.removeprefix(base))]
        for path, size, tag in sorted(found):
            yield Entry(path, size, tag)

    def stat(self, path: str) -> Entry | None:
        bucket, key = _split(path)
        try:
            found = self._client.call("head_object", bucket, Key=key) if key else None
        except Refused as refused:
            if refused.missing:
                return None
            raise refusal(refused, path) from None
        return found and Entry(path, found["ContentLength"], found["ETag"].strip('"'))

    def is_folder(self, path: str) -> bool:
        return next(self._below(path.rstrip("/"), 1), None) is not None

    def open(self, path: str, expect: Entry | None = None) -> BinaryIO:
        bucket, key = _split(path)
        if expect is not None:
            return Reader(self._client, bucket, key, expect)
        first = None
        try:
            # The end of a file tells its size too, and is where a Parquet file is read first.
            found = self._client.call("get_object", bucket, Key=key, Range=f"bytes=-{WHOLE}")
            size = int(found["ContentRange"].rpartition("/")[2]) if "ContentRange" in found else len(found["Body"])
            first = (size - len(found["Body"]), found["Body"])
            tag = found["ETag"]
        except Refused as refused:
            # An empty object has no last bytes.
            entry = self.stat(path) if refused.status == 416 else None
            if entry is None:
                raise FileNotFoundError(2, "no such object", path) if refused.missing else refusal(refused, path) from None
            size, tag = entry.size, entry.version
        return Reader(self._client, bucket, key, Entry(path, size, tag.strip('"')), first)

    def read(self, path: str) -> bytes | None:
        bucket, key = _split(path)
        try:
            return self._client.call("get_object", bucket, Key=key)["Body"]
        except Refused as refused:
            if refused.missing:
                return None
            raise refusal(refused, path) from None

    def create(self, path: str, data: bytes) -> bool:
        bucket, key = _split(path)
        if not self._conditional and self.stat(path) is not None:
            return False
        token = uuid.uuid4().hex
        condition = {"IfNoneMatch": "*"} if self._conditional else {}
        try:
            put(self._client, bucket, key, data, Metadata={TOKEN: token}, **condition)
        except Refused as refused:
            if refused.unmet:
                return is_ours(self._client, bucket, key, token)
            raise refusal(refused, path) from None
        return True

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        file = Writer(self._client, *_split(path))
        try:
            yield file
            file.commit()
        except BaseException:
            # The parts that stay behind where even this fails are a matter of the bucket's lifecycle rule.
            with suppress(EngineError, Refused):
                file.abort()
            raise

    def link(self, source: str, target: str) -> bool:
        (from_bucket, from_key), (bucket, key) = _split(source), _split(target)
        origin = {"CopySource": {"Bucket": from_bucket, "Key": from_key}, "MetadataDirective": "COPY"}
        condition = {"IfNoneMatch": "*"} if self._conditional else {}
        try:
            self._client.call("copy_object", bucket, Key=key, **origin, **condition)
        except Refused as refused:
            if refused.unmet:
                return True
            if refused.missing:
                return self.stat(target) is not None
            raise refusal(refused, target) from None
        return True

    def remove(self, path: str) -> None:
        bucket, key = _split(path)
        try:
            self._client.call("delete_object", bucket, Key=key)
        except Refused as refused:
            if not refused.missing:
                raise refusal(refused, path) from None

    def remove_all(self, paths: Iterable[str]) -> None:
        left = iter(paths)
        while some := tuple(islice(left, _DELETES)):
            bucket = _split(some[0])[0]
            keys = [{"Key": _split(path)[1]} for path in some]
            try:
                answer = self._client.call("delete_objects", bucket, Delete={"Objects": keys, "Quiet": True})
            except Refused as refused:
                raise refusal(refused, some[0]) from None
            # Alone, each is tried again as long as any request, and told if that does not help.
            for failed in answer.get("Errors", ()):
                self.remove(f"{S3}{bucket}/{failed['Key']}")

    def remove_folder(self, folder: str) -> None:
        self.remove_all(path for path, _, _ in self._below(folder.rstrip("/")))

    @contextmanager
    def scratch(self, folder: str) -> Iterator[str]:
        with TemporaryDirectory(prefix="marginalia-") as local:
            yield local

    def probe(self, folder: str) -> bool:
        bucket, key = _split(f"{folder.rstrip('/')}/.probe-{uuid.uuid4().hex}")
        try:
            put(self._client, bucket, key, b"")
            try:
                put(self._client, bucket, key, b"", IfNoneMatch="*")
                return False
            except Refused as refused:
                # A store that does not know the header at all says so (501), or ignores it.
                return refused.unmet
            finally:
                self.remove(f"{S3}{bucket}/{key}")
        except Refused as refused:
            raise refusal(refused, folder) from None

    def _below(self, folder: str, most: int = 1000) -> Iterator[tuple[str, int, str]]:
        """Path, size and ETag of all below a folder, in the store's order; the markers that some tools leave for folders are
        none."""
        bucket, key = _split(folder)
        asked: dict[str, Any] = {"Prefix": f"{key}/" if key else "", "MaxKeys": most}
        while True:
            try:
                page = self._client.call("list_objects_v2", bucket, **asked)
            except Refused as refused:
                raise refusal(refused, folder) from None
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    yield f"{S3}{bucket}/{item['Key']}", item["Size"], item["ETag"].strip('"')
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.removeprefix(S3).partition("/")
    return bucket, key


def _hidden(below: str) -> bool:
    return "/." in below or below.endswith(TEMPORARY)
