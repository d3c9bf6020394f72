"""How a job reaches `s3://` paths. Credentials are no setting of ours: they come from the usual AWS chain."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.keys import key

if TYPE_CHECKING:
    from engine.storage import S3Config


@dataclass
class Storage:
    endpoint: str | None = key(
        None,
        "URL of the service behind s3:// paths; null takes AWS_ENDPOINT_URL, or AWS itself. Credentials come from AWS's chain.",
    )
    region: str | None = key(None, "Region of the buckets; null takes AWS_REGION, AWS_DEFAULT_REGION or the AWS profile's.")
    retry_seconds: float = key(60.0, "How long a failing request is tried again before the job ends with exit code 3.", low=0.0)
    timeout_seconds: float = key(20.0, "How long a request may be silent before it counts as failed.", low=1.0)


def s3_of(storage: Storage) -> "S3Config":
    """The engine's settings.

    Raises:
        ConfigError: the endpoint is no plain URL.
    """
    from engine.storage import S3Config

    return S3Config(storage.endpoint, storage.region, storage.retry_seconds, storage.timeout_seconds)


def use(storage: Storage) -> None:
    """Sets this process up for `s3://` paths."""
    from engine.storage import use_s3

    use_s3(s3_of(storage))
