"""The privacy section: every promised figure is on the page, and what is no promise is said."""

import dataclasses
import html
import math
import re
from pathlib import Path

import pytest

from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.amplification import amplification
from fedlens.privacy.mechanism import ADD_OR_REMOVE, REPLACE, Mechanism
from fedlens.privacy.releases import Release
from fedlens.report import privacy_words, words, write_report
from fedlens.report.content import PrivacyAccount, PrivacySpending, ReportContent, SeedResult
from fedlens.report.html import key_figures
from fedlens.report.privacy_words import epsilon_text, small, upper_percent

NASTY = '<script>alert("1")</script>'


def spare(content: ReportContent) -> ReportContent:
    """Return the content without what privacy does not touch, which takes long to draw."""
    return dataclasses.replace(
        content, layers=[], gallery=[], blind_area=None, blind_light=None, client_label_counts=None
    )


def read(content: ReportContent, folder: Path) -> dict[str, str]:
    """Return the words of a spare page by section: :func:`sections`."""
    return sections(write_report(spare(content), folder))


def sections(report: Path) -> dict[str, str]:
    """Return the words of a page by section, with plain spaces and bars between cells."""
    source = report.read_text()
    source = re.sub(r"<style.*?</style>", "", source, flags=re.DOTALL)
    parts = {"head": source.partition("<main")[0], "whole": source}
    for found in re.finditer(r'<section id="(\w+)".*?</section>', source, re.DOTALL):
        parts[found[1]] = found[0]
    return {name: plain(part) for name, part in parts.items()}


def plain(part: str) -> str:
    part = re.sub(r"</t[hd]>|<br>", " | ", part)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).replace("\u00a0", " ").split())


def changed(content: ReportContent, **changes: object) -> ReportContent:
    """Return the content with another spending; ``terms`` is a dictionary of changes to them."""
    spending = content.privacy
    assert spending is not None
    terms = changes.pop("terms", {})
    assert isinstance(terms, dict)
    changes["terms"] = spending.terms.model_copy(update=terms)
    return dataclasses.replace(content, privacy=dataclasses.replace(spending, **changes))  # type: ignore[arg-type]


def with_history(content: ReportContent, history: list[dict]) -> ReportContent:
    return dataclasses.replace(content, seeds=[SeedResult(42, history, content.seeds[0].test)])


def client_level(private: ReportContent, placement: str = "server") -> ReportContent:
    """Return the run with client-level privacy, without the figures that this hides."""
    mechanism = Mechanism("client", 10, 4, 1.0, 3.0, 10, sampling="poisson", placement=placement)
    releases = mechanism.plan()
    empty = {"cohort": [], "clients": [], "drift": {"mean_update_norm": None, "mean_cosine": None}}
    history = [{**line, **empty} for line in private.seeds[0].history]
    accounts = [PrivacyAccount("every client", 10, releases, 4.1)]
    if placement == "local":
        accounts = [PrivacyAccount(f"client {n}", 1, releases, 4.1) for n in range(10)]
    return changed(
        with_history(private, history),
        terms={"unit": "client", "relation": mechanism.relation, "mechanism": "dp-fedavg"},
        mechanism=mechanism,
        accounts=accounts,
        attack_bound=0.0812,
        amplification=amplification(mechanism, releases, 1e-5, federated=True),
    )


@pytest.fixture(scope="session")
def page(private_report: Path) -> dict[str, str]:
    return sections(private_report)


def test_a_guarantee_is_never_written_better_than_it_is() -> None:
    assert epsilon_text(2.9801) == "2.99" and epsilon_text(2.98) == "2.98"
    assert epsilon_text(2.9871, 4) == "2.9871" and epsilon_text(2.98711, 4) == "2.9872"
    assert epsilon_text(5425.2) == "5,426"
    assert epsilon_text(math.inf) == "infinite" and epsilon_text(math.nan) == "–"
    assert plain(upper_percent(0.05213)) == "5.3 %" and plain(upper_percent(0.01)) == "1.0 %"
    assert small(1e-5) == "1e-5" and small(2.5e-10) == "2.5e-10" and small(0.01) == "0.01"


def test_every_figure_of_the_promise_is_on_the_page(page: dict[str, str]) -> None:
    section = page["privacy"]
    assert (
        "Whoever sees the model and every noisy update can hardly tell whether any one image was "
        "among the training data: epsilon 2.99 at delta 1e-5 (unit: one example (an image); "
        "neighbours: add or remove one), that of the worst client, client 0. Any test for "
        "membership that wrongly names 1 % of the images that were not used finds at most 5.3 % of "
        "the others"
    ) in section
    for row in (
        "Epsilon, by PLD | 2.9871 |",
        "Epsilon, by RDP | 3.2144 (the cross-check, looser) |",
        "Delta | 1e-5 |",
        "Unit of privacy | one example (an image) |",
        f"Neighbouring relation | {ADD_OR_REMOVE} |",
        "True positives of any attacker at 1 % false positives | at most 5.3 % |",
        "Accountant | PLD (",
        "Budget | epsilon 3 |",
        "Guarantee | yes: noise and samples were secret |",
        "Signature of the ledger | verified with this machine's key |",
        "Mechanism | dp-sgd |",
        "Sampling | Poisson: each image with probability 0.05 a step, 270 of 5,400 expected |",
        "Noise multiplier | 1.25, constant |",
        "Noise added by | each client, in every step |",
        "Clip norm | 0.5 |",
        "Releases charged | 200 |",
        "Noise and samples from | the operating system's generator |",
    ):
        assert row in section, row
    assert "the budget of 3 is dashed" in section
    # client 3 has one in each of the ten rounds
    assert "In ten cases the gradient of an example was not finite." in section


def test_the_head_gives_epsilon_and_the_promise_in_place_of_the_warning(
    private: ReportContent, page: dict[str, str]
) -> None:
    figure = next(item for item in key_figures(private) if "epsilon" in item.name)
    assert (figure.value, figure.name) == ("2.99", "epsilon at delta 1e-5")
    assert figure.note == "unit: one example; add or remove one"
    assert "not protected" not in page["head"] and "To be noted Not" not in page["head"]
    assert "can hardly tell whether any one image" in page["head"]
    assert "training figures" not in page["head"]
    assert not words.is_unguarded(private)


def test_the_accounts_come_worst_first(page: dict[str, str]) -> None:
    table = page["privacy"].partition("What each client has spent, worst first.")[2]
    assert "client 0 | 2.99 | 5,400 | 200 | 1.25 | client 1 | 2.89 | 5,399 | 200 | 1.25 |" in table


def test_the_amplification_table_shows_the_same_noise_in_other_settings(
    page: dict[str, str],
) -> None:
    table = page["privacy"].partition("What sampling and secure aggregation change")[2]
    whole = epsilon_of([Release(1.25, 1.0, 200)], 1e-5)
    here = epsilon_of([Release(1.25, 0.05, 200)], 1e-5)
    assert f"No amplification | {epsilon_text(whole)} |" in table
    assert f"Batch sampling (this run) | {epsilon_text(here)} |" in table
    assert "Client sampling on top | – | Not claimed, and no number is given." in table
    assert "Secure aggregation on top | – | Epsilon stays the same" in table
    assert table.count("Holds against:") == 5


def test_what_lies_outside_is_said(page: dict[str, str]) -> None:
    section = page["privacy"]
    assert "Training figures | Left out of this page" in section
    assert "Validation and test figures | Measured without noise" in section
    assert "is a release of its own and adds to it" in section
    assert "exact and not covered" in section
    assert "Does not hold against | The client that holds the images" in section
    assert "cannot be drawn again: another run gives another model" in page["again"]
    assert "training dashed" not in page["whole"]


def test_without_a_held_out_split_the_validation_figures_are_the_tests(
    private: ReportContent,
) -> None:
    content = dataclasses.replace(private, configuration={"dataset": {"hold_out": False}})
    rows = dict(privacy_words.coverage(content))
    assert "no held-out validation split" in rows["Test figures"]
    assert "validation images" not in rows["Choice of settings"]


def test_a_run_without_privacy_has_no_section(
    federated: ReportContent, federated_report: Path
) -> None:
    page = sections(federated_report)
    assert "privacy" not in page and "The updates were not protected" in page["head"]
    assert "every random draw comes from the seed 42" in page["again"]
    assert privacy_words.promise(federated) == [] == privacy_words.notices(federated)
    assert privacy_words.coverage(federated) == []


def test_seeded_noise_and_a_foreign_signature_are_shown_before_any_figure(
    private: ReportContent, tmp_path: Path
) -> None:
    content = changed(private, terms={"guarantee": False, "delta": 0.001}, verified=False)
    page = read(content, tmp_path)
    assert "Privacy Nothing is guaranteed: noise and samples were drawn from a seed" in page["head"]
    assert "No privacy guarantee: noise and samples were seeded." in page["head"]
    assert "Not verified: the privacy ledger was signed with the key of another" in page["head"]
    assert "Delta is 0.001, not below one over 5,400" in page["head"]
    assert "seeded: no guarantee; not verified" in page["head"]
    told = dataclasses.replace(content, notices=["privacy.delta is 0.001, not below ..."])
    assert not any("Delta is" in notice for notice in privacy_words.notices(told))
    assert "Guarantee | none: noise and samples were seeded |" in page["privacy"]
    assert "Signature of the ledger | not verified" in page["privacy"]
    assert "every random draw comes from the seed 42" in page["again"]
    assert words.is_unguarded(content)


def test_several_seeds_are_several_releases(private_central: ReportContent, tmp_path: Path) -> None:
    page = read(private_central, tmp_path)
    assert "Each of the two seeds is a release of its own" in page["privacy"]
    assert "What was spent, seed 42." in page["privacy"]
    assert "Does not hold against | The one who trains" in page["privacy"]
    assert "Client sampling" not in page["privacy"] and "each client" not in page["privacy"]


def test_client_level_privacy_hides_who_took_part(private: ReportContent, tmp_path: Path) -> None:
    page = read(client_level(private), tmp_path)
    assert "whether any one client, with all that it holds, took part: epsilon 4.10" in page["head"]
    assert "Unit of privacy | one client (with all that it holds) |" in page["privacy"]
    assert "Noise added by | the server |" in page["privacy"]
    assert "Does not hold against | The server: it sees every update" in page["privacy"]
    assert "Client sampling (this run)" in page["privacy"]
    assert "Who took part is secret: the traffic is that of a cohort of" in page["clients"]
    assert "| Rounds |" not in page["clients"] and "served worst" not in page["whole"]
    assert "About 4 of 10 clients a round, in secret" in page["setup"]


def test_local_noise_is_written_over_the_clip_norm_and_holds_against_the_server(
    private: ReportContent, tmp_path: Path
) -> None:
    content = client_level(private, "local")
    assert isinstance(content.privacy, PrivacySpending)
    assert content.privacy.worst.releases[0].noise_multiplier == 1.5  # two updates are 2 C apart
    page = read(content, tmp_path)
    assert "Noise multiplier | 3, constant |" in page["privacy"]
    assert f"Neighbouring relation | {REPLACE} |" in page["privacy"]
    assert "Holds against | The server, the other clients and all users" in page["privacy"]
    assert "holds its images or quite other ones" in page["head"]


def test_falling_noise_and_a_clip_norm_that_follows(private: ReportContent) -> None:
    spending = private.privacy
    assert spending is not None
    account = PrivacyAccount("all", 5400, [Release(1.5, 0.05, 20), Release(0.75, 0.05, 20)], 5.0)
    assert privacy_words.noise_text(spending, account) == "1.5 to 0.75"
    assert privacy_words.releases_of(account) == "40"
    assert privacy_words.noise_text(spending, PrivacyAccount("none", 1, [], 0.0)) == "–"
    follows = dataclasses.replace(private, configuration={"privacy": {"clip_quantile": 0.5}})
    assert privacy_words.clip_text(follows).startswith("0.5 at first; it follows the 0.5 quantile")


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        (0.03, "can hardly tell whether"),
        (0.3, "can tell only with much uncertainty whether"),
        (0.97, "is kept from certainty, but from little more, as to whether"),
    ],
)
def test_the_sentence_is_as_strong_as_the_bound(
    private: ReportContent, bound: float, said: str
) -> None:
    assert said in privacy_words.promise(changed(private, attack_bound=bound))[0]


def test_without_noise_nothing_is_promised(private: ReportContent, tmp_path: Path) -> None:
    endless = [PrivacyAccount("client 0", 5400, [Release(0.0, 0.05, 200)], math.inf)]
    history = [{"round": 1, "privacy": {"epsilon": None}}]
    content = changed(
        with_history(private, history), accounts=endless, epsilon_rdp=math.inf, attack_bound=1.0
    )
    page = read(content, tmp_path)
    assert "Nothing is promised: there was next to no noise" in page["head"]
    assert "Epsilon, by PLD | infinite |" in page["privacy"]
    assert "figure-epsilon" not in page["whole"] and words.is_unguarded(content)


def test_many_clients_are_cut_to_the_worst(private: ReportContent, tmp_path: Path) -> None:
    releases = [Release(1.25, 0.05, 200)]
    accounts = [PrivacyAccount(f"site {n}", 100 + n, releases, 3 - n / 100) for n in range(45)]
    section = read(changed(private, accounts=accounts), tmp_path)["privacy"]
    assert "The 30 clients of 45 that have spent most." in section
    assert "site 29 |" in section and "site 30 |" not in section


def test_names_are_untrusted_and_the_same_content_gives_the_same_bytes(
    private: ReportContent, tmp_path: Path
) -> None:
    accounts = [PrivacyAccount(NASTY, 9, [Release(1.25, 0.05, 3)], 2.0)] * 2
    content = changed(
        private,
        accounts=accounts,
        terms={"mechanism": NASTY, "source": NASTY, "relation": NASTY},
    )
    one, two = (write_report(spare(content), tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert "<script" not in one.read_text() and one.read_text().count("&lt;script") > 8
