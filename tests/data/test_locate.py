"""Where sets are looked for, and downloads from a host of our own that may misbehave."""

import hashlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from fedlens.data import DATASETS, available, load_dataset, locate
from fedlens.data.catalogue import KnownDataset, KnownFile
from fedlens.errors import DataError, DataNotFoundError


def archive() -> bytes:
    images, labels = np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4), np.arange(20) % 2
    file = BytesIO()
    np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return file.getvalue()


CONTENT = archive()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Host:
    """A small HTTP server: path -> (status, announced length or None, body)."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, int | None, bytes]] = {}
        self.asked: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                status, length, body = host.answers.get(self.path, (404, None, b"not here"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    served = Host()
    yield served
    served.close()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("FEDLENS_DATA", raising=False)
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def register(monkeypatch: pytest.MonkeyPatch, *urls: str) -> KnownDataset:
    known = replace(
        DATASETS["pneumoniamnist"], name="tiny", files=(KnownFile("tiny.npz", urls, MD5),)
    )
    monkeypatch.setitem(DATASETS, "tiny", known)
    return known


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_download_is_verified_kept_and_used_again(
    host: Host,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    host.answers["/tiny.npz"] = (200, None, CONTENT)
    register(monkeypatch, f"{host.url}/tiny.npz")
    level = logging.getLogger("pooch").level
    assert available("tiny") is None
    dataset = load_dataset("tiny")
    assert dataset.class_names == ("normal", "pneumonia")
    assert files(cache) == ["tiny/tiny.npz"]
    assert (cache / "tiny" / "tiny.npz").read_bytes() == CONTENT
    assert dataset.source == available("tiny") == str(cache / "tiny" / "tiny.npz")
    assert load_dataset("tiny", download=False).checksum == dataset.checksum
    assert host.asked == ["/tiny.npz"]
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("pooch").level == level


def test_a_progress_bar_is_drawn_where_it_is_asked_for(
    host: Host,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    host.answers["/tiny.npz"] = (200, None, CONTENT)
    register(monkeypatch, f"{host.url}/tiny.npz")
    load_dataset("tiny", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((404, None, b"gone"), DataNotFoundError, "answered HTTP 404"),
        ((503, None, b"busy"), DataNotFoundError, "answered HTTP 503"),
        ((200, len(CONTENT), CONTENT[:-9]), DataNotFoundError, "could not be reached"),
        ((200, None, CONTENT[:-1] + b"!"), DataError, "its MD5 is not"),
        ((200, None, b""), DataError, "its MD5 is not"),
        ((200, None, b"<html>log in first</html>"), DataError, "its MD5 is not"),
    ],
)
def test_a_bad_answer_is_one_sentence_and_leaves_nothing(
    host: Host,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, int | None, bytes],
    error: type[DataError],
    message: str,
) -> None:
    host.answers["/tiny.npz"] = answer
    register(monkeypatch, f"{host.url}/tiny.npz")
    with pytest.raises(error, match=message) as caught:
        load_dataset("tiny")
    assert type(caught.value) is error
    assert "FEDLENS_DATA" in str(caught.value)
    assert files(cache) == []


def test_a_host_that_is_not_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    closed = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = closed.server_port
    closed.server_close()
    register(monkeypatch, f"http://127.0.0.1:{port}/tiny.npz")
    with pytest.raises(DataNotFoundError, match=f"127.0.0.1:{port} could not be reached") as caught:
        load_dataset("tiny")
    text = str(caught.value)
    assert "'tiny'" in text
    assert str(cache) in text
    assert "'digits'" in text


def test_the_second_host_is_asked_where_the_first_fails(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.answers["/mirror/tiny.npz"] = (200, None, CONTENT)
    register(monkeypatch, f"{host.url}/tiny.npz", f"{host.url}/mirror/tiny.npz")
    assert len(load_dataset("tiny").test) == 20
    assert host.asked == ["/tiny.npz", "/mirror/tiny.npz"]


def test_an_endless_answer_is_cut_off(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.answers["/tiny.npz"] = (200, None, bytes(200_000))
    register(monkeypatch, f"{host.url}/tiny.npz")
    monkeypatch.setattr(locate, "MAX_DOWNLOAD_BYTES", 100_000)
    with pytest.raises(DataError, match="more than 100,000 bytes"):
        load_dataset("tiny")
    assert files(cache) == []


def test_a_cache_that_cannot_be_written_to_is_named(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.answers["/tiny.npz"] = (200, None, CONTENT)
    register(monkeypatch, f"{host.url}/tiny.npz")
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="set FEDLENS_CACHE"):
        load_dataset("tiny")


def test_without_leave_nothing_is_downloaded(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, f"{host.url}/tiny.npz")
    with pytest.raises(DataNotFoundError, match="downloading is off"):
        load_dataset("tiny", download=False)
    assert host.asked == []
    assert not cache.exists()


def test_the_order_of_places(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register(monkeypatch)
    monkeypatch.setenv("FEDLENS_DATA", str(tmp_path / "data"))
    order = [
        root / below / "tiny.npz"
        for root in (tmp_path / "data", cache)
        for below in (".", "tiny", "medmnist")
    ]
    for place in reversed(order):  # each new one takes precedence over all before
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CONTENT)
        assert available("tiny") == str(place)
        assert load_dataset("tiny", download=False).source == str(place)
    explicit = tmp_path / "mine.npz"
    explicit.write_bytes(CONTENT)
    assert load_dataset("tiny", path=explicit).source == str(explicit)


def test_a_damaged_file_in_the_data_folder_is_an_error_not_a_reason_to_look_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(monkeypatch)
    monkeypatch.setenv("FEDLENS_DATA", str(tmp_path))
    (tmp_path / "tiny.npz").write_bytes(CONTENT[:-1])
    cache.mkdir()
    (cache / "tiny.npz").write_bytes(CONTENT)
    with pytest.raises(DataError, match=f"expected the official {MD5}") as caught:
        load_dataset("tiny")
    assert str(tmp_path / "tiny.npz") in str(caught.value)


def test_what_is_available_without_a_download(cache: Path) -> None:
    assert available("digits") == "embedded"
    assert available("pathmnist") is None
    with pytest.raises(DataNotFoundError, match="no image set called 'imagenet'"):
        available("imagenet")


def test_the_cache_of_the_user_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLENS_CACHE", "")
    assert locate.cache_folder().name == "fedlens"
    assert locate.cache_folder().is_absolute()
