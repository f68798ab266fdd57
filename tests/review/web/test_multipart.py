"""Multipart bodies, as other libraries write and read them."""

from email import message_from_bytes
from email.policy import HTTP

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlens.review.web.api.multipart import (
    LARGEST_HEAD,
    MalformedError,
    Part,
    TooManyError,
    parts_of,
)

KIND = "multipart/form-data; boundary=xyz"


def body(*parts: tuple[bytes, bytes], end: bytes = b"--xyz--\r\n") -> bytes:
    return b"".join(b"--xyz\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + end


def field(name: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%b"' % name


def file(name: bytes) -> bytes:
    return field(name) + b'; filename="a.png"\r\nContent-Type: image/png'


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters='"\\\r\n\0'), min_size=1, max_size=8
)
PIECES = st.sampled_from([b"\r\n", b"--", b"\r\n--", b"xyz", b"\0", b"\xff", b"a", b"\r", b"\n"])
CONTENTS = st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=40)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(files=st.lists(st.tuples(NAMES, CONTENTS), max_size=4), texts=st.dictionaries(NAMES, NAMES))
def test_what_httpx_writes_is_read(files: list[tuple[str, bytes]], texts: dict[str, str]) -> None:
    request = httpx.Request(
        "POST", "http://here/", files=[(n, ("a", c)) for n, c in files] or None, data=texts
    )
    if not files:
        return  # httpx then writes another kind of body
    found = parts_of(request.read(), request.headers["content-type"], 100)
    # It writes the fields first, and some characters of a name as HTML forms do.
    sent = [(n, c.encode(), False) for n, c in texts.items()] + [(n, c, True) for n, c in files]
    assert [(part.content, part.is_file) for part in found] == [one[1:] for one in sent]
    for part, (name, _, _) in zip(found, sent, strict=True):
        if name.isprintable():
            assert part.name == name


@settings(deadline=None, derandomize=True, max_examples=200)
@given(contents=st.lists(CONTENTS, min_size=1, max_size=4))
def test_the_standard_library_reads_the_same(contents: list[bytes]) -> None:
    safe = [content.replace(b"--xyz", b"") for content in contents]
    whole = body(*((file(b"image"), content) for content in safe))
    message = message_from_bytes(
        b"Content-Type: " + KIND.encode() + b"\r\n\r\n" + whole, policy=HTTP
    )
    theirs = [part.get_payload(decode=True) for part in message.iter_parts()]
    # It is made for text, and ends a line where there is a lone \r or \n.
    ours = [part.content for part in parts_of(whole, KIND, 10)]
    assert ours == safe
    plain = [b"\r" not in content and b"\n" not in content for content in safe]
    assert [t for t, p in zip(theirs, plain, strict=True) if p] == [
        o for o, p in zip(ours, plain, strict=True) if p
    ]


def test_a_body_by_hand() -> None:
    content = b"\r\n--xyzzy\r\n--xy\r\n"  # neither is the boundary
    whole = body((field(b"method"), b"grad-cam"), (file(b"image"), content), (field(b"e"), b""))
    wanted = [
        Part("method", b"grad-cam", False),
        Part("image", content, True),
        Part("e", b"", False),
    ]
    assert parts_of(whole, KIND, 3) == wanted
    assert parts_of(b"\r\n" + whole + b"what follows", KIND, 3) == wanted
    assert parts_of(whole, 'multipart/form-data; charset=utf-8; boundary="xyz"', 3) == wanted
    with pytest.raises(TooManyError):
        parts_of(whole, KIND, 2)


@pytest.mark.parametrize("cut", range(1, 20))
def test_of_a_body_that_is_cut_short_the_whole_parts_are_read(cut: int) -> None:
    whole = body((field(b"a"), b"1"), (file(b"image"), b"12345"), end=b"--xyz--")
    last = whole.index(b"12345")
    assert [part.name for part in parts_of(whole[:-2], KIND, 9)] == ["a", "image"]
    assert [part.name for part in parts_of(whole[: last + 4], KIND, 9)] == ["a"]
    assert [part.name for part in parts_of(whole[: last - cut], KIND, 9)] == ["a"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"nonsense", KIND),
        (b"preamble\r\n" + body((field(b"a"), b"1")), KIND),
        (body((field(b"a"), b"1")), "multipart/form-data"),
        (body((field(b"a"), b"1")), "multipart/form-data; boundary=" + "x" * 71),
        (body((b"Content-Disposition: form-data", b"1")), KIND),
        (body((b"Content-Type: image/png", b"1")), KIND),
        (body((field(b"a") + b"\r\n" + field(b"b"), b"1")), KIND),
        (body((b"no header", b"1")), KIND),
        (body((b" " + field(b"a"), b"1")), KIND),
        (body((b"Content-Disposition : form-data; name=a", b"1")), KIND),
        (body((field(b"a") + b"\r\nX: " + b"y" * LARGEST_HEAD, b"1")), KIND),
        (b"--xyzonly\r\n" + field(b"a") + b"\r\n\r\n1\r\n--xyz--", KIND),
        (b"\n".join(body((field(b"a"), b"1")).split(b"\r\n")), KIND),
    ],
)
def test_what_does_not_keep_to_its_boundary_is_refused(content: bytes, kind: str) -> None:
    with pytest.raises(MalformedError) as refused:
        parts_of(content, kind, 9)
    assert not str(refused.value).endswith(".")


def test_nothing_is_no_parts_and_a_name_may_be_latin() -> None:
    assert parts_of(b"", KIND, 9) == parts_of(b"\r\n", KIND, 9) == []
    assert parts_of(b"--xyz", KIND, 9) == parts_of(b"--xyz--", KIND, 9) == []
    assert parts_of(body((field(b"\xe9"), b"1")), KIND, 9)[0].name == "é"
    assert parts_of(body((field("é".encode()), b"1")), KIND, 9)[0].name == "é"


@pytest.mark.parametrize("boundary", [b"", b'""'])
def test_an_empty_boundary_is_none(boundary: bytes) -> None:
    with pytest.raises(MalformedError, match="boundary"):
        parts_of(b"--\r\n\r\n", "multipart/form-data; boundary=" + boundary.decode(), 3)


def test_what_looks_like_a_boundary_is_content() -> None:
    content = b"\r\n--xyzz" * 10_000 + b"\r\n--xyz-" + b"\r\n--xyz\r"
    (part,) = parts_of(body((file(b"image"), content)), KIND, 3)
    assert part.content == content
