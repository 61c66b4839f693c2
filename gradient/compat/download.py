"""`hub.load_state_dict_from_url` and `utils.model_zoo`: weights from an address."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from gradient.errors import FileFormatError, MissingDependency
from gradient.io.atomic import atomic_write

__all__ = ["HASH_REGEX", "download_url_to_file", "get_dir", "load_state_dict_from_url", "load_url",
           "set_dir", "tqdm", "urlparse"]  # fmt: skip

HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")
"""What in a file's name is the beginning of its SHA-256."""

_folder: Path | None = None


def get_dir() -> str:
    """The folder for what is downloaded: that of `set_dir`, or `gradient/hub` among the caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(_folder or Path(caches) / "gradient" / "hub")


def tqdm(*args: Any, **options: Any) -> Any:
    """A progress bar of the package tqdm.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        from tqdm.auto import tqdm as bar
    except ImportError:
        raise MissingDependency("hub.tqdm: needs tqdm; pip install tqdm") from None
    return bar(*args, **options)


def _get_torch_home() -> str:
    """The folder that `hub` is in, among the caches."""
    return str(Path(get_dir()).parent)


def set_dir(d: str | os.PathLike[str]) -> None:
    global _folder
    _folder = Path(d).expanduser()


def download_url_to_file(
    url: str, dst: str | os.PathLike[str], hash_prefix: str | None = None, progress: bool = True
) -> None:
    """Save what is at an address, whole or not at all.

    Raises:
        FileFormatError: its SHA-256 does not begin with `hash_prefix`.
    """
    found = hashlib.sha256()
    with urllib.request.urlopen(url) as source, atomic_write(Path(dst)) as file:
        while block := source.read(1 << 20):
            found.update(block)
            file.write(block)
        if hash_prefix and not found.hexdigest().startswith(hash_prefix):
            raise FileFormatError(
                f"{url}: expected a SHA-256 that begins with {hash_prefix}, got {found.hexdigest()}"
            )


def load_state_dict_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = True,
) -> Any:
    """What `gradient.load` reads of the file at an address, which is kept in `model_dir`.

    With `check_hash` the file's name has to say the beginning of its SHA-256, as in
    `resnet18-f37072fd.pth`.
    """
    from gradient.io import load

    folder = Path(model_dir or Path(get_dir()) / "checkpoints")
    name = file_name or Path(urlparse(url).path).name
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        said = HASH_REGEX.search(name) if check_hash else None
        download_url_to_file(url, folder / name, said and said[1], progress)
    return load(folder / name, map_location=map_location)


load_url = load_state_dict_from_url
