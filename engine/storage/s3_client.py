"""Requests to S3: how each is tried again, and what an error means.

s3fs gives the session, the credentials, the client and its event loop. The requests are made on its client, with its own
retries and botocore's turned off: only who sees every single attempt can tell a lost answer from a lost race, and keep to one
bound of time.
"""

import asyncio
import random
import re
import time
from typing import Any

import aiohttp
import botocore.exceptions as boto
import s3fs
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync

from engine.errors import ConfigError, EngineError, RetryableError
from engine.storage.base import S3Config

_CONNECT_SECONDS = 5
# Before anything has answered, a wrong address is likelier than a bad moment.
_FIRST_PATIENCE = 15.0
_LONGEST_PAUSE = 5.0
# Bytes a second: below this an upload counts as broken off.
_SLOWEST_UPLOAD = 128 * 1024
_BUSY = {
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
}
_DENIED = {
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
}
_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
# What is no mistake of the user, whenever it comes: no such key, a condition that does not hold, no such range.
_PLAIN = {404, 412, 416, 501}
# Only who has the bucket says these; the answer to HEAD has no code of its own.
_TELLING = {"InvalidRange", "NoSuchKey", "PreconditionFailed"}
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
    """The service has answered, and the answer is no: its code and HTTP status. Never leaves the storage room."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(f"{code} ({status})")
        self.code = code
        self.status = status

    @property
    def missing(self) -> bool:
        return self.status == 404

    @property
    def denied(self) -> bool:
        return self.status in (401, 403)

    @property
    def unmet(self) -> bool:
        """A condition of the request did not hold."""
        return self.status == 412


class Client:
    """Makes requests, tries them again, and raises `Refused`, or an error of the engine that says what to do."""

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
                # Other stores than AWS's often know no checksums but MD5, which `put` sends along.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )

    def call(self, operation: str, bucket: str, **arguments: Any) -> dict[str, Any]:
        """One request; `Body` of the answer is bytes.

        Raises:
            Refused: there is no such key, a condition does not hold, or this one key is denied.
            ConfigError: the service, the bucket, the region or the credentials are wrong.
            RetryableError: what worked before does not work now, for as long as the config is patient.
        """
        return sync(self._fs.loop, self._patiently, operation, bucket, arguments)

    def proven(self, bucket: str) -> bool:
        """Whether this bucket has answered before."""
        return self._config.proven or bucket in self._proven

    async def _patiently(self, operation: str, bucket: str, arguments: dict[str, Any]) -> dict[str, Any]:
        begun, pause = time.monotonic(), 0.1
        while True:
            try:
                answer = await self._once(operation, bucket, arguments)
                self._proven.add(bucket)
                return answer
            except boto.ClientError as error:
                failed: Exception = error
                code, status = _code(error)
                reason = f"it answers {code}"
                if not (code in _BUSY or status == 429 or (status >= 500 and status != 501)):
                    raise self._refused(error, code, status, operation, bucket) from None
            except _BROKEN_OFF as error:
                failed, reason = error, type(error).__name__
            except RecursionError:
                # botocore follows a redirection that does not say where to.
                raise ConfigError(f"storage.region: bucket '{bucket}' is in another region; set storage.region") from None
            except (boto.BotoCoreError, ValueError) as error:
                raise _mistake(error, bucket) from None
            answered = self.proven(bucket) or isinstance(failed, boto.ClientError)
            patience = self._config.retry_seconds if answered else min(_FIRST_PATIENCE, self._config.retry_seconds)
            if time.monotonic() - begun + pause > patience:
                raise self._gave_up(failed, reason, bucket) from None
            # Many workers that were slowed down together must not come back together.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _once(self, operation: str, bucket: str, arguments: dict[str, Any]) -> dict[str, Any]:
        client = await self._fs.set_session()
        # The client's own limit does not hold for every answer that follows a "100 Continue".
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
        # Listing nothing is an empty page: what has no page is no bucket, or no S3 service.
        if code == "NoSuchBucket" or (status == 404 and operation == "list_objects_v2"):
            if self.proven(bucket):
                return _later(bucket, "the bucket is gone")
            return ConfigError(f"s3://{bucket}: there is no such bucket; check the path, storage.endpoint and storage.region")
        if code in _DENIED or status in (401, 403):
            if not self.proven(bucket):
                return ConfigError(f"s3://{bucket}: access is refused ({code}); check the AWS credentials and what they allow")
            if code not in ("AccessDenied", "403"):
                return _later(bucket, f"the credentials are not taken any more ({code})")
        elif status not in _PLAIN and not self.proven(bucket):
            return _mistake(error, bucket)
        if code in _TELLING:
            self._proven.add(bucket)
        return Refused(code, status)

    def _gave_up(self, error: Exception, reason: str, bucket: str) -> EngineError:
        if self.proven(bucket) or isinstance(error, boto.ClientError):
            return _later(bucket, f"the service does not do its work ({reason})")
        return ConfigError(f"storage.endpoint: no S3 service answers there ({reason}); check it and storage.region")


def _later(bucket: str, what: str) -> RetryableError:
    return RetryableError(f"s3://{bucket}: {what}; run the same command again when that is mended")


def _mistake(error: Exception, bucket: str) -> EngineError:
    """Settings that no request can be made with."""
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return ConfigError("no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give a role")
    if isinstance(error, boto.NoRegionError | boto.InvalidRegionError):
        return ConfigError("storage.region: is missing or no region, such as eu-central-1")
    if isinstance(error, boto.ParamValidationError):
        return ConfigError(f"s3://{bucket}: not a bucket and key that S3 allows")
    # Messages of others may hold the endpoint.
    return ConfigError(f"s3://{bucket}: cannot be asked ({type(error).__name__}); check storage.endpoint and the AWS settings")


def _code(error: boto.ClientError) -> tuple[str, int]:
    return str(error.response.get("Error", {}).get("Code", "")), error.response.get("ResponseMetadata", {}).get(
        "HTTPStatusCode", 0
    )


def _region(error: boto.ClientError) -> str:
    found = error.response.get("Error", {})
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = found.get("Region") or headers.get("x-amz-bucket-region") or ""
    return f"region {region}" if re.fullmatch(r"[a-z0-9-]{2,40}", region) else "another region"
