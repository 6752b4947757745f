"""A report in a real browser: it shows, fits a phone, can be read by keyboard, asks nobody for anything, and prints.

usage: report.py FILE [FOLDER]

With FOLDER, pictures of the page are put there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chromium import Chromium

DRAWINGS = "[...document.querySelectorAll('svg[role=img]')]"


def main() -> None:
    path = Path(sys.argv[1]).resolve()
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with Chromium() as page:
        page.look(1100)
        page.open(path.as_uri())
        for width, dark in ((1100, False), (1100, True), (360, False), (360, True)):
            page.look(width, dark)
            page.check_fits()
            if folder is not None:
                page.picture(folder / f"{path.stem}-{width}-{'dark' if dark else 'light'}.png")
        drawings = page.ask(f"{DRAWINGS}.map(one => one.getBoundingClientRect().height)")
        assert drawings and all(height > 10 for height in drawings), drawings
        said = "(one, part) => one.querySelector(part)?.textContent"
        unnamed = page.ask(f"{DRAWINGS}.filter(one => !['title', 'desc'].every(part => ({said})(one, part))).length")
        assert unnamed == 0, f"{unnamed} drawings say nothing to a screen reader"
        names = page.ask(
            "[...document.querySelectorAll('[aria-labelledby]')]"
            ".flatMap(one => one.getAttribute('aria-labelledby').split(' '))"
        )
        missing = [name for name in names if not page.ask(f"document.getElementById({name!r}) !== null")]
        assert not missing, missing
        twice = page.ask(
            "[...document.querySelectorAll('[id]')].map(one => one.id).filter((id, at, all) => all.indexOf(id) !== at)"
        )
        assert not twice, twice
        # A summary opens by keyboard.
        if page.ask("document.querySelector('details') !== null"):
            page.ask("document.querySelector('details').open = false, document.querySelector('summary').focus()")
            page.press("Enter", 13, "\r")
            page.wait_for("document.querySelector('details').open", "the details")
        printed = page.call("Page.printToPDF", printBackground=True)["data"]
        assert len(printed) > 10_000, "nothing is printed"
        others = [url for url in page.requests() if url != path.as_uri()]
        assert not others, others
        assert not page.complaints(), page.complaints()
    print("read", flush=True)


if __name__ == "__main__":
    main()
