"""What a page says, read from its HTML."""

import json
import re
from typing import Any


def content_of(page: str) -> dict[str, Any]:
    """What a page that is whole in itself draws (`analysis.page.content`)."""
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page)
    assert found is not None
    content: dict[str, Any] = json.loads(found.group(1))
    return content
