"""Whether a store may be gone on with: its cases hold what one model said of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedlens.errors import RunError

if TYPE_CHECKING:
    from fedlens.review.store import Store


def check_same_model(store: "Store", weights: str) -> None:
    """Check that the cases of a store were predicted by the model that is about to be served.

    A case keeps the prediction that it came in with. Another model's pages would show it as their own,
    and the trail would name that other model for it.

    Args:
        store: that is to be gone on with.
        weights: digest of the model's weights.

    Raises:
        RunError: it holds cases, and was served with another model last.
    """
    from fedlens.review.store.trail import SERVING_BEGAN

    if store.queue.progress().total == 0:
        return
    for record in store.trail.page(kind=SERVING_BEGAN, limit=1):
        model = record.content.get("model")
        before = model.get("weights") if isinstance(model, Mapping) else None
        if before is not None and before != weights:
            raise RunError(
                f"The cases in {store.database.place} are answers of another model (weights "
                f"{str(before)[:12]}), and this run's is {weights[:12]}: give it a store of its own "
                "with --database."
            )
