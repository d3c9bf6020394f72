"""Requests to S3: how each is retried, and what an error means.

s3fs provides the session, the credentials, the client and its event loop. Requests are made on its client with its own retries
and botocore's turned off: telling a lost answer from a lost race, within one time limit, takes a view of every single attempt.
"""

import asyncio
import hashlib
import random
import re
import time
from base64 import b64encode
from collections.abc import Container
from typing import Any

import aiohttp
import botocore.exceptions as boto
import s3fs
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync

from engine.errors import ConfigError, EngineError, RetryableError
from engine.storage.base import S3, S3Config

MISSING, UNMET, NO_RANGE = 404, 412, 416
_CONNECT_SECONDS = 5
# Before anything has answered, a wrong address is likelier than a passing failure.
_FIRST_PATIENCE = 15.0
_LONGEST_PAUSE = 5.0
# Bytes a second: a slower upload counts as broken off.
_SLOWEST_UPLOAD = 128 * 1024
_BUSY = frozenset(
    [
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    ]
)
_DENIED = frozenset(
    [
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    ]
)
_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
# Never a mistake of the user: no such key, a condition that does not hold, no such range, a header the store does not know.
_PLAIN = {MISSING, UNMET, NO_RANGE, 501}
# Only the owner of the bucket answers with these codes; the answer to HEAD has no code of its own.
_FROM_OWNER = {"InvalidRange", "NoSuchKey", "PreconditionFailed"}
_OF_BUCKETS = ("list_objects_v2", "delete_objects")
_BROKEN_OFF = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    ResponseParserError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
    ConnectionError,
)


class Refused(Exception):
    """The service answered no, with this code and HTTP status. Never leaves the storage room."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(f"{code} ({status})")
        self.code, self.status = code, status


class Denied(ConfigError):
    """The service denies access to one object."""


class Client:
    """Makes requests and retries them."""

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._proven: set[str] = set()
        self._fs = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            endpoint_url=config.endpoint,
            client_kwargs={"region_name": config.region} if config.region else {},
            config_kwargs={
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "connect_timeout": min(_CONNECT_SECONDS, config.timeout_seconds),
                "read_timeout": config.timeout_seconds,
                "max_pool_connections": 16,
                # Stores other than AWS often know no checksum but the MD5 that `attempt` adds.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )

    def call(self, operation: str, path: str, none_for: Container[int] = (), **arguments: Any) -> dict[str, Any] | None:
        """One request about an object or a bucket; `Body` of the answer is bytes.

        Args:
            none_for: statuses to answer with None, such as `MISSING`.
        Raises:
            ConfigError: the service, the bucket, the region or the credentials are wrong; `Denied` if only this object is denied.
            RetryableError: what worked before does not work now, for as long as the config is patient.
        """
        try:
            return self.attempt(operation, path, **arguments)
        except Refused as refused:
            if refused.status in none_for:
                return None
            if refused.status in (401, 403):
                raise Denied(f"{path}: access is denied by the store; check what the AWS credentials allow") from None
            raise refusal(path, refused.code or refused.status) from None

    def attempt(self, operation: str, path: str, **arguments: Any) -> dict[str, Any]:
        """As `call`.

        Raises:
            Refused: there is no such key, a condition does not hold, or this one key is denied.
        """
        bucket, key = split(path)
        if operation not in _OF_BUCKETS:
            arguments["Key"] = key
        if "Body" in arguments:
            arguments["ContentMD5"] = b64encode(hashlib.md5(arguments["Body"], usedforsecurity=False).digest()).decode()
        return sync(self._fs.loop, self._patiently, operation, bucket, arguments)

    def _is_proven(self, bucket: str) -> bool:
        """Whether this bucket has answered before."""
        return self._config.proven or bucket in self._proven

    async def _patiently(self, operation: str, bucket: str, arguments: dict[str, Any]) -> dict[str, Any]:
        started, pause = time.monotonic(), 0.1
        while True:
            try:
                answer = await self._once(operation, bucket, arguments)
                self._proven.add(bucket)
                return answer
            except boto.ClientError as error:
                code, status = _code(error)
                answered, reason = True, f"it answers {code}"
                if not (code in _BUSY or status == 429 or (status >= 500 and status != 501)):
                    raise self._refused(error, code, status, operation, bucket) from None
            except _BROKEN_OFF as error:
                answered, reason = False, type(error).__name__
            except RecursionError:
                # botocore follows a redirection that names no target.
                raise ConfigError(f"storage.region: bucket '{bucket}' is in another region; set storage.region") from None
            except (boto.BotoCoreError, ValueError) as error:
                raise _mistake(error, bucket) from None
            answered = answered or self._is_proven(bucket)
            patience = self._config.retry_seconds if answered else min(_FIRST_PATIENCE, self._config.retry_seconds)
            if time.monotonic() - started + pause > patience:
                if answered:
                    raise _later(bucket, f"the service does not do its work ({reason})") from None
                advice = f"no S3 service answers there ({reason}); check it and storage.region"
                raise ConfigError(advice, "storage.endpoint") from None
            # Workers that were slowed down together must not all come back at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _once(self, operation: str, bucket: str, arguments: dict[str, Any]) -> dict[str, Any]:
        client = await self._fs.set_session()
        # The client's own limit does not cover every answer that follows a "100 Continue".
        limit = self._config.timeout_seconds + len(arguments.get("Body", b"")) / _SLOWEST_UPLOAD
        answer = await asyncio.wait_for(getattr(client, operation)(Bucket=bucket, **arguments), limit)
        if "Body" in answer:
            async with answer["Body"] as body:
                data = await body.read()
            if len(data) != answer.get("ContentLength", len(data)):
                raise boto.IncompleteReadError(actual_bytes=len(data), expected_bytes=answer["ContentLength"])
            answer["Body"] = data
        return answer

    def _refused(self, error: boto.ClientError, code: str, status: int, operation: str, bucket: str) -> Exception:
        if code in _REGION or status == 301:
            return ConfigError(f"storage.region: bucket '{bucket}' is in {_region(error)}; set storage.region to its own")
        # An empty folder still has an empty page: without a page there is no bucket, or no S3 service.
        if code == "NoSuchBucket" or (status == MISSING and operation == "list_objects_v2"):
            if self._is_proven(bucket):
                return _later(bucket, "the bucket is gone")
            return ConfigError(f"s3://{bucket}: there is no such bucket; check the path, storage.endpoint and storage.region")
        if code in _DENIED or status in (401, 403):
            if not self._is_proven(bucket):
                return ConfigError(f"s3://{bucket}: access is refused ({code}); check the AWS credentials and what they allow")
            if code not in ("AccessDenied", "403"):
                return _later(bucket, f"the credentials are not taken any more ({code})")
        elif status not in _PLAIN and not self._is_proven(bucket):
            return _mistake(error, bucket)
        if code in _FROM_OWNER:
            self._proven.add(bucket)
        return Refused(code, status)


def refusal(path: str, reason: object) -> RetryableError:
    """The error for a request that the service should not refuse."""
    return RetryableError(f"{path}: the store refuses ({reason}); look there, then run the command again")


def split(path: str) -> tuple[str, str]:
    """Bucket and key of a path."""
    bucket, _, key = path.removeprefix(S3).partition("/")
    return bucket, key


def _later(bucket: str, what: str) -> RetryableError:
    return RetryableError(f"s3://{bucket}: {what}; run the same command again when that is mended")


def _mistake(error: Exception, bucket: str) -> EngineError:
    """The error for settings with which no request can be made."""
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return ConfigError("no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give a role")
    if isinstance(error, boto.NoRegionError | boto.InvalidRegionError):
        return ConfigError("storage.region: is missing or no region, such as eu-central-1")
    if isinstance(error, boto.ParamValidationError):
        return ConfigError(f"s3://{bucket}: not a bucket and key that S3 allows")
    # Messages of other libraries may quote the endpoint.
    return ConfigError(f"s3://{bucket}: cannot be asked ({type(error).__name__}); check storage.endpoint and the AWS settings")


def _code(error: boto.ClientError) -> tuple[str, int]:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(error.response.get("Error", {}).get("Code", "")), status


def _region(error: boto.ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or ""
    return f"region {region}" if re.fullmatch(r"[a-z0-9-]{2,40}", region) else "another region"
