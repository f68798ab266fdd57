"""What sampling and secure aggregation do to the privacy of one run: the same noise, other settings.

Sampling amplifies privacy only against those who cannot see who was drawn, and secure aggregation
changes whom one must trust and not epsilon. Where no sound number is known there is none here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release


@dataclass(frozen=True)
class Setting:
    """One row of the comparison.

    Attributes:
        what: the setting, in a few words.
        epsilon: by PLD, infinite where nothing is guaranteed; None where the setting does not change
            it, or where no sound number is known.
        assumed: what has to be true of it.
        against: whom it holds against.
        spent: it is what this run did, so that its epsilon is the ledger's.
    """

    what: str
    epsilon: float | None
    assumed: str
    against: str
    spent: bool = False


def amplification(
    mechanism: Mechanism, releases: Iterable[Release], delta: float, *, federated: bool
) -> list[Setting]:
    """Return what the same noise and number of steps cost in other settings.

    Args:
        mechanism: by which an account was spent.
        releases: what was charged to the account.
        delta: in (0, 1).
        federated: the images lie at clients (always so where the unit is a client).

    Raises:
        ConfigError: a delta outside (0, 1).
    """
    done = list(releases)
    if mechanism.placement == "local":
        return _local(mechanism, done, delta)
    if mechanism.unit == "client":
        return _clients(mechanism, done, delta)
    return _examples(mechanism, done, delta) + (_federation() if federated else [])


def _examples(mechanism: Mechanism, done: Sequence[Release], delta: float) -> list[Setting]:
    here = epsilon_of(done, delta)
    seers = "Whoever sees the model and every noisy update"
    if mechanism.expected == mechanism.population:
        assumed = "Every image is in every step, so that there is no sampling that could amplify."
        return [Setting("No sampling", here, assumed, f"{seers}.", spent=True)]
    if mechanism.sampling == "fixed":
        poisson = [
            Release(one.noise_multiplier, mechanism.rate, one.count * mechanism.steps)
            for one in done
        ]
        return [
            Setting(
                "Shuffled batches, not amplified",
                here,
                "Each image is in one batch an epoch; nothing is proven of how shuffling hides it.",
                f"{seers}, even with the batches known.",
                spent=True,
            ),
            Setting(
                "Poisson batches instead",
                epsilon_of(poisson, delta),
                "The same noise and number of steps, each image drawn anew and in secret with "
                f"probability {mechanism.rate:.3g}.",
                f"{seers}, but not which images were drawn.",
            ),
        ]
    rows = [
        Setting(
            "No amplification",
            _unamplified(done, delta),
            "The same noise and number of steps, every image in every step.",
            f"{seers}, even where it also sees which images were drawn.",
        )
    ]
    if all(one.count % mechanism.steps == 0 for one in done):
        epochs = [Release(one.noise_multiplier, 1.0, one.count // mechanism.steps) for one in done]
        rows.append(
            Setting(
                "Shuffled batches",
                _unamplified(epochs, delta),
                "The same noise, each image in one batch an epoch; nothing is proven of how "
                "shuffling hides it.",
                f"{seers}, even with the batches known.",
            )
        )
    rows.append(
        Setting(
            "Batch sampling",
            here,
            "Each image was drawn anew for every step, independently and in secret, with "
            f"probability {mechanism.rate:.3g} (Poisson sampling).",
            f"{seers}, but not which images were drawn.",
            spent=True,
        )
    )
    return rows


def _federation() -> list[Setting]:
    return [
        Setting(
            "Client sampling on top",
            None,
            "Not claimed, and no number is given. The server sees who takes part. Even with a "
            "secret cohort an image is drawn only together with its whole client, whose update may "
            "give the draw away, so that the product of the two rates is not a valid rate (cluster "
            "sampling: Bun, Drechsler, Gaboardi, McMillan and Sarathy 2022).",
            "The same as without it.",
        ),
        Setting(
            "Secure aggregation on top",
            None,
            "Epsilon stays the same, because each client already adds the whole noise to its own "
            "steps. It would be less only if the noise of several honest clients were made to add "
            "up.",
            "The server would no longer see the update of one client, only their sum.",
        ),
    ]


def _clients(mechanism: Mechanism, done: Sequence[Release], delta: float) -> list[Setting]:
    here, rate = epsilon_of(done, delta), mechanism.rate
    distributed = mechanism.placement == "distributed"
    seers = "Whoever sees the model after every round"
    everyone = mechanism.expected == mechanism.population
    rows = []
    known = here if mechanism.sampling == "fixed" or everyone else _unamplified(done, delta)
    rows.append(
        Setting(
            "No amplification",
            known,
            "The same noise and number of rounds, every client in every round.",
            f"{seers}, even where it also sees who takes part.",
            spent=mechanism.sampling == "fixed" or everyone,
        )
    )
    if not everyone:
        poisson = [Release(one.noise_multiplier, rate, one.count) for one in done]
        done_so = mechanism.sampling == "poisson"
        rows.append(
            Setting(
                "Client sampling" if done_so else "Poisson cohorts instead",
                epsilon_of(poisson, delta),
                "Each client is drawn anew for every round, independently and in secret, with "
                f"probability {rate:.3g} (Poisson sampling).",
                f"{seers}, but not who takes part.",
                spent=done_so,
            )
        )
    rows.append(
        Setting(
            "Batch sampling",
            None,
            "It changes nothing: a client takes part with all that it holds, however it draws its "
            "batches.",
            "The same as without it.",
        )
    )
    if not distributed:
        rows.append(
            Setting(
                "Secure aggregation alone",
                None,
                "Epsilon stays the same. The server, which adds the noise, would see the sum "
                "without noise instead of every update, and must still be trusted with it.",
                "The same as without it.",
            )
        )
    rows.append(
        Setting(
            "Secure aggregation, noise in shares",
            known,
            "Each client adds a share, and the shares of the honest clients that are left make up "
            "the whole noise, in whole numbers. The server knows who takes part, so that sampling "
            "hides nothing from it.",
            "The server too, which sees nothing but the noisy sum.",
        )
    )
    return rows


def _local(mechanism: Mechanism, done: Sequence[Release], delta: float) -> list[Setting]:
    together = math.sqrt(mechanism.expected)
    summed = [Release(one.noise_multiplier * together, 1.0, one.count) for one in done]
    return [
        Setting(
            "No amplification",
            epsilon_of(done, delta),
            "Each client adds the whole noise before anything leaves it, and its update is seen "
            "alone.",
            "Everybody else, the server and the other clients together.",
            spent=True,
        ),
        Setting(
            "Client sampling",
            None,
            "It changes nothing: who sends an update is seen.",
            "The same as without it.",
        ),
        Setting(
            "Batch sampling",
            None,
            "It changes nothing: a client takes part with all that it holds, however it draws its "
            "batches.",
            "The same as without it.",
        ),
        Setting(
            "Secure aggregation on top",
            _unamplified(summed, delta),
            f"Only the sum of the {mechanism.expected:,} noisy updates of a round is seen, all of "
            "these clients are honest and none drops out, so that their noise adds up.",
            "The server, which one would have to trust to play by the rules.",
        ),
    ]


def _unamplified(releases: Sequence[Release], delta: float) -> float:
    """Return epsilon of the releases with everybody in each of them.

    Gaussian releases of the same vectors are one whose inverse squared noise is the sum of theirs,
    which costs one evaluation however many kinds of noise there are.
    """
    if any(one.noise_multiplier == 0 for one in releases):
        return math.inf
    precision = math.fsum(one.count / one.noise_multiplier**2 for one in releases)
    return epsilon_of([Release(precision**-0.5)] if precision else [], delta)
