"""Where the files of a known image set are: on this machine, or on their official host."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from fedlens.data.catalogue import DATASETS, KnownDataset, KnownFile
from fedlens.errors import DataError, DataNotFoundError

CONNECT_SECONDS = 10.0  # to reach the host
SILENCE_SECONDS = 30.0  # without a byte once it answers
MAX_DOWNLOAD_BYTES = 2**30  # no official file is that large: an endless answer is cut off
_CHUNK_BYTES = 2**16


def data_folder() -> Path | None:
    """Return the folder that ``$FEDLENS_DATA`` names, or None where it is not set."""
    value = os.environ.get("FEDLENS_DATA", "")
    return Path(value) if value else None


def cache_folder() -> Path:
    """Return the folder for downloads: ``$FEDLENS_CACHE``, or fedlens' own in the user's cache."""
    value = os.environ.get("FEDLENS_CACHE", "")
    if value:
        return Path(value)
    import pooch

    return Path(pooch.os_cache("fedlens"))


def is_file(path: Path) -> bool:
    """Return whether ``path`` is a file that may be seen; never raises ``OSError``."""
    try:
        return path.is_file()
    except OSError:
        return False


def file_in(folder: Path, name: str) -> Path | None:
    """Return the file called ``name`` in ``folder``, gzipped (``.gz``) or not, or None."""
    plain = name.removesuffix(".gz")
    return next((file for file in (folder / plain, folder / f"{plain}.gz") if is_file(file)), None)


def place_in(known: KnownDataset, folder: Path) -> Path | None:
    """Return where in ``folder`` the set is: its archive, or ``folder`` itself for IDX files."""
    if known.kind == "npz":
        archive = folder / known.files[0].name
        return archive if is_file(archive) else None
    complete = known.files and all(file_in(folder, file.name) for file in known.files)
    return folder if complete else None


def available(name: str) -> str | None:
    """Return where ``load_dataset(name)`` would find a known set without downloading, or None.

    Only looks whether the files are there; whether they are intact is seen when they are loaded.

    Returns:
        A path, "embedded" for a set that needs no file, or None where the set would have to be
        downloaded.

    Raises:
        DataNotFoundError: fedlens knows no set of that name.
    """
    known = known_dataset(name)
    if known.kind == "embedded":
        return "embedded"
    place = _find(known)
    return None if place is None else str(place)


def known_dataset(name: str) -> KnownDataset:
    """Return the catalogue's entry for ``name``; raises ``DataNotFoundError`` where it has none."""
    if name not in DATASETS:
        raise DataNotFoundError(
            f"fedlens knows no image set called '{name}'; pass the path of your own, or name one "
            f"of {', '.join(DATASETS)}."
        )
    return DATASETS[name]


def locate(known: KnownDataset, *, download: bool, progress: bool) -> Path:
    """Return the archive, or the folder of IDX files, of a known set; download it if need be.

    Looks in ``$FEDLENS_DATA``, in its subfolders called like the set and ``medmnist``, then in the
    same places of the cache folder. A download goes to the cache folder, and gets its final name
    only once its checksum is right.

    Args:
        known: a set that has files.
        download: whether to download what is not on this machine.
        progress: whether to draw a progress bar (on standard error).

    Raises:
        DataNotFoundError: it is nowhere on this machine and may not or could not be downloaded.
        DataError: the download has a wrong checksum, or the cache folder cannot be written to.
    """
    place = _find(known)
    if place is not None:
        return place
    reason = "downloading is off"
    if download:
        target = cache_folder() / known.name
        try:
            for file in known.files:
                _download(file, target, progress)
        except _Unreachable as error:
            reason = str(error)
        else:
            return target if known.kind == "idx" else target / known.files[0].name
    raise DataNotFoundError(_not_found(known, reason))


class _Unreachable(Exception):
    """Why a host did not give a file, in words."""


def _roots(known: KnownDataset) -> list[Path]:
    return [root for root in (data_folder(), cache_folder()) if root is not None]


def _find(known: KnownDataset) -> Path | None:
    for root in _roots(known):
        for folder in (root, root / known.name, root / "medmnist"):
            place = place_in(known, folder)
            if place is not None:
                return place
    return None


def _not_found(known: KnownDataset, reason: str) -> str:
    looked = " or ".join(str(root) for root in _roots(known))
    unset = "" if data_folder() else " (FEDLENS_DATA is not set)"
    return (
        f"The image set '{known.name}' is not in {looked}{unset}, and {reason}; set FEDLENS_DATA "
        "to a folder that holds it, pass its path, or use 'digits', which needs no file."
    )


def _download(file: KnownFile, folder: Path, progress: bool) -> None:
    failure: _Unreachable | None = None
    for url in file.urls:
        try:
            _download_from(url, file, folder, progress)
        except _Unreachable as error:
            failure = failure or error
        else:
            return
    if failure is not None:
        raise failure


def _download_from(url: str, file: KnownFile, folder: Path, progress: bool) -> None:
    import pooch
    import requests

    host = urlsplit(url).netloc

    def fetch(url: str, output_file: str, pooch_object: object) -> None:
        http = pooch.HTTPDownloader(
            progressbar=progress,
            chunk_size=_CHUNK_BYTES,
            timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
        )
        with Path(output_file).open("wb") as output:
            http(url, _Limited(output, url), pooch_object)

    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(url, f"md5:{file.md5}", fname=file.name, path=folder, downloader=fetch)
    except requests.HTTPError as error:
        status = "an error" if error.response is None else f"HTTP {error.response.status_code}"
        raise _Unreachable(f"{host} answered {status} for {file.name}") from error
    except requests.Timeout as error:
        raise _Unreachable(f"{host} did not answer in time") from error
    except requests.RequestException as error:
        raise _Unreachable(f"{host} could not be reached ({type(error).__name__})") from error
    except OSError as error:
        raise DataError(
            f"Could not write to the cache folder {folder}: {error.strerror or error}; free some "
            "space or set FEDLENS_CACHE to a folder that you may write to."
        ) from error
    except ValueError as error:
        raise DataError(
            f"What {url} gave is not the official {file.name}: its MD5 is not {file.md5}; nothing "
            "was kept; try again later, or set FEDLENS_DATA to a folder that holds the set."
        ) from error


class _Limited:
    """A file that refuses to grow beyond ``MAX_DOWNLOAD_BYTES``."""

    def __init__(self, file: IO[bytes], url: str) -> None:
        self._file = file
        self._url = url
        self._left = MAX_DOWNLOAD_BYTES

    def write(self, content: bytes) -> None:
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"{self._url} gave more than {MAX_DOWNLOAD_BYTES:,} bytes, which no official file "
                "has; nothing was kept."
            )
        self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    # pooch tells each download on standard error; a library should not.
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
