"""The study's own stack: paper-cnn trained centrally with Keras on TensorFlow.

Plain ``model.fit`` on arrays in memory, as the study describes it. The last line on standard output
is one JSON object; benchmarks/README.md lists its keys.

The seed is of the initial weights. ``keras.utils.set_random_seed`` would seed the order of the examples
too, and then ``fit`` draws the *same* order in every epoch: each epoch starts TensorFlow's pipeline
anew, and its seeded shuffle with it. ``--seed-order`` does so; by default each epoch has an order of
its own, as without a seed.
"""

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
from typing import Any  # noqa: E402

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import fashion_mnist  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402

PARAMETERS = 65_354


class EpochTimes(keras.callbacks.Callback):
    """Time every epoch, and within it the validation, on the clock of the whole program."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clocks."""
        self.begun = time.perf_counter()
        self.validation = 0.0

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Note when the validation inside ``fit`` starts."""
        self.validation_begun = time.perf_counter()

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Note how long the validation took."""
        self.validation = time.perf_counter() - self.validation_begun

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the epoch's times and the figures that Keras computed."""
        seconds = time.perf_counter() - self.begun
        logs = logs or {}
        self.epochs.append(
            {
                "seconds": round(seconds, 3),
                "train_seconds": round(seconds - self.validation, 3),
                "train_accuracy": round(logs["accuracy"], 4),
                "validation_accuracy": round(logs["val_accuracy"], 4),
            }
        )


def paper_cnn(seed: int) -> keras.Model:
    """Return the study's network, 65,354 parameters, Glorot-uniform weights drawn from ``seed``."""
    layers = keras.layers
    numbers = iter(range(1_000 * seed, 1_000 * seed + 5))

    def convolution(filters: int) -> keras.layers.Layer:
        weights = keras.initializers.GlorotUniform(seed=next(numbers))
        return layers.Conv2D(filters, 3, activation="relu", kernel_initializer=weights)

    def dense(units: int, activation: str) -> keras.layers.Layer:
        weights = keras.initializers.GlorotUniform(seed=next(numbers))
        return layers.Dense(units, activation=activation, kernel_initializer=weights)

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            convolution(32),
            layers.MaxPooling2D(),
            convolution(64),
            layers.MaxPooling2D(),
            convolution(64),
            layers.MaxPooling2D(),
            layers.Flatten(),
            dense(128, "relu"),
            dense(10, "softmax"),
        ]
    )
    assert model.count_params() == PARAMETERS, model.count_params()
    return model


def floats(images: fashion_mnist.Bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return float32 (N, 28, 28, 1) in [0, 1] of uint8 (N, 28, 28)."""
    return images[..., None].astype(np.float32) / np.float32(255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    fashion_mnist.add_data_argument(parser)
    parser.add_argument("--epochs", type=int, default=3, help="at least 2: the first one traces")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42, help="of the initial weights")
    parser.add_argument(
        "--seed-order",
        action="store_true",
        help="seed the order too, which is then the same in every epoch",
    )
    parser.add_argument(
        "--jit",
        choices=("auto", "on", "off"),
        default="auto",
        help="XLA compilation of the training step; auto is what Keras does by itself",
    )
    arguments = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    if arguments.seed_order:
        keras.utils.set_random_seed(arguments.seed)

    begun = time.perf_counter()
    images, labels, test_images, test_labels = fashion_mnist.read(arguments.data)
    train, validation = fashion_mnist.split(labels)
    one_hot = keras.utils.to_categorical(labels, 10)
    train_pixels, validation_pixels = floats(images[train]), floats(images[validation])
    prepared = time.perf_counter() - begun

    model = paper_cnn(arguments.seed)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile={"auto": "auto", "on": True, "off": False}[arguments.jit],
    )
    times = EpochTimes()
    model.fit(
        train_pixels,
        one_hot[train],
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_data=(validation_pixels, one_hot[validation]),
        callbacks=[times],
        verbose=0,
    )
    test_pixels = floats(test_images)
    test_loss, test_accuracy = model.evaluate(
        test_pixels, keras.utils.to_categorical(test_labels, 10), verbose=0
    )
    predicted = model.predict(test_pixels, verbose=0).argmax(1)

    # The first epoch also traces and compiles; with one epoch there is nothing else to report.
    warm = times.epochs[1:] or times.epochs
    train_seconds = statistics.median(epoch["train_seconds"] for epoch in warm)
    seconds = statistics.median(epoch["seconds"] for epoch in warm)
    print(
        json.dumps(
            {
                "benchmark": "central",
                "side": "keras",
                "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
                "settings": {
                    "epochs": arguments.epochs,
                    "batch_size": arguments.batch_size,
                    "threads": arguments.threads,
                    "seed": arguments.seed,
                    "order": "one for all epochs" if arguments.seed_order else "anew in each epoch",
                    "jit": arguments.jit,
                    "jit_used": bool(model.jit_compile),
                    "train_images": len(train),
                },
                "epochs": times.epochs,
                "first_epoch_seconds": times.epochs[0]["seconds"],
                "warm_epoch_seconds": round(seconds, 3),
                "train_images_per_second": round(len(train) / train_seconds, 1),
                "images_per_second_with_validation": round(len(train) / seconds, 1),
                "test_accuracy": round(float(test_accuracy), 4),
                "test_loss": round(float(test_loss), 4),
                "macro_f1": round(float(f1_score(test_labels, predicted, average="macro")), 4),
                "prepare_seconds": round(prepared, 3),
                "total_seconds": round(time.perf_counter() - STARTED, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
