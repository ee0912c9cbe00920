"""What a page of the documentation offers to links."""

import re


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        n = 1
        while (name := slug if n == 1 else f"{slug}-{n - 1}") in found:
            n += 1
        found.add(name)
    return found
