"""What a page of a sweep holds, for the tests of several commands."""

import json
import re
from typing import Any


def content_of(page: str) -> dict[str, Any]:
    """What the page draws."""
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page)
    assert found is not None
    content: dict[str, Any] = json.loads(found.group(1))
    return content
