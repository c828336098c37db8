"""Reads a page as a browser would (html.parser), and refuses what a browser would silently mend."""

from html.parser import HTMLParser

_VOID = {"meta", "br", "col", "link", "img"}
_SVG_LEAVES = {"path", "rect", "polygon", "image"}  # written self-closing


class Page(HTMLParser):
    """tags: (name, attributes) in order; texts: value of a data-test-* attribute -> text; headings: levels in order.

    Raises AssertionError on an end tag that closes nothing, or an element left open.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[tuple[str, str], str] = {}
        self.values: dict[tuple[str, str], str] = {}
        self.headings: list[int] = []
        self.text = ""
        self._open: list[tuple[str, tuple[str, str] | None]] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"an attribute twice on {tag}"
        self.tags.append((tag, found))
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        hook = next(((name, value) for name, value in found.items() if name.startswith("data-test-")), None)
        if hook and "value" in found:
            self.values[hook] = found["value"]
        if tag not in _VOID:
            self._open.append((tag, hook))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _SVG_LEAVES, tag
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1][0] == tag, f"</{tag}> closes <{self._open[-1][0]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "style":
            return
        self.text += data
        for _, hook in self._open:
            if hook:
                self.texts[hook] = self.texts.get(hook, "") + data

    @property
    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        """Elements and the names of their attributes: what text must never change."""
        return [(tag, tuple(sorted(found))) for tag, found in self.tags]
