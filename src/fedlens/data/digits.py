"""The embedded image set: scikit-learn's handwritten digits, enlarged to 28x28 pixels."""

import numpy as np
import torch
from PIL import Image

from fedlens.data.catalogue import DATASETS
from fedlens.data.checks import finished
from fedlens.data.dataset import ImageDataset, Split
from fedlens.data.splitting import validation_cut

_SIDE = 28
_TEST_IMAGES = 360  # a fifth of the 1,797
_TEST_SEED = 42
_FULL_LIGHT = 16  # the largest value of the original pixels


def load_digits(seed: int) -> ImageDataset:
    """Return the 1,797 digits as 1,293 training, 144 validation and 360 test images of 1x28x28.

    The original 8x8 pixels of 0 to 16 become 0 to 255 and are enlarged bilinearly. The test split
    is stratified and always the same; the validation split is cut from the rest with ``seed``, see
    :func:`fedlens.data.splitting.validation_cut`. Needs no file and no network.
    """
    from sklearn.datasets import load_digits as original_digits
    from sklearn.model_selection import train_test_split

    pixels, targets = original_digits(return_X_y=True)
    small = np.rint(pixels.reshape(-1, 8, 8) * (255 / _FULL_LIGHT)).astype(np.uint8)
    # Pillow enlarges in whole numbers, so the pixels are the same on every machine.
    large = np.stack(
        [
            np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
            for image in small
        ]
    )
    everything = Split(
        torch.from_numpy(large).unsqueeze(1), torch.from_numpy(targets.astype(np.int64))
    )
    rest, test = train_test_split(
        np.arange(len(large)), test_size=_TEST_IMAGES, random_state=_TEST_SEED, stratify=targets
    )
    train, validation = validation_cut(everything.subset(torch.from_numpy(rest)), seed)
    dataset = ImageDataset(
        name="digits",
        task="multiclass",
        class_names=DATASETS["digits"].class_names,
        train=train,
        validation=validation,
        test=everything.subset(torch.from_numpy(test)),
        source="embedded",
    )
    return finished(dataset, "digits")
