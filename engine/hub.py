"""Files of an encoder on the model hub, at a pinned commit. This is the only place that asks the hub for anything.

Every process of a job is offline (HF_HUB_OFFLINE). What the hub's local cache lacks is fetched by a child process that is not:
`python -m engine.hub <id> <commit> <file>...`, which prints the name of the error that stopped it. HF_ENDPOINT, HF_HOME, HF_TOKEN
and proxies mean what they mean to huggingface_hub. What is in the cache is not asked for again, so a node without network works
if its cache has the files.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.errors import ConfigError

# Bytes from which a user is told what is awaited.
_LARGE = 10**6
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOLD = {
    "GatedRepoError": "{repo} is given only to those who accepted its terms: do so on its page, then set HF_TOKEN to your token",
    "RepositoryNotFoundError": "there is no {repo} on the hub, or it is private; if it is yours, set HF_TOKEN to your token",
    "RevisionNotFoundError": "{repo} has no commit {revision}; the history of the model's files lists those that it has",
    "LocalEntryNotFoundError": "{repo} is not in the local cache, and the hub cannot be reached; check network and HF_ENDPOINT",
}


def fetch(name: str, files: Sequence[str]) -> Path:
    """The local folder with those of `files` that a model has.

    Args:
        name: `<id>@<commit>`.
    Raises:
        ConfigError: the name is none, or pins no commit, or the hub does not give the files.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import validate_repo_id

    repo, _, revision = name.partition("@")
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise ConfigError(f"encoder: '{repo}' is no id of the hub, such as org/model") from None
    if not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"encoder: hub:{name} is not pinned to a commit; write hub:{repo}@<40 hex digits>, which the history of the model's "
            "files lists"
        )
    lacking = [file for file in files if try_to_load_from_cache(repo, file, revision=revision) is None]
    if lacking:
        _ask(repo, revision, lacking, constants.HF_HUB_CACHE)
    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"), "snapshots", revision)


def _ask(repo: str, revision: str, files: Sequence[str], cache: str) -> None:
    online = {"HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": cache, "HF_HUB_VERBOSITY": "error", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "engine.hub", repo, revision, *files]
    done = subprocess.run(command, env={**os.environ, **online}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        error = done.stdout.strip()
        told = _TOLD.get(error, f"the hub did not give {{repo}} ({error or f'exit code {done.returncode}'}); try again later")
        raise ConfigError(f"encoder: {told.format(repo=repo, revision=revision)}")


def main(repo: str, revision: str, *files: str) -> int:
    """Fetches files into the hub's local cache; those that the model lacks are no error."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    for file in files:
        try:
            size = hf_hub_download(repo, file, revision=revision, dry_run=True).file_size or 0
            if size > _LARGE:
                print(f"fetching {file} of {repo}, {size / 10**6:,.0f} MB, once", file=sys.stderr, flush=True)
            hf_hub_download(repo, file, revision=revision)
        except RemoteEntryNotFoundError:
            continue
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            print(type(error).__name__)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
