"""Engines: the same bits whoever runs the clients, whatever dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from fedlens.data import Client, Split
from fedlens.errors import FedlensError
from fedlens.federated import FedAvg, federate
from fedlens.federated.client import ClientTask, Workbench
from fedlens.federated.engines.worker_pool import WorkerPoolEngine, shared_tensor
from fedlens.models import build_model, get_vector
from fedlens.training import LocalTraining, default_loss

LOCAL = LocalTraining(epochs=(1, 2), batch_size=8, lr=0.05, momentum=0.9)


def unequal_clients() -> list[Client]:
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (120, 1, 28, 28), generator=stream).to(torch.uint8)
    labels = torch.randint(0, 10, (120,), generator=stream)
    return [Client(images, labels, rows) for rows in torch.arange(120).split([5, 50, 10, 30, 25])]


def paper_cnn() -> nn.Module:
    return build_model("paper-cnn", in_channels=1, classes=10, image_size=28, seed=1)


def run(workers: int, **changes):
    clients = unequal_clients()
    validation = Split(clients[0].inputs, clients[0].targets)
    settings = {"rounds": 3, "local": LOCAL, "cohort": 4, "seed": 3, "validation": validation}
    return federate(
        paper_cnn(), clients, algorithm=FedAvg(), workers=workers, **{**settings, **changes}
    )


def without_seconds(record) -> dict:
    content = record.to_json()
    for key in ("seconds", "evaluation_seconds"):
        content.pop(key)
    for client in content["clients"]:
        client.pop("seconds")
    return content


def test_one_two_and_three_workers_give_the_same_bits_and_the_same_history() -> None:
    one, two, three = run(1), run(2), run(3)
    assert torch.equal(get_vector(one.model), get_vector(two.model))
    assert torch.equal(get_vector(one.model), get_vector(three.model))
    for single, *others in zip(one.history, two.history, three.history, strict=True):
        for other in others:
            assert without_seconds(single) == without_seconds(other)


def test_dropout_gives_the_same_bits_for_any_number_of_workers() -> None:
    clients = [Client(torch.ones(12, 4) * k, torch.arange(12) % 2) for k in range(5)]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    vectors = [
        get_vector(
            federate(
                model, clients, algorithm=FedAvg(), rounds=2, local=LOCAL, workers=workers
            ).model
        )
        for workers in (1, 2, 3)
    ]
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[0], vectors[2])


def test_a_worker_that_is_killed_is_replaced_and_its_client_run_again() -> None:
    expected = get_vector(run(1).model)
    killed = []

    def kill_the_first(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Kill the worker process in the middle of its work, once."""
        if len(targets) == 8 and os.getpid() != parent and not flag[0]:
            flag[0] = 1
            os.kill(os.getpid(), signal.SIGKILL)
        return default_loss(outputs, targets)

    parent = os.getpid()
    flag = shared_tensor((1,), torch.float32)
    survived = run(2, loss=kill_the_first)
    killed.append(float(flag))
    assert killed == [1.0]
    assert torch.equal(expected, get_vector(survived.model))


def test_a_client_that_kills_every_worker_is_named() -> None:
    parent = os.getpid()

    def deadly(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return default_loss(outputs, targets)

    with pytest.raises(FedlensError, match=r"client \d died 3 times .*fewer workers"):
        run(2, loss=deadly)


def test_an_error_in_a_worker_comes_back_with_its_place() -> None:
    def broken(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise ValueError("the loss of this test")

    with pytest.raises(RuntimeError, match=r"(?s)ClientTask.*the loss of this test"):
        run(2, loss=broken)


def pool(clients: list[Client], workers: int) -> WorkerPoolEngine:
    bench = Workbench(paper_cnn(), clients, LOCAL, default_loss, 0, None, FedAvg())
    engine = WorkerPoolEngine(bench, len(clients), 0, workers)
    engine.incoming.copy_(get_vector(paper_cnn()))
    return engine


def test_the_longest_clients_start_first() -> None:
    clients = unequal_clients()
    engine = pool(clients, 1)
    order = []
    try:
        tasks = [ClientTask(1, k, k, 1, len(client), 1, 1) for k, client in enumerate(clients)]
        reports = engine.train(tasks, lambda report: order.append(report.client))
    finally:
        engine.close()
    assert order == [1, 3, 4, 2, 0]
    assert [r.client for r in reports] == [0, 1, 2, 3, 4]


def test_closing_leaves_no_process_behind() -> None:
    engine = pool(unequal_clients(), 3)
    processes = [worker.process.pid for worker in engine._workers]
    engine.close()
    engine.close()
    for pid in processes:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_end_when_the_server_is_killed() -> None:
    script = textwrap.dedent(
        """
        import os, sys, torch
        from fedlens.data import Client
        from fedlens.federated import FedAvg
        from fedlens.federated.client import Workbench
        from fedlens.federated.engines.worker_pool import WorkerPoolEngine
        from fedlens.models import build_model
        from fedlens.training import LocalTraining, default_loss
        model = build_model("paper-cnn", in_channels=1, classes=10, image_size=28)
        client = Client(torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64))
        bench = Workbench(model, [client], LocalTraining(), default_loss, 0, None, FedAvg())
        engine = WorkerPoolEngine(bench, 1, 0, 2)
        print(*[w.process.pid for w in engine._workers], flush=True)
        os.kill(os.getpid(), 9)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(_alive(pid) for pid in pids):
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_shared_memory_is_seen_by_a_forked_process() -> None:
    tensor = shared_tensor((3, 2), torch.float64)
    pid = os.fork()
    if pid == 0:
        tensor[1, 1] = 7.0
        os._exit(0)
    os.waitpid(pid, 0)
    assert tensor.tolist() == [[0, 0], [0, 7.0], [0, 0]]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_gives_the_same_bits_for_any_number_of_workers(momentum) -> None:
    """``momentum=None`` averages over a count of batches, a buffer of whole numbers."""
    stream = torch.Generator().manual_seed(0)
    clients = [Client(torch.randn(12, 4, generator=stream), torch.arange(12) % 2) for _ in range(5)]
    model = nn.Sequential(nn.BatchNorm1d(4, momentum=momentum), nn.Linear(4, 2))
    states = []
    for workers in (1, 2, 3):
        with pytest.warns(UserWarning, match="BatchNorm"):
            result = federate(
                model, clients, algorithm=FedAvg(), rounds=2, local=LOCAL, workers=workers
            )
        states.append(result.model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
        assert torch.equal(value, states[2][name]), name


def test_bfloat16_gives_the_same_bits_for_any_number_of_workers() -> None:
    local = LocalTraining(batch_size=8, lr=0.05, precision="bfloat16")
    one, two = run(1, local=local), run(2, local=local)
    assert torch.equal(get_vector(one.model), get_vector(two.model))


def test_no_more_workers_are_started_than_there_is_work() -> None:
    from fedlens.federated.engines import InProcessEngine, build_engine

    bench = Workbench(paper_cnn(), unequal_clients()[:1], LOCAL, default_loss, 0, None, FedAvg())
    engine = build_engine(bench, workers=100_000, largest_cohort=1, validation_examples=0)
    assert isinstance(engine, InProcessEngine)


def test_a_worker_that_cannot_be_started_is_one_sentence_and_leaves_nobody(monkeypatch) -> None:
    started = []
    real = multiprocessing.get_context("fork").Process.start

    def failing(process) -> None:
        if started:
            raise OSError(12, "Cannot allocate memory")
        real(process)
        started.append(process.pid)

    monkeypatch.setattr(multiprocessing.get_context("fork").Process, "start", failing)
    with pytest.raises(FedlensError, match=r"Cannot allocate memory; use fewer workers"):
        pool(unequal_clients(), 2)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_ctrl_c_is_held_back_while_a_worker_is_forked(monkeypatch) -> None:
    """A signal that lands inside the fork is raised right after it, and nobody is left behind."""
    engine = pool(unequal_clients(), 1)
    real = multiprocessing.get_context("fork").Process.start

    def interrupted(process) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real(process)

    monkeypatch.setattr(multiprocessing.get_context("fork").Process, "start", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine._start()
        assert len(engine._workers) == 2
    finally:
        engine.close()
