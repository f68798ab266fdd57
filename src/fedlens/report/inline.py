"""Setting a figure into the page: an SVG document made fit to stand inside HTML beside others."""

import base64
import io
import re

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from fedlens.report.style import BLUE, INK, MUTED, PAPER, RULE

# The page's own colours, so that a chart follows the reader's light or dark setting.
_THEME = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--chart-rule)",
    PAPER: "var(--card)",
    BLUE: "var(--chart-blue)",
}
_LARGEST = 24_000  # bytes of a picture that keeps all its colours
_COLOR = re.compile("|".join(re.escape(color) for color in _THEME))
_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'(?:url\(#|href="#)([^")]+)')
_TAG = re.compile(r"<[^>]*>")


def inline_svg(document: str, prefix: str) -> Markup:
    """Return Matplotlib's SVG ``document`` as an element to be set into HTML.

    Declarations, metadata, style sheet and fixed size are dropped (the page's style sheet sees to
    them), colours become the page's, ids that nothing refers to go, and the others start with
    ``prefix`` so that many figures may share a page. Text is already escaped by Matplotlib.
    """
    svg = document[document.index("<svg") :]
    for unwanted in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<style.*?</style>"):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*</defs>\s*", "", svg)
    head, body = svg.split(">", 1)
    head = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", head)
    referred = set(_REFERENCE.findall(svg))

    def localise(found: re.Match[str]) -> str:
        tag = found[0].replace("xlink:href=", "href=")
        tag = _ID.sub(lambda m: f' id="{prefix}-{m[1]}"' if m[1] in referred else "", tag)
        tag = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", tag)
        return _COLOR.sub(lambda color: _THEME[color[0]], tag)

    return Markup(_TAG.sub(localise, f"{head}>{body}").strip())


def png_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """Return uint8 (H, W) or (H, W, 3) ``pixels`` as a ``data:`` address of a PNG.

    A picture that would take more than 24 kB keeps only its 128 most telling colours.
    """
    image = Image.fromarray(pixels)
    content = _png(image)
    if len(content) > _LARGEST:
        content = _png(image.convert("RGB").quantize(128))
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
