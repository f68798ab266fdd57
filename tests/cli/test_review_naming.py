"""By which names the console answers: enough that it can be used, and no more."""

import pytest

from fedlens.cli.review.naming import as_requested, naming
from fedlens.errors import RunError


@pytest.mark.parametrize(
    ("host", "names", "hosts", "address"),
    [
        ("127.0.0.1", [], ("127.0.0.1",), "http://127.0.0.1:8000"),
        ("127.0.0.2", [], ("127.0.0.2",), "http://127.0.0.2:8000"),
        ("::1", [], ("[::1]",), "http://[::1]:8000"),
        ("localhost", ["here.test"], ("here.test", "localhost"), "http://localhost:8000"),
    ],
)
def test_on_this_machine(host: str, names: list[str], hosts: tuple[str, ...], address: str) -> None:
    called = naming(host, 8000, names, certificate=False, proxy=False)
    assert (called.hosts, called.address) == (hosts, address)


@pytest.mark.parametrize(
    ("host", "names", "hosts", "address"),
    [
        ("192.0.2.7", [], ("192.0.2.7",), "https://192.0.2.7:8000"),
        ("2001:DB8:0::7", [], ("[2001:db8::7]",), "https://[2001:db8::7]:8000"),
        ("Review.Example.org", [], ("review.example.org",), "https://review.example.org:8000"),
        ("0.0.0.0", ["a.test", "b.test"], ("a.test", "b.test"), "https://a.test:8000"),
        ("::", ["192.0.2.7"], ("192.0.2.7",), "https://192.0.2.7:8000"),
        ("192.0.2.7", ["a.test"], ("a.test", "192.0.2.7"), "https://a.test:8000"),
    ],
)
def test_with_tls_what_it_listens_on_is_a_name(
    host: str, names: list[str], hosts: tuple[str, ...], address: str
) -> None:
    called = naming(host, 8000, names, certificate=True, proxy=False)
    assert (called.hosts, called.address) == (hosts, address)


def test_a_proxy_has_a_name_of_its_own() -> None:
    called = naming("127.0.0.1", 8000, ["review.test"], certificate=False, proxy=True)
    assert called.hosts == ("review.test", "127.0.0.1")
    assert called.address == "https://review.test"


@pytest.mark.parametrize(
    ("host", "names", "certificate", "proxy", "words"),
    [
        ("0.0.0.0", [], True, False, "--name"),
        ("::", [], True, False, "--name"),
        ("0.0.0.0", ["a.test"], False, False, "TLS"),
        ("127.0.0.1", [], False, True, "--name"),
        ("0.0.0.0", ["a.test"], False, True, "this machine alone"),
        ("127.0.0.1", ["a.test"], True, True, "choose"),
    ],
)
def test_what_nobody_could_use_or_should_is_refused(
    host: str, names: list[str], certificate: bool, proxy: bool, words: str
) -> None:
    with pytest.raises(RunError, match=words):
        naming(host, 8000, names, certificate=certificate, proxy=proxy)


@pytest.mark.parametrize("name", ["https://a.test", "a.test:443", "a b", "", "a.test/x", "*", "-"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(RunError, match="not a host name"):
        as_requested(name)


def test_a_name_is_as_browsers_send_it() -> None:
    assert as_requested("BÜCHER.test.") == "xn--bcher-kva.test"
