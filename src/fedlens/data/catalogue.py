"""The image sets that fedlens knows by name: their classes, official files and checksums.

Fashion-MNIST is by Xiao, Rasul and Vollgraf (2017, arXiv:1708.07747). MedMNIST v2 is by Yang et al.
(Scientific Data 10, 41, 2023); the files are those of its Zenodo record 10519652, and the order of
the class names is that of its labels. The digits are scikit-learn's copy of the UCI test set of
Alpaydin and Kaynak (1998).
"""

from dataclasses import dataclass
from typing import Literal

from fedlens.data.dataset import Task

_FASHION_HOSTS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
_ZENODO = "https://zenodo.org/records/10519652/files/"

IDX_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""Array of the MedMNIST layout -> name of the IDX file that holds it (``.gz`` may follow)."""


@dataclass(frozen=True)
class KnownFile:
    """One official file.

    Attributes:
        name: its name as it is downloaded.
        urls: where it is, to be tried in order.
        md5: hex MD5 of the file as it is downloaded.
        array: for an IDX file, the array of the MedMNIST layout that it holds.
        shape: for an IDX file, the dimensions that its header must announce.
        sha256: for an IDX file, hex SHA-256 of its uncompressed bytes.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    array: str = ""
    shape: tuple[int, ...] | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class KnownDataset:
    """One image set of the catalogue.

    Attributes:
        name: what ``load_dataset`` calls it, e.g. ``pathmnist``.
        title: what its authors call it, e.g. ``PathMNIST``.
        task: ``multiclass`` or ``multilabel``.
        class_names: one name a class or label, in label order.
        channels: colour channels of its images, which are all 28x28 pixels.
        sizes: images in train, validation and test, after a missing validation split was cut.
        licence: short name of the licence of its images.
        kind: ``idx`` (four files in a folder), ``npz`` (one archive) or ``embedded`` (no file).
        files: the official files.
    """

    name: str
    title: str
    task: Task
    class_names: tuple[str, ...]
    channels: int
    sizes: tuple[int, int, int]
    licence: str
    kind: Literal["idx", "npz", "embedded"]
    files: tuple[KnownFile, ...] = ()


def _fashion_file(array: str, shape: tuple[int, ...], md5: str, sha256: str) -> KnownFile:
    name = f"{IDX_FILES[array]}.gz"
    return KnownFile(name, tuple(host + name for host in _FASHION_HOSTS), md5, array, shape, sha256)


def _medmnist(
    title: str,
    class_names: tuple[str, ...],
    channels: int,
    sizes: tuple[int, int, int],
    md5: str,
    *,
    task: Task = "multiclass",
    licence: str = "CC BY 4.0",
) -> KnownDataset:
    file = f"{title.lower()}.npz"
    return KnownDataset(
        name=title.lower(),
        title=title,
        task=task,
        class_names=class_names,
        channels=channels,
        sizes=sizes,
        licence=licence,
        kind="npz",
        files=(KnownFile(file, (_ZENODO + file,), md5),),
    )


_FASHION_MNIST = KnownDataset(
    name="fashion-mnist",
    title="Fashion-MNIST",
    task="multiclass",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    channels=1,
    sizes=(54_000, 6_000, 10_000),
    licence="MIT",
    kind="idx",
    files=(
        _fashion_file(
            "train_images",
            (60_000, 28, 28),
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        _fashion_file(
            "train_labels",
            (60_000,),
            "25c81989df183df01b3e8a0aad5dffbe",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        _fashion_file(
            "test_images",
            (10_000, 28, 28),
            "bef4ecab320f06d8554ea6380940ec79",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        _fashion_file(
            "test_labels",
            (10_000,),
            "bb300cfdad3c16e7a12a480ee83cd310",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
)

_DIGITS = KnownDataset(
    name="digits",
    title="Digits (scikit-learn)",
    task="multiclass",
    class_names=tuple(str(digit) for digit in range(10)),
    channels=1,
    sizes=(1_293, 144, 360),
    licence="CC BY 4.0",
    kind="embedded",
)

_SHAPES = tuple(
    KnownDataset(
        name=name,
        title=title,
        task="multiclass",
        class_names=("disc", "square", "triangle", "cross"),
        channels=1,
        sizes=(6_000, 600, 600),
        licence="Apache-2.0",
        kind="embedded",
    )
    for name, title in (
        ("shapes", "Shapes (generated)"),
        ("shapes-shortcut", "Shapes with a shortcut (generated)"),
    )
)

_ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)

_MEDMNIST = (
    _medmnist(
        "PathMNIST",
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        3,
        (89_996, 10_004, 7_180),
        "a8b06965200029087d5bd730944a56c1",
    ),
    _medmnist(
        "ChestMNIST",
        (
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
        1,
        (78_468, 11_219, 22_433),
        "02c8a6516a18b556561a56cbdd36c4a8",
        task="multilabel",
    ),
    _medmnist(
        "DermaMNIST",
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        3,
        (7_007, 1_003, 2_005),
        "0744692d530f8e62ec473284d019b0c7",
        licence="CC BY-NC 4.0",
    ),
    _medmnist(
        "OCTMNIST",
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        1,
        (97_477, 10_832, 1_000),
        "c68d92d5b585d8d81f7112f81e2d0842",
    ),
    _medmnist(
        "PneumoniaMNIST",
        ("normal", "pneumonia"),
        1,
        (4_708, 524, 624),
        "28209eda62fecd6e6a2d98b1501bb15f",
    ),
    _medmnist(
        "RetinaMNIST",
        ("0", "1", "2", "3", "4"),  # grades of diabetic retinopathy
        3,
        (1_080, 120, 400),
        "bd4c0672f1bba3e3a89f0e4e876791e4",
    ),
    _medmnist(
        "BreastMNIST",
        ("malignant", "normal, benign"),
        1,
        (546, 78, 156),
        "750601b1f35ba3300ea97c75c52ff8f6",
    ),
    _medmnist(
        "BloodMNIST",
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes",  # myelocytes, metamyelocytes and promyelocytes
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        3,
        (11_959, 1_712, 3_421),
        "7053d0359d879ad8a5505303e11de1dc",
    ),
    _medmnist(
        "TissueMNIST",
        (
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
        1,
        (165_466, 23_640, 47_280),
        "ebe78ee8b05294063de985d821c1c34b",
    ),
    _medmnist(
        "OrganAMNIST", _ORGANS, 1, (34_561, 6_491, 17_778), "68e3f8846a6bd62f0c9bf841c0d9eacc"
    ),
    _medmnist(
        "OrganCMNIST", _ORGANS, 1, (12_975, 2_392, 8_216), "b9ceb9546e10131b32923c5bbeaea2b1"
    ),
    _medmnist(
        "OrganSMNIST", _ORGANS, 1, (13_932, 2_452, 8_827), "9ab87b696fb54e2a387ebe992d6ed5f1"
    ),
)

DATASETS: dict[str, KnownDataset] = {
    known.name: known for known in (_FASHION_MNIST, *_MEDMNIST, _DIGITS, *_SHAPES)
}
"""Every image set that fedlens knows, by name."""
