"""An HTML file as tests read it: strictly, so that a tag that is not closed is an error."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"br", "hr", "img", "input", "link", "meta"}
_FETCHING = {
    "src",
    "srcset",
    "href",
    "action",
    "formaction",
    "data",
    "poster",
    "background",
    "ping",
}
_IN_STYLE = re.compile(r"@import|url\(|image-set\(", re.IGNORECASE)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        parts = (each if isinstance(each, str) else each.text for each in self.children)
        return "".join(parts)

    def all(self, tag: str, **attributes: str) -> list["Element"]:
        """All elements below with this tag and these attributes; `class_` for `class`."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and wanted.items() <= child.attributes.items():
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: str, **attributes: str) -> "Element":
        (element,) = self.all(tag, **attributes)
        return element


class _Strict(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open[-1].tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def error(self, message: str) -> None:
        raise AssertionError(message)


def parse(source: str) -> Element:
    """Parse a page; every tag must be closed, in order."""
    parser = _Strict()
    parser.feed(source)
    parser.close()
    assert parser.open == [parser.root], f"<{parser.open[-1].tag}> is not closed"
    return parser.root


def fetched_by(page: Element) -> list[str]:
    """What a page refers to outside itself: addresses in attributes and in its styles."""
    found = []

    def walk(element: Element) -> None:
        for name, value in element.attributes.items():
            if name.rpartition(":")[2] in _FETCHING and not value.startswith(("data:", "#")):
                found.append(f"<{element.tag} {name}={value}>")
            if name == "style" or name.startswith("on"):
                found.append(f"<{element.tag} {name}>")
        for child in element.children:
            if isinstance(child, Element):
                walk(child)
            elif element.tag == "style":
                found.extend(_IN_STYLE.findall(child))

    walk(page)
    return found


def policy_of(page: Element) -> dict[str, list[str]]:
    """The directives of the policy (CSP) in the page."""
    (meta,) = (
        each
        for each in page.all("meta")
        if each.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    directives = (each.split() for each in meta.attributes["content"].split(";"))
    return {name: sources for name, *sources in directives}


def hash_of(inline: Element) -> str:
    """The source by which a policy admits an inline style or script."""
    digest: Any = hashlib.sha256(inline.text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
