"""An S3 object as a file: reading by ranges of one version, writing in parts."""

import errno
import hashlib
import io
import uuid
from base64 import b64encode
from typing import Any

from engine.errors import ConfigError, EngineError, InputChanged, RetryableError
from engine.storage.base import S3, Entry
from engine.storage.s3_client import Client, Refused

# An object up to this size is read in one request.
WHOLE = 2 * 2**20
_LEAST, _MOST = 64 * 1024, 8 * 2**20
_BLOCKS = 3
_PART = 16 * 2**20
TOKEN = "marginalia-token"


class Reader(io.RawIOBase):
    """A seekable file over ranged requests, each on condition that the object is still the version that was opened.

    The last few blocks are kept. A read that goes on where a block ended fetches twice as much as the one before, so that a
    pass over a large file takes few requests and a jump into it little data.
    """

    def __init__(self, client: Client, bucket: str, key: str, entry: Entry, first: tuple[int, bytes] | None = None) -> None:
        self._client, self._bucket, self._key, self._entry = client, bucket, key, entry
        self._at = 0
        self._ahead = WHOLE if entry.size <= WHOLE else _LEAST
        self._blocks: list[tuple[int, bytes]] = [] if first is None else [first]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """All of what is asked, less only at the end.

        Raises:
            InputChanged: the object is not the version that was opened.
        """
        stop = self._entry.size if size is None or size < 0 else min(self._at + size, self._entry.size)
        pieces = []
        while self._at < stop:
            start, block = self._block(self._at, stop)
            piece = block[self._at - start : stop - start]
            pieces.append(piece)
            self._at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self.read()

    def _block(self, at: int, stop: int) -> tuple[int, bytes]:
        for start, block in self._blocks:
            if start <= at < start + len(block):
                return start, block
        before = [block for start, block in self._blocks if start + len(block) == at]
        if before:
            self._ahead = min(2 * max(map(len, before)), _MOST)
        # A whole object is fetched from its beginning, wherever reading begins.
        start = 0 if self._entry.size <= WHOLE else at
        end = min(max(stop, start + self._ahead), self._entry.size)
        self._blocks = [*self._blocks[-_BLOCKS + 1 :], (start, self._fetch(start, end))]
        return self._blocks[-1]

    def _fetch(self, start: int, end: int) -> bytes:
        condition = {"IfMatch": f'"{self._entry.version}"', "Range": f"bytes={start}-{end - 1}"}
        try:
            data = self._client.call("get_object", self._bucket, Key=self._key, **condition)["Body"]
        except Refused as refused:
            if refused.missing or refused.unmet or refused.status == 416:
                path = self._entry.path
                raise InputChanged(
                    f"{path} changed or vanished since the run was planned; restore it, or start a new output folder"
                ) from None
            if refused.denied:
                # One file that may not be read costs itself only, as on a disk.
                raise PermissionError(errno.EACCES, "access is denied by the store", self._entry.path) from None
            raise refusal(refused, self._entry.path) from None
        if len(data) != end - start:
            raise RetryableError(f"{self._entry.path}: the store gave {len(data)} of {end - start} bytes; run the command again")
        return data


class Writer(io.RawIOBase):
    """Gathers what is written: one request if it is little, else parts of 16 MiB. Nothing has the name before `commit`."""

    def __init__(self, client: Client, bucket: str, key: str) -> None:
        self._client, self._bucket, self._key = client, bucket, key
        self._path = f"{S3}{bucket}/{key}"
        self._buffer = bytearray()
        self._written = 0
        self._token = uuid.uuid4().hex
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._buffer += data
        self._written += size
        while len(self._buffer) >= _PART:
            self._send(bytes(self._buffer[:_PART]))
            del self._buffer[:_PART]
        return size

    def commit(self) -> None:
        if self._upload is not None and self._buffer:
            self._send(bytes(self._buffer))
        whole = {"UploadId": self._upload, "MultipartUpload": {"Parts": self._parts}}
        try:
            if self._upload is None:
                put(self._client, self._bucket, self._key, bytes(self._buffer))
                return
            self._client.call("complete_multipart_upload", self._bucket, Key=self._key, **whole)
        except Refused as refused:
            # Completed by an attempt whose answer was lost.
            if not (refused.missing and is_ours(self._client, self._bucket, self._key, self._token)):
                raise refusal(refused, self._path) from None

    def abort(self) -> None:
        if self._upload is not None:
            self._client.call("abort_multipart_upload", self._bucket, Key=self._key, UploadId=self._upload)

    def _send(self, data: bytes) -> None:
        target = {"Key": self._key}
        try:
            if self._upload is None:
                made = self._client.call("create_multipart_upload", self._bucket, **target, Metadata={TOKEN: self._token})
                self._upload = made["UploadId"]
            part = {"PartNumber": len(self._parts) + 1, "UploadId": self._upload}
            answer = self._client.call("upload_part", self._bucket, **target, **part, Body=data, ContentMD5=_md5(data))
        except Refused as refused:
            raise refusal(refused, self._path) from None
        self._parts.append({"PartNumber": part["PartNumber"], "ETag": answer["ETag"]})


def put(client: Client, bucket: str, key: str, data: bytes, **more: Any) -> None:
    """Writes an object in one request.

    Raises:
        Refused: it is denied, or a condition in `more` does not hold.
    """
    client.call("put_object", bucket, Key=key, Body=data, ContentMD5=_md5(data), **more)


def is_ours(client: Client, bucket: str, key: str, token: str) -> bool:
    """Whether the object is the one that was written with this token."""
    try:
        return client.call("head_object", bucket, Key=key).get("Metadata", {}).get(TOKEN) == token
    except Refused as refused:
        if refused.missing:
            return False
        raise refusal(refused, f"{S3}{bucket}/{key}") from None


def refusal(refused: Refused, path: str) -> EngineError:
    """What to raise when the service refuses something that it should do."""
    if refused.denied:
        return ConfigError(f"{path}: access is denied by the store; check what the AWS credentials allow")
    return RetryableError(f"{path}: the store refuses ({refused.code or refused.status}); look there, then run the command again")


def _md5(data: bytes) -> str:
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
