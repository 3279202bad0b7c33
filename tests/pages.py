"""A page as tests read it: its words and its tags."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "circle", "rect"}


class Page(HTMLParser):
    """Collects what the tests ask of a page; fails on tags that do not nest."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.tags, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))
