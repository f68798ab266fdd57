"""The published study's own figures, to stand beside ours (its sections 3 and 4)."""

from typing import Any

from fedlens.experiment.config import Config

STUDY: dict[str, Any] = {
    "source": (
        'Mile and Sayed, "Towards Privacy-Preserving and Explainable CNN-Based Image '
        'Classification", sections 3 and 4'
    ),
    "train_accuracy": 0.9485,
    "validation_accuracy": 0.9015,
    "gap": 0.047,
    "test_accuracy": 0.8957,
    "test_loss": 0.3562,
    "macro_f1": 0.90,
    "f1": {
        "Trouser": 0.98,
        "Bag": 0.98,
        "Sandal": 0.96,
        "Ankle boot": 0.94,
        "Dress": 0.91,
        "Pullover": 0.88,
        "Coat": 0.86,
        "T-shirt/top": 0.82,
        "Shirt": 0.71,
    },
    "shirt_to_tshirt": 114,
    "tshirt_to_shirt": 112,
    "stability": 0.02,
}


def comparable_figures(config: Config) -> dict[str, Any]:
    """Return the study's figures if ``config`` is its central protocol, else an empty dict."""
    local = config.local
    same = (
        config.mode == "central"
        and config.dataset.name == "fashion-mnist"
        and config.dataset.limit is None
        and config.model.name == "paper-cnn"
        and (local.epochs, local.batch_size, local.optimizer, local.lr) == (15, 32, "adam", 0.001)
    )
    return STUDY if same else {}
