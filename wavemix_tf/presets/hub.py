"""Files of Hugging Face, through the optional package huggingface_hub: its cache, its resumed downloads, our checks.

``HF_ENDPOINT``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` are those of huggingface_hub. A checkpoint of the authors may also
lie in ``checkpoints_folder()``, for machines without a network.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..files import sha256_of
from ..state_files import DamagedFileError
from .authors_table import ENDPOINT, REPOSITORY
from .folder import METADATA, MOST_METADATA_BYTES, PresetFolder, open_folder

INSTALL = "pip install 'wavemix-tf[hub]'"
CHECKPOINTS = "WAVEMIX_TF_CHECKPOINTS"  # environment variable: folder of checkpoints that were downloaded by hand
TIMEOUT_S = 10.0


def checkpoints_folder() -> Path:
    """Folder for checkpoints that were downloaded by hand, under their paths in the repository."""
    own = os.environ.get(CHECKPOINTS)
    return Path(own).expanduser() if own else Path.home() / ".cache" / "wavemix_tf" / "checkpoints"


def download_checkpoint(name: str, parameters: int) -> Path:
    """Return a checkpoint of the authors: of ``checkpoints_folder()``, of the cache, or downloaded.

    Args:
        name: Path in the authors' repository.
        parameters: Number of the network's weights: the file must have 2 to 16 bytes for each (float16, or float32
            with the state of an optimizer).

    Raises:
        DamagedFileError: the file is too small or large for the network, or its digest differs from the repository's.
        FileNotFoundError: it cannot be downloaded: the message says what to put where.
        ImportError: huggingface_hub is not installed.
    """
    local = checkpoints_folder() / name
    url = f"{_endpoint() or ENDPOINT}/{REPOSITORY}/resolve/main/{name}"
    by_hand = f"Download {url} and put it at {local}"
    least, most = 2 * parameters, 16 * parameters + (1 << 20)

    def check(size: int | None, where: object, remedy: str) -> None:
        if size is not None and not least <= size <= most:
            raise DamagedFileError(
                f"A checkpoint of {parameters:,} weights must have {least:,} to {most:,} bytes. Received: {size:,} "
                f"bytes in {where}. {remedy}"
            )

    if local.is_file():
        check(local.stat().st_size, local, f"Delete it. {by_hand}.")
        return local
    hub = _import_hub(f"{by_hand}, or install huggingface_hub: {INSTALL}")
    try:
        cached = hub.try_to_load_from_cache(REPOSITORY, name)
        if not isinstance(cached, str):
            check(_remote_size(hub, REPOSITORY, name, None), url, "Nothing was downloaded.")
            cached = hub.hf_hub_download(REPOSITORY, name, endpoint=_endpoint(), etag_timeout=TIMEOUT_S)
    except DamagedFileError:
        raise
    except Exception as error:
        raise FileNotFoundError(f"{by_hand}. Received: {_reason(error)}") from error
    path = Path(cached)
    again = f"Delete {path.resolve()} and call again."
    check(path.stat().st_size, path, again)
    _check_digest(path, again)
    return path


def download_preset(repository: str, revision: str | None, folder: str) -> PresetFolder:
    """Return a preset of a Hugging Face repository, downloaded to the cache; its files are of one commit.

    Args:
        repository: "owner/name".
        revision: Branch, tag or commit; None: the main branch.
        folder: Folder in the repository; "": its root.

    Raises:
        DamagedFileError: its metadata is damaged, or a file has another size than it states.
        FileNotFoundError: it cannot be downloaded, or there is no preset.
        ImportError: huggingface_hub is not installed.
    """
    page = f"{_endpoint() or ENDPOINT}/{repository}/tree/{revision or 'main'}/{folder}".rstrip("/")
    by_hand = f"Download the folder {page} and give its path"
    hub = _import_hub(f"{by_hand}, or install huggingface_hub: {INSTALL}")
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    try:
        first = Path(_download(hub, repository, prefix + METADATA, revision, MOST_METADATA_BYTES, least=0))
        found = open_folder(first.parent, f"Delete {first.parent} and call again.")
        commit = first.parents[len(Path(prefix).parts)].name  # .../snapshots/<commit>/<prefix>metadata.json
        for name, entry in found.files.items():
            _download(hub, repository, prefix + name, commit, entry["bytes"], entry["bytes"])
    except DamagedFileError:
        raise
    except Exception as error:
        raise FileNotFoundError(f"{by_hand}. Received: {_reason(error)}") from error
    return found


def _download(hub: Any, repository: str, name: str, revision: str | None, most: int, least: int) -> str:
    cached = hub.try_to_load_from_cache(repository, name, revision=revision)
    if not isinstance(cached, str):
        size = _remote_size(hub, repository, name, revision)
        if size is not None and not least <= size <= most:
            raise DamagedFileError(
                f"{name} of {repository} must have {f'{least:,} to ' if least != most else ''}{most:,} bytes. "
                f"Received: {size:,} bytes. Nothing was downloaded: the repository must be uploaded again, whole"
            )
    return str(hub.hf_hub_download(repository, name, revision=revision, endpoint=_endpoint(), etag_timeout=TIMEOUT_S))


def _remote_size(hub: Any, repository: str, name: str, revision: str | None) -> int | None:
    url = hub.hf_hub_url(repository, name, revision=revision, endpoint=_endpoint())
    size = hub.get_hf_file_metadata(url, timeout=TIMEOUT_S).size
    return None if size is None else int(size)


def _check_digest(path: Path, remedy: str) -> None:
    """Raise a DamagedFileError if a cached file is not the repository's: the cache names large files by SHA-256."""
    name = path.resolve().name
    if not re.fullmatch(r"[0-9a-f]{64}", name):
        return
    if sha256_of(path) != name:
        raise DamagedFileError(f"{path} must be intact. Received: its SHA-256 is not the repository's. {remedy}")


def _endpoint() -> str | None:
    """Address of another server than Hugging Face's; read at each call."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _import_hub(remedy: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(f"{remedy}. Received: huggingface_hub is not installed") from error
    return huggingface_hub


def _reason(error: BaseException) -> str:
    """Describe an error of huggingface_hub in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}{': ' + lines[0].rstrip('.') if lines else ''}"
