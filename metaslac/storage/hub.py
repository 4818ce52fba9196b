"""Exported agents on Hugging Face's Hub, through huggingface_hub: an extra, imported when it is asked for.

Every file is compared with the manifest after a download.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from metaslac.errors import MetaslacError
from metaslac.storage.manifest import CARD, CONFIG, EVALUATIONS, MANIFEST, WEIGHTS, check_agent

REPOSITORY = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?")


def download(written: str) -> Path:
    """The directory of an exported agent, `OWNER/NAME` or `OWNER/NAME@REVISION`, in the Hub's cache.

    Nothing but files that an exported agent may have is fetched, and each is verified.

    Raises MetaslacError for a name that is none, an agent that is not there or damaged, and no connection.
    """
    name, revision = _parsed(written)
    hub = _library()
    files = [MANIFEST, CONFIG, WEIGHTS, CARD, EVALUATIONS]
    with _in_one_line(f"cannot download hf:{written}"):
        path = Path(hub.snapshot_download(name, revision=revision, allow_patterns=files))
    check_agent(path)
    return path


def upload(directory: Path, name: str, private: bool = False) -> str:
    """Put an exported agent into a repository `OWNER/NAME`, made if it is not there; returns its address.

    `private` is of a new repository. Raises MetaslacError as `download` does.
    """
    check_name(name)
    hub = _library()
    files = [MANIFEST, *check_agent(directory)["files"]]
    with _in_one_line(f"cannot write to {name}"):
        api = hub.HfApi()
        address = api.create_repo(name, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=directory, allow_patterns=files, commit_message="metaslac export"
        )
    return str(address)


def check_name(name: str) -> None:
    """Raise MetaslacError unless it names a repository, and the library to write to it is there."""
    if _parsed(name)[1] is not None:
        raise MetaslacError(f"{name}: a revision is not written to; leave out what follows @")
    _library()


def _parsed(written: str) -> tuple[str, str | None]:
    if (found := REPOSITORY.fullmatch(written)) is None:
        raise MetaslacError(
            f"{written!r} is not OWNER/NAME or OWNER/NAME@REVISION of a repository on the Hub"
        )
    return found["name"], found["revision"]


def _library() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise MetaslacError('agents on the Hub need huggingface_hub: pip install "metaslac[hub]"') from None
    return huggingface_hub  # type: ignore[no-any-return, unused-ignore]


@contextmanager
def _in_one_line(failed: str) -> Iterator[None]:
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except RevisionNotFoundError:
        raise MetaslacError(f"{failed}: it has no such revision") from None
    except RepositoryNotFoundError:
        raise MetaslacError(
            f"{failed}: there is no such repository, or it is private and `hf auth login` has not been used"
        ) from None
    except (OSError, ValueError, HTTPError) as error:  # no connection, a full disk, what the Hub refuses
        raise MetaslacError(f"{failed}: {' '.join(str(error).split()) or type(error).__name__}") from None
