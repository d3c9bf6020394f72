"""An S3 object as a file: reading ranges of one version, writing in parts."""

import errno
import io
import uuid
from typing import Any

from engine.errors import InputChanged, RetryableError
from engine.storage.base import CHANGED, Entry
from engine.storage.s3_client import MISSING, NO_RANGE, UNMET, Client, Denied, refusal

# An object up to this size is read in one request.
WHOLE = 2 * 2**20
# Least and most bytes that a read of a larger one fetches.
_LEAST, _MOST = 64 * 1024, 8 * 2**20
_BLOCKS = 3
_PART = 16 * 2**20
TOKEN = "marginalia-token"


class Reader(io.RawIOBase):
    """A seekable file over ranged requests, each on condition that the object is still the version that was opened.

    The last few blocks are kept. A read that continues where a block ended fetches twice as much as the one before, so that a
    pass over a large file takes few requests and a jump into it fetches little data.
    """

    def __init__(self, client: Client, entry: Entry, first: tuple[int, bytes] | None = None) -> None:
        self._client, self._entry = client, entry
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
        """All the bytes asked for, fewer only at the end.

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
        # A small object is fetched whole, wherever reading begins.
        start = 0 if self._entry.size <= WHOLE else at
        end = min(max(stop, start + self._ahead), self._entry.size)
        self._blocks = [*self._blocks[-_BLOCKS + 1 :], (start, self._fetch(start, end))]
        return self._blocks[-1]

    def _fetch(self, start: int, end: int) -> bytes:
        path, condition = self._entry.path, {"IfMatch": f'"{self._entry.version}"', "Range": f"bytes={start}-{end - 1}"}
        try:
            answer = self._client.call("get_object", path, none_for=(MISSING, UNMET, NO_RANGE), **condition)
        except Denied:
            # One file that may not be read costs itself only, as on a disk.
            raise PermissionError(errno.EACCES, "access is denied by the store", path) from None
        if answer is None:
            raise InputChanged(f"{path} {CHANGED}")
        if len(answer["Body"]) != end - start:
            size = len(answer["Body"])
            raise RetryableError(f"{path}: the store gave {size} of {end - start} bytes; run the command again")
        return answer["Body"]


class Writer(io.RawIOBase):
    """Collects what is written: one request if it is little, else parts of 16 MiB. The object appears at `commit`."""

    def __init__(self, client: Client, path: str) -> None:
        self._client, self._path = client, path
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
        if self._upload is None:
            self._client.call("put_object", self._path, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        parts = {"UploadId": self._upload, "MultipartUpload": {"Parts": self._parts}}
        completed = self._client.call("complete_multipart_upload", self._path, none_for=(MISSING,), **parts)
        # The upload is also missing if an attempt completed it and the answer was lost.
        if completed is None and not is_ours(self._client, self._path, self._token):
            raise refusal(self._path, "NoSuchUpload")

    def abort(self) -> None:
        if self._upload is not None:
            self._client.call("abort_multipart_upload", self._path, UploadId=self._upload)

    def _send(self, data: bytes) -> None:
        if self._upload is None:
            created = self._client.call("create_multipart_upload", self._path, Metadata={TOKEN: self._token})
            self._upload = created["UploadId"]
        part = len(self._parts) + 1
        answer = self._client.call("upload_part", self._path, PartNumber=part, UploadId=self._upload, Body=data)
        self._parts.append({"PartNumber": part, "ETag": answer["ETag"]})


def is_ours(client: Client, path: str, token: str) -> bool:
    """Whether the object is the one that was written with this token."""
    answer = client.call("head_object", path, none_for=(MISSING,))
    return answer is not None and answer.get("Metadata", {}).get(TOKEN) == token
