"""Where a PNG, JPEG or TIFF ends, and how large its picture is, without decoding it."""

import struct
import zlib
from dataclasses import dataclass

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8\xff"
TIFF_STARTS = (b"II*\x00", b"MM\x00*")

# What a walk over a file, and the decoding after it, may have to look at: files of ten megabytes can be
# made of millions of parts, each of which takes a while.
_MOST_CHUNKS = 20_000  # of a PNG: ten megabytes in pieces of 512 bytes
_MOST_SEGMENTS = 5_000  # of a JPEG: its notes may be in pieces of 64 kilobytes
_MOST_NUMBERS = 200_000  # of a TIFF: entries and what they list, such as a place for each row
_MOST_SCANS = 100  # of a JPEG: each is a pass over all its pixels
_MOST_DIRECTORIES = 64  # of a TIFF, pages and notes together
_NOTE_DIRECTORIES = (
    330,
    34665,
    34853,
    40965,
)  # tags: further pictures, EXIF, GPS, interoperability
_WIDTH, _HEIGHT = 256, 257
_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # a tile is unpacked whole, however small the picture
_NUMBERS = (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, *_NOTE_DIRECTORIES)
_PLACES = ((273, 279), (324, 325))  # tags: strips and tiles, where they are and how long
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


class DamagedError(Exception):
    """A file that does not hold together; its text says where, without a full stop."""

    def __init__(self, kind: str, what: str) -> None:
        """Keep the kind of file and what is wrong."""
        super().__init__(what)
        self.kind = kind


@dataclass(frozen=True)
class Outline:
    """What a file of an image says of itself.

    Attributes:
        kind: PNG, JPEG or TIFF.
        width, height: in pixels, as the file states them; of a TIFF, of the largest of its pages and
            tiles.
        pictures: more than 1 for an animation or several pages.
        end: bytes from the start to where the image ends; more may follow in the file.
    """

    kind: str
    width: int
    height: int
    pictures: int
    end: int


def png_outline(data: bytes) -> Outline:
    """Return the outline of a PNG by walking its chunks, whose checksums must be right.

    Raises:
        DamagedError: a chunk is cut short, wrong or missing.
    """
    place, size, pixels, frames = len(PNG_START), None, False, 1
    for _ in range(_MOST_CHUNKS):
        head = data[place : place + 8]
        if len(head) < 8:
            raise DamagedError("PNG", "it has no end")
        length, kind = struct.unpack(">I4s", head)
        body = data[place + 8 : place + 8 + length]
        checksum = data[place + 8 + length : place + 12 + length]
        if len(checksum) < 4:
            raise DamagedError("PNG", "its last part is not whole")
        if struct.unpack(">I", checksum)[0] != zlib.crc32(kind + body):
            raise DamagedError("PNG", "the checksum of a part is wrong")
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise DamagedError("PNG", "it does not begin with its size")
            size = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            pixels = True
        elif kind == b"acTL":
            frames = 2
        place += 12 + length
        if kind == b"IEND":
            break
    else:
        raise DamagedError("PNG", "it has too many parts")
    if not pixels:
        raise DamagedError("PNG", "it holds no pixels")
    return Outline("PNG", size[0], size[1], frames, place)


def jpeg_outline(data: bytes) -> Outline:
    """Return the outline of a JPEG by walking its segments and scans to its end.

    Raises:
        DamagedError: a segment is cut short, or size, pixels or end are missing.
    """
    place, size, scans = 2, None, 0
    for _ in range(_MOST_SEGMENTS):
        place = _next_marker(data, place)
        marker = data[place]
        place += 1
        if marker == 0xD9:
            break  # the end
        if 0xD0 <= marker <= 0xD8 or marker == 0x01:
            raise DamagedError("JPEG", "a part stands where none may be")
        head = data[place : place + 2]
        length = struct.unpack(">H", head)[0] if len(head) == 2 else 0
        if length < 2 or place + length > len(data):
            raise DamagedError("JPEG", "its last part is not whole")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if length < 8 or size is not None:
                raise DamagedError("JPEG", "its size is not stated once")
            height, width = struct.unpack(">HH", data[place + 3 : place + 7])
            size = (width, height)
        place += length
        if marker == 0xDA:
            scans += 1
            if scans > _MOST_SCANS:
                raise DamagedError("JPEG", "it has too many parts")
            place = _scan_end(data, place)
    else:
        raise DamagedError("JPEG", "it has too many parts")
    if size is None or not scans:
        raise DamagedError("JPEG", "it holds no pixels")
    return Outline("JPEG", size[0], size[1], 1, place)


def _next_marker(data: bytes, place: int) -> int:
    """Return where the code of the marker at ``place`` stands, past its fill bytes."""
    if data[place : place + 1] != b"\xff":
        raise DamagedError("JPEG", "it has no end" if place >= len(data) else "a part is missing")
    for _ in range(_MOST_SEGMENTS):
        if data[place : place + 1] != b"\xff":
            break
        place += 1
    else:
        raise DamagedError("JPEG", "it has too much between its parts")
    if place >= len(data):
        raise DamagedError("JPEG", "it has no end")
    return place


def _scan_end(data: bytes, place: int) -> int:
    """Return where the first marker after a scan's compressed pixels begins."""
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            raise DamagedError("JPEG", "it has no end")
        code = data[place + 1]
        if code == 0xFF:
            place += 1
        elif code == 0 or 0xD0 <= code <= 0xD7:  # an escaped byte, or a restart within the scan
            place += 2
        else:
            return place


@dataclass
class _Tiff:
    """What a walk over the directories of a TIFF has found."""

    data: bytes
    order: str
    end: int = 8
    pages: int = 0
    seen: int = 0
    read: int = 0
    size: tuple[int, int] | None = None

    def numbers(self, form: str, place: int) -> tuple[int, ...]:
        length = struct.calcsize(form)
        if place < 0 or place + length > len(self.data):
            raise DamagedError("TIFF", "a part lies beyond its end")
        self.end = max(self.end, place + length)
        return struct.unpack(self.order + form, self.data[place : place + length])

    def directory(self, place: int, *, page: bool) -> int:
        """Walk one directory and return where the next one is, 0 for none."""
        self.seen += 1
        if self.seen > _MOST_DIRECTORIES:
            raise DamagedError("TIFF", "it has too many parts")
        (count,) = self.numbers("H", place)
        found: dict[int, tuple[int, ...]] = {}
        for entry in range(count):
            tag, values = self._entry(place + 2 + 12 * entry)
            found[tag] = max(
                found.get(tag, ()), values
            )  # said twice: readers differ on which holds
        for starts, lengths in _PLACES:
            for start, length in zip(found.get(starts, ()), found.get(lengths, ()), strict=False):
                if start + length > len(self.data):
                    raise DamagedError("TIFF", "its pixels are not whole")
                self.end = max(self.end, start + length)
        if page:
            self.pages += 1
            sizes = found.get(_WIDTH, ()), found.get(_HEIGHT, ())
            if not all(sizes) or not any(starts in found for starts, _ in _PLACES):
                raise DamagedError("TIFF", "it does not state its size and pixels")
            stated = [self.size or (0, 0), (sizes[0][0], sizes[1][0])]
            tile = found.get(_TILE_WIDTH, ()), found.get(_TILE_HEIGHT, ())
            if all(tile):
                stated.append((tile[0][0], tile[1][0]))
            self.size = max(stated, key=lambda size: size[0] * size[1])
        for tag in _NOTE_DIRECTORIES:
            for inner in found.get(tag, ()):
                self.directory(inner, page=False)
        (after,) = self.numbers("I", place + 2 + 12 * count)
        return after

    def _entry(self, place: int) -> tuple[int, tuple[int, ...]]:
        tag, kind, count = self.numbers("HHI", place)
        wanted = tag in _NUMBERS or any(tag in pair for pair in _PLACES)
        wanted = wanted and kind in (3, 4, 13)
        self.read += 1 + wanted * count
        if self.read > _MOST_NUMBERS:
            raise DamagedError("TIFF", "it has too many parts")
        width = _WIDTHS.get(kind, 1)
        at = place + 8
        if width * count > 4:
            (at,) = self.numbers("I", at)
            if at + width * count > len(self.data):
                raise DamagedError("TIFF", "a part lies beyond its end")
            self.end = max(self.end, at + width * count)
        if not wanted:
            return tag, ()
        return tag, self.numbers(f"{count}{'H' if kind == 3 else 'I'}", at)


def tiff_outline(data: bytes) -> Outline:
    """Return the outline of a TIFF by walking its directories; the end is that of its last part.

    Raises:
        DamagedError: a part lies beyond the end of the file, or size or pixels are missing.
    """
    tiff = _Tiff(data, "<" if data.startswith(b"II") else ">")
    (place,) = tiff.numbers("I", 4)
    visited: set[int] = set()
    while place:
        if place in visited:
            raise DamagedError("TIFF", "its pages run in a circle")
        visited.add(place)
        place = tiff.directory(place, page=True)
    if tiff.size is None:
        raise DamagedError("TIFF", "it holds no pixels")
    end = tiff.end + tiff.end % 2  # a part may be filled up to a whole number of words
    return Outline("TIFF", *tiff.size, tiff.pages, min(end, len(data)))
