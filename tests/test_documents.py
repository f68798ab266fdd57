"""What the documents show can be run as it stands there."""

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_private_federation_of_the_privacy_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "privacy.md").read_text(), re.S)
    small = (("fashion-mnist", "digits"), ("512", "100"), ("=20", "=2"))
    for old, new in small:
        assert old in code
        code = code.replace(old, new)
    names: dict[str, object] = {}
    exec(compile(code, "docs/privacy.md", "exec"), names)
    assert len(names["result"].history) == 2
    assert names["noise"] > 1
