"""Who runs the clients of a round."""

from fedlens.federated.client import Workbench
from fedlens.federated.engines.engine import Engine
from fedlens.federated.engines.in_process import InProcessEngine
from fedlens.federated.engines.worker_pool import WorkerPoolEngine
from fedlens.training.prediction import chunks

__all__ = ["Engine", "InProcessEngine", "WorkerPoolEngine", "build_engine"]


def build_engine(
    bench: Workbench, *, workers: int, largest_cohort: int, validation_examples: int
) -> Engine:
    """Return the engine for ``workers``: in this process for 1, else a pool of processes.

    No more workers are started than there are clients in a cohort or chunks to predict.
    """
    workers = min(workers, max(largest_cohort, len(list(chunks(validation_examples)))))
    if workers == 1:
        return InProcessEngine(bench, largest_cohort, validation_examples)
    return WorkerPoolEngine(bench, largest_cohort, validation_examples, workers)
