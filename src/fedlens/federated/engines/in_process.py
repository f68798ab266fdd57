"""The plain engine: one client after another in the caller's process."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlens.federated.client import ClientReport, ClientTask, Workbench
from fedlens.federated.engines.engine import Finished
from fedlens.training.loop import threads
from fedlens.training.prediction import chunks


class InProcessEngine:
    """Runs every client in this process, on one thread."""

    def __init__(self, bench: Workbench, largest_cohort: int, validation_examples: int) -> None:
        """Set up rows for ``largest_cohort`` updates and outputs for the validation examples."""
        layout, dtype = bench.layout, bench.flat.vector.dtype
        self.incoming = torch.zeros(layout.incoming, dtype=dtype)
        self.outgoing = torch.zeros(largest_cohort, layout.outgoing, dtype=dtype)
        self.memories = torch.zeros(largest_cohort, layout.memory, dtype=dtype)
        self._bench = bench
        self._examples = validation_examples

    def train(self, tasks: Sequence[ClientTask], finished: Finished) -> list[ClientReport]:
        """Run the tasks in slot order."""
        reports = []
        with threads(1):
            for task in tasks:
                slot = task.slot
                report = self._bench.train(
                    task, self.incoming, self.outgoing[slot], self.memories[slot]
                )
                finished(report)
                reports.append(report)
        return reports

    def predict(self) -> Tensor:
        """Return the outputs on the validation examples, chunk by chunk."""
        with threads(1):
            shape = self._bench.output_shape()
            outputs = torch.empty(self._examples, *shape, dtype=self.incoming.dtype)
            for part in chunks(self._examples):
                self._bench.predict(part, self.incoming, outputs)
        return outputs

    def close(self) -> None:
        """Nothing was started."""
