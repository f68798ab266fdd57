"""Flower's own simulation of the two federations that fedlens is compared with.

Runs only where no network can be reached: Ray listens on every interface, so that the program
first moves itself into a network namespace of its own, with nothing but loopback (Linux,
``unshare``). The last line on standard output is one JSON object; benchmarks/README.md lists its
keys.
"""

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import fcntl  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
import statistics  # noqa: E402
import struct  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import fashion_mnist  # noqa: E402
import numpy as np  # noqa: E402

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # <linux/sockios.h>, <linux/if.h>
EVALUATION_BATCH = 128  # half the time of 1,000: the activations stay in the cache


@dataclass(frozen=True)
class Setting:
    """One federation: how many clients share the 54,000 images, and how many train in a round."""

    clients: int
    cohort: int


SETTINGS = {"ten-clients": Setting(10, 10), "thousand-clients": Setting(1_000, 100)}


def leave_the_network() -> None:
    """Restart this program without any network but loopback, unless that is how it runs already."""
    if sys.platform != "linux":
        raise SystemExit("Flower's simulation is measured on Linux only: it needs unshare --net.")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        up = [name for _, name in socket.if_nameindex() if _flags(probe, name) & IFF_UP]
        if set(up) <= {"lo"}:
            request = struct.pack("16sh14x", b"lo", _flags(probe, "lo") | IFF_UP)
            fcntl.ioctl(probe, SIOCSIFFLAGS, request)
            return
    unshare = shutil.which("unshare")
    if unshare is None:
        raise SystemExit("Install util-linux: Flower's simulation is run inside `unshare --net`.")
    as_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.execv(unshare, [unshare, *as_user, "--net", sys.executable, *sys.argv])


def _flags(probe: socket.socket, name: str) -> int:
    answer = fcntl.ioctl(probe, SIOCGIFFLAGS, struct.pack("16sh14x", name.encode(), 0))
    flags: int = struct.unpack("16sh14x", answer)[1]
    return flags


def prepare(data: Path, folder: Path) -> tuple[fashion_mnist.Bytes, fashion_mnist.Bytes]:
    """Write the shuffled training images and labels to ``folder``; return test images and labels.

    The 54,000 images of the study's split, in the order of one permutation with seed 0, so that
    equal slices are IID clients.
    """
    images, labels, test_images, test_labels = fashion_mnist.read(data)
    indices, _ = fashion_mnist.split(labels)
    indices = indices[np.random.default_rng(0).permutation(len(indices))]
    np.save(folder / "images.npy", images[indices])
    np.save(folder / "labels.npy", labels[indices].astype(np.int64))
    return test_images, test_labels


def simulate(
    setting: Setting,
    arguments: argparse.Namespace,
    folder: Path,
    test: tuple[fashion_mnist.Bytes, fashion_mnist.Bytes],
) -> list[dict[str, float]]:
    """Run the federation and return one record a round."""
    import torch
    from flower_app import PaperCNN, app, tensors
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    torch.set_num_threads(arguments.cpus)
    torch.manual_seed(arguments.seed)
    model = PaperCNN()
    if arguments.weights is not None:
        vector = torch.from_numpy(np.load(arguments.weights, allow_pickle=False))
        torch.nn.utils.vector_to_parameters(vector, model.parameters())
    test_images, test_labels = tensors(test[0], test[1].astype(np.int64))
    rounds: list[dict[str, float]] = []

    class TimedFedAvg(FedAvg):
        """FedAvg that notes when a round begins, and refuses to go on without a client."""

        begun = 0.0

        def configure_train(self, *args: Any, **kwargs: Any) -> Any:
            self.begun = time.perf_counter()
            return super().configure_train(*args, **kwargs)

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            replies = list(replies)
            errors = [reply for reply in replies if reply.has_error()]
            if errors or len(replies) != setting.cohort:
                reason = errors[0].error.reason if errors else "fewer replies than clients"
                raise RuntimeError(f"Round {server_round} is not complete: {reason}.")
            self.client_seconds = [_client_seconds(reply) for reply in replies]
            return super().aggregate_train(server_round, replies)

    def _client_seconds(reply: Message) -> float:
        return float(reply.content["metrics"]["seconds"])

    strategy = TimedFedAvg(
        fraction_train=setting.cohort / setting.clients,
        fraction_evaluate=0.0,
        # The first round begins while nodes are still registering: the fraction alone would be
        # taken of those that happen to be there.
        min_train_nodes=setting.cohort,
        min_available_nodes=setting.clients,
    )

    @torch.no_grad()
    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round == 0:  # the untrained network: nothing that fedlens measures either
            return None
        trained = time.perf_counter()
        model.load_state_dict(arrays.to_torch_state_dict())
        model.eval()
        correct = 0
        for images, labels in zip(
            test_images.split(EVALUATION_BATCH), test_labels.split(EVALUATION_BATCH), strict=True
        ):
            correct += int((model(images).argmax(1) == labels).sum())
        done = time.perf_counter()
        accuracy = correct / len(test_labels)
        rounds.append(
            {
                "seconds": round(done - strategy.begun, 3),
                "train_seconds": round(trained - strategy.begun, 3),
                "evaluate_seconds": round(done - trained, 3),
                "mean_client_seconds": round(statistics.mean(strategy.client_seconds), 4),
                "test_accuracy": round(accuracy, 4),
            }
        )
        return MetricRecord({"accuracy": accuracy})

    server = ServerApp()

    @server.main()
    def start(grid: Grid, context: Context) -> None:
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(model.state_dict()),
            num_rounds=arguments.rounds,
            train_config=ConfigRecord(
                {"folder": str(folder), "lr": 1e-3, "batch-size": arguments.batch_size}
            ),
            evaluate_fn=evaluate,
        )

    run_simulation(
        server_app=server,
        client_app=app,
        num_supernodes=setting.clients,
        backend_config={
            "init_args": {
                "num_cpus": arguments.cpus,
                "log_to_driver": False,
                "_temp_dir": str(folder / "ray"),
            },
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    fashion_mnist.add_data_argument(parser)
    parser.add_argument("--setting", choices=SETTINGS, required=True)
    parser.add_argument("--rounds", type=int, default=3, help="the first one starts the workers")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--cpus", type=int, default=2, help="clients that train at the same time")
    parser.add_argument("--seed", type=int, default=42, help="of the initial weights")
    parser.add_argument(
        "--weights",
        type=Path,
        help="initial weights instead: .npy, float32 (65354,), layer by layer",
    )
    arguments = parser.parse_args()
    leave_the_network()

    setting = SETTINGS[arguments.setting]
    # A short path: Ray keeps sockets under it, whose names may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="flwr") as name:
        folder = Path(name)
        os.environ.update(
            FLWR_HOME=str(folder / "home"),
            FLWR_TELEMETRY_ENABLED="0",
            FLWR_DISABLE_UPDATE_CHECK="1",
            RAY_USAGE_STATS_ENABLED="0",
        )
        begun = time.perf_counter()
        test = prepare(arguments.data, folder)
        prepared = time.perf_counter() - begun
        rounds = simulate(setting, arguments, folder, test)

    import flwr
    import ray
    import torch

    warm = rounds[1:] or rounds
    print(
        json.dumps(
            {
                "benchmark": arguments.setting,
                "side": "flower",
                "versions": {
                    "flwr": flwr.__version__,
                    "ray": ray.__version__,
                    "torch": torch.__version__,
                },
                "settings": {
                    "setting": arguments.setting,
                    "clients": setting.clients,
                    "cohort": setting.cohort,
                    "images_per_client": 54_000 // setting.clients,
                    "rounds": arguments.rounds,
                    "batch_size": arguments.batch_size,
                    "cpus": arguments.cpus,
                    "seed": arguments.seed if arguments.weights is None else None,
                },
                "rounds": rounds,
                "first_round_seconds": rounds[0]["seconds"],
                "warm_round_seconds": round(statistics.median(one["seconds"] for one in warm), 3),
                "test_accuracy": rounds[-1]["test_accuracy"],
                "prepare_seconds": round(prepared, 3),
                "total_seconds": round(time.perf_counter() - STARTED, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
