"""Repositories of the Hugging Face hub as folders: what its cache has, or what it sends."""

from collections.abc import Sequence
from pathlib import Path


class NotThere(Exception):
    """What the hub library said, in one line."""


def snapshot(repository: str, revision: str, files: Sequence[str], online: bool) -> Path:
    """The folder of a repository in the local cache.

    repository (str): Id.
    revision (str): Commit, tag or branch; "" for the newest.
    files (Sequence[str]): Names of what is wanted of it.
    online (bool): Get from the hub what the cache lacks.
    RAISES (NotThere): It cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                local_files_only=not online,
                allow_patterns=list(files),
            )
        )
    except Exception as error:  # the hub library has a dozen ways to say "not there"
        raise NotThere(" ".join(str(error).split())) from error
