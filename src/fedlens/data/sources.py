"""One door to every image set: by name, or by path."""

from pathlib import Path

from fedlens.data.catalogue import DATASETS, IDX_FILES, KnownDataset
from fedlens.data.dataset import ImageDataset
from fedlens.data.digits import load_digits
from fedlens.data.idx import read_idx
from fedlens.data.layout import ARRAYS, Arrays, dataset_from_arrays
from fedlens.data.locate import file_in, is_file, known_dataset, locate, place_in
from fedlens.data.npz import read_npz
from fedlens.data.shapes import load_shapes
from fedlens.data.splitting import check_seed
from fedlens.errors import DataError, DataNotFoundError


def load_dataset(
    name: str | None = None,
    *,
    path: str | Path | None = None,
    download: bool = True,
    progress: bool = False,
    seed: int = 42,
) -> ImageDataset:
    """Return an image set, found by its name or at a path.

    A known name (see ``DATASETS``) is looked for in ``$FEDLENS_DATA`` (directly, in a subfolder
    called like the set, and in a subfolder ``medmnist``), then in the user's cache folder
    (``$FEDLENS_CACHE`` overrides which), and is then downloaded there. Its official checksum is
    always verified.

    A path is a ``.npz`` file in the layout of MedMNIST (see ``fedlens.data.layout``), a folder with
    four IDX files called as Fashion-MNIST's are, or, with a known name, a folder that holds the
    set's file. Without a name the set is called like the file or folder. If that is a known name
    the official checksum is demanded here too: a re-saved or partial copy needs another name.

    Where the files have no validation split, one tenth of train is cut with ``seed``; see
    :func:`fedlens.data.splitting.validation_cut`. For Fashion-MNIST and 42 that is the study's
    54,000 / 6,000, and the 10,000 test images are untouched.

    Args:
        name: known name, or with ``path`` any name to give the set.
        path: file or folder to load instead of looking the name up.
        download: whether a known set that is not on this machine may be downloaded.
        progress: whether to draw a progress bar of a download on standard error.
        seed: of the validation cut, 0 to 2**32 - 1.

    Raises:
        DataNotFoundError: nothing is there, and it could not be downloaded.
        DataError: a file is truncated, damaged, of a wrong checksum, or holds what an image set
            cannot hold; the sentence names the file and what was expected.
    """
    check_seed(seed)
    if path is not None:
        place = _expanded(path)
        name = name or _name_of(place)
        known = DATASETS.get(name)
        if known is not None:
            place = _official_place(known, place)
    elif name is not None:
        known = known_dataset(name)
        if known.kind == "embedded":
            return load_digits(seed) if name == "digits" else load_shapes(shortcut=name != "shapes")
        place = locate(known, download=download, progress=progress)
    else:
        raise DataError(
            f"Name an image set or give a path; the known names are {', '.join(DATASETS)}."
        )
    arrays = _npz_arrays(place, known) if is_file(place) else _idx_arrays(place, known)
    return dataset_from_arrays(arrays, name=name, where=place, seed=seed, known=known)


def _npz_arrays(file: Path, known: KnownDataset | None) -> Arrays:
    return read_npz(file, ARRAYS, md5=known.files[0].md5 if known else None)


def _idx_arrays(folder: Path, known: KnownDataset | None) -> Arrays:
    official = {file.array: file for file in known.files} if known else {}
    arrays = {}
    for array, name in IDX_FILES.items():
        file = file_in(folder, name)
        if file is None:
            raise DataNotFoundError(
                f"{folder} has no {name} or {name}.gz, expected a .npz file or a folder of the "
                "four IDX files; a folder of pictures becomes a .npz by 'fedlens datasets import'."
            )
        expected = official.get(array)
        arrays[array] = read_idx(
            file,
            shape=expected.shape if expected else None,
            sha256=expected.sha256 if expected else None,
        )
    return arrays


def _official_place(known: KnownDataset, place: Path) -> Path:
    if known.kind == "embedded":
        raise DataError(
            f"'{known.name}' is the name of the embedded image set, which is in no file; leave the "
            "path out, or give the set at that path another name."
        )
    if known.kind == "npz" and is_file(place):
        return place
    found = place_in(known, place)
    if found is None:
        expected = ", ".join(file.name for file in known.files)
        raise DataNotFoundError(
            f"{place} does not hold the image set '{known.name}', expected {expected}; give "
            "another name to load something else from there."
        )
    return found


def _expanded(path: str | Path) -> Path:
    place = Path(path)
    try:
        place = place.expanduser()
        there = place.exists()
    except (OSError, RuntimeError) as error:  # not permitted, or a "~name" of nobody
        raise DataNotFoundError(f"Could not look for {place}: {error}.") from error
    if not there:
        raise DataNotFoundError(f"There is no file or folder {place}; check the path.")
    return place


def _name_of(place: Path) -> str:
    whole = place.resolve()
    return whole.stem if is_file(whole) else whole.name
