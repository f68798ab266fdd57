"""What a role may do."""

from fedlens.review.contract import Actor, NotAllowedError, Role


def may_lead(actor: Actor) -> bool:
    """Return whether a person may do what only leads do."""
    return actor.role is Role.LEAD


def must_lead(actor: Actor, what: str) -> None:
    """Check that a person is a lead.

    Args:
        actor: who wants to do something.
        what: it, as in "Only a lead assigns cases."

    Raises:
        NotAllowedError: they are not.
    """
    if not may_lead(actor):
        raise NotAllowedError(f"Only a lead {what}.")


def must_work(actor: Actor) -> None:
    """Check that a person may work cases and stop the model.

    Raises:
        NotAllowedError: an auditor.
    """
    if actor.role is Role.AUDITOR:
        raise NotAllowedError("An auditor reads everything and changes nothing.")
