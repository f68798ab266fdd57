"""What an attempt at a round brings in: clients are run, and their updates sorted out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlens.errors import RunError
from fedlens.federated.algorithm import Update
from fedlens.federated.client import ClientReport, ClientTask, Layout
from fedlens.federated.client_store import ClientStore
from fedlens.federated.cohort import Plan
from fedlens.federated.engines import Engine
from fedlens.federated.faults import Screening, stretched
from fedlens.federated.history import LeftOut
from fedlens.privacy.mechanism import Unit

NOT_FINITE = "its update is not finite"
FAR_OFF = "its update is far off"


@dataclass(frozen=True, eq=False)
class Collected:
    """What an attempt at a round brought in.

    Attributes:
        reports: of the clients whose update is used, in client order.
        updates: theirs.
        left_out: the others, and why.
    """

    reports: list[ClientReport]
    updates: list[Update]
    left_out: list[LeftOut]


class Collector:
    """Runs the clients of one attempt after another."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        store: ClientStore,
        screening: Screening,
        unit: Unit | None,
    ) -> None:
        """Name what it works with.

        Args:
            engine: runs the clients.
            layout: of the vectors in its rows.
            store: keeps what clients remember; only read here.
            screening: what is done about updates that are far off.
            unit: what privacy hides.
        """
        self._engine = engine
        self._layout = layout
        self._store = store
        self._screening = screening
        self._unit = unit

    def collect(self, start: Tensor, plan: Plan, progress: Callable[[int, int], None]) -> Collected:
        """Run the clients of a plan, and sort out whose updates are used.

        Args:
            start: (P,) the global parameters, which lie in the engine's ``incoming`` already.
            plan: who does what.
            progress: called with (finished, all) clients as they finish.

        Raises:
            RunError: what a client remembers is of another federation.
        """
        if self._layout.memory:
            for task in plan.tasks:
                self._remind(task)
        done = 0

        def finished(_: ClientReport) -> None:
            nonlocal done
            done += 1
            progress(done, len(plan.tasks))

        reports = self._engine.train(plan.tasks, finished)
        rows = self._engine.outgoing
        reasons = ["" if self._is_finite(rows[r.slot]) else NOT_FINITE for r in reports]
        if self._unit == "client":
            # it counts as zero, and where clients add noise has noise like any other's
            for i in (i for i, reason in enumerate(reasons) if reason):
                rows[reports[i].slot, : self._layout.parameters].copy_(start)
                reasons[i] = ""
        self._screen(start, reports, reasons)
        left_out = [*plan.lost] + [
            LeftOut(report.client, reason)
            for report, reason in zip(reports, reasons, strict=True)
            if reason
        ]
        used = [report for report, reason in zip(reports, reasons, strict=True) if not reason]
        planned = {task.slot: task.planned for task in plan.tasks}
        updates = [self._update(report, planned[report.slot]) for report in used]
        return Collected(used, updates, sorted(left_out, key=lambda entry: entry.client))

    def _is_finite(self, row: Tensor) -> bool:
        """Return whether what a client sent is finite, but for buffers that it was sent so.

        A network may hold infinities that never change, as the mask of an attention.
        """
        bad = torch.isfinite(row).logical_not_()
        if not bool(bad.any()):
            return True
        sent, _ = self._layout.split_incoming(self._engine.incoming)
        buffers = slice(self._layout.parameters, len(sent))
        same = (row[buffers] == sent[buffers]) | (row[buffers].isnan() & sent[buffers].isnan())
        bad[buffers] &= ~same
        return not bool(bad.any())

    def _remind(self, task: ClientTask) -> None:
        """Lay what the client remembers into its row; zeros before its first round."""
        row = self._engine.memories[task.slot]
        memory = self._store.read(task.client)
        if memory is None:
            row.zero_()
        elif memory.numel() != row.numel() or memory.dtype != row.dtype:
            raise RunError(
                f"What client {task.client} remembers is {memory.numel():,} numbers of "
                f"{memory.dtype}, expected {row.numel():,} of {row.dtype}; it belongs to another "
                "federation."
            )
        else:
            row.copy_(memory.view(-1))

    def _screen(self, start: Tensor, reports: Sequence[ClientReport], reasons: list[str]) -> None:
        """Clip updates that are far off, or give the reason why they are not used."""
        screening = self._screening
        if screening.far_off == "keep":
            return
        rows = self._engine.outgoing
        checked = [i for i, reason in enumerate(reasons) if not reason]
        ends = [rows[reports[i].slot, : self._layout.parameters] for i in checked]
        lengths = [float((end.double() - start.double()).norm()) for end in ends]
        for i, end, factor in zip(checked, ends, screening.factors(lengths), strict=True):
            if factor is None:
                reasons[i] = FAR_OFF
            elif factor < 1:
                # all that the client did is scaled, what it remembers too: or SCAFFOLD's control
                # would no longer be the mean of the clients'
                stretched(start, end, factor)
                slot = reports[i].slot
                _, message, memory = self._layout.split_outgoing(rows[slot])
                message.mul_(factor)
                stretched(self._engine.memories[slot].view_as(memory), memory, factor)

    def _update(self, report: ClientReport, planned: int) -> Update:
        state, message, _ = self._layout.split_outgoing(self._engine.outgoing[report.slot])
        return Update(
            client=report.client,
            examples=report.examples,
            steps=report.steps,
            weights=state[: self._layout.parameters],
            planned=planned,
            message=message if self._layout.reports else None,
        )
