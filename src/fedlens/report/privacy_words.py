"""What the report says of privacy in sentences: what is promised, to whom, against whom."""

import math
import re

from fedlens.privacy.mechanism import Mechanism
from fedlens.report.content import PrivacyAccount, PrivacySpending, ReportContent
from fedlens.report.history import Line, listed, look
from fedlens.report.withheld import hides_clients
from fedlens.report.wording import NONE, count, percent, whole

_HARDLY, _SOMEWHAT = 0.06, 0.5  # bounds on an attacker's true positives at 1 % false ones


def epsilon_text(value: float, digits: int = 2) -> str:
    """Return an epsilon rounded up, so that no guarantee reads better than it is."""
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "infinite"
    if value >= 1000:
        return f"{math.ceil(value):,}"
    scale = 10**digits
    return f"{math.ceil(round(value * scale, 6)) / scale:.{digits}f}"


def small(value: float) -> str:
    """Return a small number such as delta as one writes it, e.g. ``1e-5``."""
    return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:g}").replace("e+", "e")


def upper_percent(share: float) -> str:
    """Return a share in percent, rounded up to a tenth of one."""
    return percent(math.ceil(round(1000 * share, 6)) / 1000, 1)


def thing(spending: PrivacySpending) -> str:
    """Return what a unit is called: ``image`` or ``client``."""
    return "image" if spending.terms.unit == "example" else "client"


def unit_text(spending: PrivacySpending) -> str:
    """Return the unit of privacy in words."""
    if spending.terms.unit == "example":
        return "one example (an image)"
    return "one client (with all that it holds)"


def promise(content: ReportContent) -> list[str]:
    """Return what is promised in plain sentences; none for a run without privacy."""
    spending = content.privacy
    if spending is None:
        return []
    if math.isinf(spending.worst.epsilon):
        return [
            "Nothing is promised: there was next to no noise, so that epsilon has no bound that "
            f"would mean anything (unit: {unit_text(spending)}; {spending.terms.relation})."
        ]
    said = f"{_who(spending.mechanism)} {_how_well(spending)} {_what(spending.mechanism)}"
    figures = (
        f"epsilon {epsilon_text(spending.worst.epsilon)} at delta {small(spending.terms.delta)} "
        f"(unit: {unit_text(spending)}; neighbours: {spending.terms.relation})"
    )
    seed = f"; seed {content.seeds[0].seed}" if len(content.seeds) > 1 else ""
    whose = "the worst client, " if len(spending.accounts) > 1 else ""
    whose = f", that of {whose}{spending.worst.name}" if whose else ""
    sentences = [f"{said}: {figures}{whose}{seed}.", _bound(spending)]
    if not spending.terms.guarantee:
        sentences.insert(
            0,
            "Nothing is guaranteed: noise and samples were drawn from a seed, and whoever knows the "
            "seed can take the noise away. Had they been secret, the following would hold.",
        )
    return sentences


def protection(content: ReportContent) -> str:
    """Return the promise for the head of the page, without the bound on attackers."""
    spending = content.privacy
    sentences = promise(content)
    if spending is None or math.isinf(spending.worst.epsilon):
        return " ".join(sentences)
    return " ".join(sentences[:-1])


def _who(mechanism: Mechanism) -> str:
    if mechanism.placement == "local":
        return "Whoever sees all that a client sends, the server among them,"
    if mechanism.unit == "client":
        return "Whoever sees the model after every round"
    return "Whoever sees the model and every noisy update"


def _how_well(spending: PrivacySpending) -> str:
    if spending.attack_bound <= _HARDLY:
        return "can hardly tell"
    if spending.attack_bound <= _SOMEWHAT:
        return "can tell only with much uncertainty"
    return "is kept from certainty, but from little more, as to"


def _what(mechanism: Mechanism) -> str:
    if mechanism.placement == "local":
        return "whether any one client holds its images or quite other ones"
    if mechanism.unit == "client":
        return "whether any one client, with all that it holds, took part"
    return "whether any one image was among the training data"


def _bound(spending: PrivacySpending) -> str:
    one, lacked = thing(spending), "were not used"
    if one == "client":
        lacked = "took no part"
    if spending.mechanism.placement == "local":
        return (
            "Any test that takes 1 % of the clients with other data for this one knows it for what "
            f"it is in at most {upper_percent(spending.attack_bound)} of the cases, whoever makes "
            "it and whatever else is known to them."
        )
    return (
        f"Any test for membership that wrongly names 1 % of the {one}s that {lacked} finds at most "
        f"{upper_percent(spending.attack_bound)} of the others, whoever makes it and whatever else "
        "is known to them."
    )


def notices(content: ReportContent) -> list[str]:
    """Return what the reader must be told before any figure of privacy is believed."""
    spending = content.privacy
    if spending is None:
        return []
    terms, found = spending.terms, []
    if not terms.guarantee:
        found.append(
            "No privacy guarantee: noise and samples were seeded. The figures of privacy are what "
            "would have been spent, had they been secret."
        )
    if not spending.verified:
        found.append(
            "Not verified: the privacy ledger was signed with the key of another machine, so that a "
            "change made to it by hand would not be noticed here. The command fedlens privacy "
            "ledger checks the signature on the machine that ran it."
        )
    units = max(account.units for account in spending.accounts)
    population = spending.mechanism.population if spending.terms.unit == "client" else units
    told = any("privacy.delta" in notice for notice in content.notices)  # by the run itself
    if terms.delta * population >= 1 and spending.mechanism.placement != "local" and not told:
        found.append(
            f"Delta is {small(terms.delta)}, not below one over {population:,}: publishing one "
            f"whole {thing(spending)} would count as private. Choose a smaller privacy.delta."
        )
    return found


def coverage(content: ReportContent) -> list[list[str]]:
    """Return who is protected from whom, and what is not, as rows of a name and sentences."""
    spending = content.privacy
    if spending is None:
        return []
    mechanism = spending.mechanism
    federated = content.mode == "federated"
    if mechanism.unit == "example":
        to = "Each training image" + (", at every client." if federated else ".")
        to += (
            " A person with k images among them is protected only by about k times the epsilon, at "
            "a larger delta."
        )
    else:
        to = "Each client, with all the images that it holds."
    return [
        ["Promised to", to],
        ["Holds against", _against(mechanism, federated=federated)],
        ["Does not hold against", _not_against(mechanism, federated=federated)],
        ["Taken to be public", _public(mechanism, federated=federated)],
        *_outside(content, federated=federated),
        ["Choice of settings", _choice(content)],
        *_seeds(content),
    ]


def _against(mechanism: Mechanism, *, federated: bool) -> str:
    if mechanism.placement == "local":
        return "The server, the other clients and all users of the model, even together."
    if mechanism.placement == "distributed":
        return "The server, as long as it sees only sums, and all users of the model."
    if mechanism.unit == "client":
        return (
            "All users of the model and the other clients, even with the model of every round; as "
            "long as who takes part stays secret."
            if mechanism.sampling == "poisson"
            else "All users of the model and the other clients, even with the model of every round."
        )
    if federated:
        return (
            "The server, the other clients and all users of the model, even together: each client "
            "adds its noise in every step, before anything leaves it."
        )
    return "All users of the model, even with the model after every step."


def _not_against(mechanism: Mechanism, *, federated: bool) -> str:
    if mechanism.unit == "client" and mechanism.placement == "server":
        return (
            "The server: it sees every update, draws the cohort and adds the noise, and must be "
            "trusted. The client itself and whoever has its images."
        )
    if federated:
        return "The client that holds the images, and whoever else has them."
    return "The one who trains: it has the images, draws the samples and adds the noise."


def _public(mechanism: Mechanism, *, federated: bool) -> str:
    if mechanism.unit == "client":
        many = f"That there are {count(mechanism.population, 'client')}"
        who = ", and who of them takes part in which round" * (mechanism.placement == "local")
        return f"{many}{who}. A client's size does not weigh."
    if federated:
        return "How many images each client has, and which clients take part in which round."
    return f"That there are {mechanism.population:,} training images."


def _outside(content: ReportContent, *, federated: bool) -> list[list[str]]:
    held_out = _setting(content, "dataset", "hold_out") is not False
    measured = "validation and test" if held_out else "test"
    lacks = ""
    if not held_out:
        lacks = " There is no held-out validation split: the validation figures are the test's."
    return [
        [
            "Training figures",
            "Left out of this page: loss and accuracy on the training images would be measured on "
            "private images, without noise.",
        ],
        [
            f"{measured.capitalize()} figures",
            f"Measured without noise on the {measured} images, which are outside the guarantee; so "
            f"are the images shown on this page. They took no part in training.{lacks}",
        ],
        ["Counts and times", _counts(content, federated=federated)],
    ]


def _counts(content: ReportContent, *, federated: bool) -> str:
    """Return what of the training images is shown exactly, or that nothing is."""
    if hides_clients(content):
        return (
            "Left out of this page: how many images each client holds, of which classes, and how long "
            "its work took, are exact figures of what is to be hidden, and so are their sums."
        )
    held = ", what each client holds" if federated else ""
    return (
        f"Images of each class in the training split{held}, counts of gradients that were not finite, "
        "and running times are exact and not covered. Leave them out where this page goes to whom "
        "they may not be known."
    )


def _choice(content: ReportContent) -> str:
    held_out = _setting(content, "dataset", "hold_out") is not False
    first = (
        "To measure on validation images, and to choose by it, costs the training images nothing "
        "beyond the releases that are measured. "
        if held_out
        else ""
    )
    return (
        f"{first}This epsilon is of this run alone: another trial on the same training images, whose "
        "outcome had a part in choosing these settings, is a release of its own and adds to it."
    )


def _seeds(content: ReportContent) -> list[list[str]]:
    seeds = len(content.seeds)
    if seeds < 2:
        return []
    return [
        [
            "Several seeds",
            f"Each of the {count(seeds, 'seed')} is a release of its own, and the same data were "
            f"used by all. What is shown is seed {content.seeds[0].seed} alone: whoever sees the "
            "models of all, or figures over all, has been shown more than its epsilon.",
        ]
    ]


def not_finite(content: ReportContent) -> str:
    """Return how many gradients were not finite, in a sentence; empty where none was."""
    history = content.seeds[0].history
    total = sum(_bad(line) for line in history)
    if not total:
        return ""
    return (
        f"In {count(total, 'case')} the gradient of an example was not finite. It counted as zero, "
        "and its release was charged like any other."
    )


def _bad(line: Line) -> int:
    values = [look(line, "not_finite")]
    values += [look(entry, "not_finite") for entry in listed(line, "clients")]
    return int(sum(value for value in values if not math.isnan(value)))


def noise_text(spending: PrivacySpending, account: PrivacyAccount, *, digits: int = 4) -> str:
    """Return the noise multiplier that an account's releases had: one, or the first to the last."""
    # under local noise the ledger has it over the distance of two updates, twice the clip norm
    factor = 2 if spending.mechanism.placement == "local" else 1
    noises = [factor * release.noise_multiplier for release in account.releases]
    if not noises:
        return NONE
    first, last = f"{noises[0]:.{digits}g}", f"{noises[-1]:.{digits}g}"
    return first if first == last else f"{first} to {last}"


def releases_of(account: PrivacyAccount) -> str:
    """Return how many releases were charged to an account."""
    return whole(sum(release.count for release in account.releases))


def sampling_text(spending: PrivacySpending) -> str:
    """Return how units were sampled in words."""
    mechanism, what = spending.mechanism, thing(spending)
    step = "step" if mechanism.unit == "example" else "round"
    if mechanism.placement == "local":
        return "none that amplifies: who sends an update is seen"
    if mechanism.expected == mechanism.population:
        return f"none: every {what} in every {step}"
    if mechanism.sampling == "fixed":
        how = "shuffled batches" if mechanism.unit == "example" else "cohorts of one size"
        return f"{how}; not amplified"
    return (
        f"Poisson: each {what} with probability {mechanism.rate:.4g} a {step}, "
        f"{mechanism.expected:,} of {mechanism.population:,} expected"
    )


def clip_text(content: ReportContent) -> str:
    """Return the clip norm, and what it follows where it changes."""
    spending = content.privacy
    assert spending is not None
    norm = f"{spending.mechanism.clip_norm:g}"
    quantile = _setting(content, "privacy", "clip_quantile")
    if isinstance(quantile, int | float):
        return f"{norm} at first; it follows the {quantile:g} quantile, whose count is charged"
    return norm


def cohort_text(content: ReportContent) -> str:
    """Return who takes part in a round where that is secret; empty where it is not."""
    spending = content.privacy
    if spending is None or spending.mechanism.unit != "client":
        return ""
    mechanism = spending.mechanism
    if mechanism.placement == "local" or mechanism.expected == mechanism.population:
        return ""
    return f"About {mechanism.expected:,} of {mechanism.population:,} clients a round, in secret"


def _setting(content: ReportContent, section: str, key: str) -> object:
    found = content.configuration.get(section)
    return found.get(key) if isinstance(found, dict) else None
