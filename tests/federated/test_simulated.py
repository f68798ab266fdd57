"""Every algorithm against its paper written down a second time: see ``simulation``."""

import pytest
import torch
from torch import Tensor

from fedlens.federated import Faults, FedNova, build_algorithm, federate
from fedlens.training import LocalTraining
from problems import least_squares, line, squares
from simulation import Descent, simulate

SIZES = [4, 9, 6, 11, 7]
EPOCHS = [2, 5, 1, 4, 3]
ADAPTIVE = {"server_lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}
ALGORITHMS = [
    ("fedavg", {}),
    ("fedavg", {"server_lr": 0.6}),
    ("fedprox", {"mu": 0.4}),
    ("fednova", {}),
    ("fednova", {"mu": 0.3}),
    ("fednova", {"server_lr": 0.7, "guard": True}),
    ("scaffold", {}),
    ("scaffold", {"weighted": True, "server_lr": 0.8}),
    ("scaffold", {"control": "option-1", "mu": 0.2}),
    ("scaffold", {"control": "option-2", "mu": 0.2}),
    ("scaffold", {"control": "option-2", "weighted": True}),
    ("fedavgm", {"momentum": 0.5, "server_lr": 0.5}),
    ("fedadagrad", {"server_lr": 0.1, "beta1": 0.5, "tau": 1e-2}),
    ("fedadam", ADAPTIVE),
    ("fedyogi", ADAPTIVE),
    ("fedyogi", {**ADAPTIVE, "mu": 0.4}),
    ("feddyn", {"alpha": 0.5}),
]
DESCENTS = {
    "plain": Descent(0.03),
    "momentum": Descent(0.03, momentum=0.9),
    "linear": Descent(0.03, decay=0.05, schedule="linear"),
    "cosine": Descent(0.03, momentum=0.8, decay=0.1, schedule="cosine"),
}
LATE = Faults(dropout=0.3, stragglers=0.4, late="partial")


def settings(descent: Descent, epochs: list[int]) -> LocalTraining:
    return LocalTraining(
        epochs=epochs,
        batch_size=None,
        lr=descent.lr,
        momentum=descent.momentum,
        weight_decay=descent.decay,
        schedule=descent.schedule,
    )


@pytest.mark.parametrize(("name", "parameters"), ALGORITHMS, ids=str)
@pytest.mark.parametrize("descent", DESCENTS.values(), ids=DESCENTS)
@pytest.mark.parametrize(
    ("cohort", "faults"), [(None, Faults()), (3, Faults()), (None, LATE)], ids=["all", "3", "late"]
)
def test_it_is_the_paper(name, parameters, descent, cohort, faults) -> None:
    """Unequal clients and steps, a drawn cohort, clients lost or late: round for round to 1e-9."""
    clients = least_squares(SIZES)
    reached: list[Tensor] = []
    result = federate(
        line(3),
        clients,
        algorithm=build_algorithm(name, parameters),
        rounds=5,
        local=settings(descent, EPOCHS),
        cohort=cohort,
        faults=faults,
        seed=3,
        loss=squares,
        checkpoint=lambda saved, _: reached.append(saved.state.parameters.clone()),
    )
    expected = simulate(name, parameters, descent, clients, EPOCHS, result.history)
    torch.testing.assert_close(torch.stack(reached), torch.stack(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("descent", DESCENTS.values(), ids=DESCENTS)
def test_a_vanishing_pull_changes_nothing_in_fednova(descent) -> None:
    clients = least_squares(SIZES)
    steps = [
        federate(
            line(3),
            clients,
            algorithm=FedNova(mu=mu),
            rounds=1,
            local=settings(descent, EPOCHS),
            seed=3,
            loss=squares,
        )
        .history[0]
        .figures["effective_step"]
        for mu in (0.0, 1e-9)
    ]
    assert steps[1] == pytest.approx(steps[0], rel=1e-6)
