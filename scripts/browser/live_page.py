"""The live page in a real browser: it loads, updates, stops the job, and says when that has ended.

usage: live_page.py ADDRESS TOKEN [FOLDER]

Whoever starts this also runs the job that answers at ADDRESS, and lets it go on: each line that is printed says how far
the page is, and the next step waits for what the job does then. With FOLDER, pictures of the page are put there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chromium import Chromium

DONE = "document.querySelector('#figures dd')?.textContent"


def say(word: str) -> None:
    print(word, flush=True)


def text(identity: str) -> str:
    return f"document.getElementById('{identity}').textContent"


def focused(page: Chromium) -> str:
    return str(page.ask("document.activeElement.id"))


def tab_to(page: Chromium, identity: str) -> None:
    """Goes from element to element by keyboard until this one has the focus, which must be seen."""
    for _ in range(40):
        if focused(page) == identity:
            outline = page.ask("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"the focus of {identity} is not seen"
            return
        page.press("Tab", 9)
    raise AssertionError(f"{identity} is not reached by keyboard")


def looks(page: Chromium, folder: Path | None, name: str) -> None:
    for width, dark in ((1100, False), (1100, True), (360, False), (360, True)):
        page.look(width, dark)
        page.check_fits()
        if folder is not None:
            page.picture(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")
    page.look(1100)


def main() -> None:
    address, token = sys.argv[1:3]
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with Chromium() as page:
        page.look(1100)
        page.open(address)
        page.wait_for(f"{text('status')} === 'running'", "the status")
        page.wait_for(f"{DONE} === '1'", "the first item")
        page.wait_for("document.querySelectorAll('#entries tr').length === 1", "what is in progress")
        failure = page.wait_for(
            "document.querySelector('#failure-list details') && document.getElementById('failures').innerText",
            "the failure",
        )
        assert "bad <b>item</b>" in failure and "\\u{202e}" in failure, failure
        assert page.ask("document.querySelector('#failure-list b b')") is None
        page.ask("document.querySelector('#failure-list details').open = true")
        page.wait_for("document.querySelector('#failure-list pre').innerText.includes('</script>')", "standard error")
        assert page.ask("document.title").startswith("20% in"), page.ask("document.title")
        looks(page, folder, "running")

        say("loaded")
        page.wait_for(f"{DONE} === '2'", "the second item")
        opened = page.ask("document.querySelector('#failure-list details').open")
        assert opened, "what a person opened stays open"

        say("updated")
        tab_to(page, "stop")
        page.press("Enter", 13, "\r")
        page.wait_for("document.getElementById('ask').open", "the question for the token")
        page.wait_for("document.activeElement.id === 'token'", "the focus in it")
        for wrong_or_right in ("wrong-wrong-wrong-wrong", token):
            page.call("Input.insertText", text=wrong_or_right)
            page.press("Enter", 13, "\r")
            if wrong_or_right != token:
                page.wait_for(f"{text('ask-text')}.includes('not accepted')", "the refusal")
        page.wait_for(f"{text('notice')}.includes('Stopping')", "the stop")
        assert page.ask(f"{text('status')}") == "stopping"
        assert page.ask("document.getElementById('stop').disabled")
        said = page.ask(text("say"))
        assert "stopping" in said, f"a screen reader hears {said!r}"
        # The other button asks first.
        tab_to(page, "stop-now")
        page.press("Enter", 13, "\r")
        page.wait_for("document.getElementById('confirm').open", "the question")
        page.press("Escape", 27)
        page.wait_for("!document.getElementById('confirm').open", "the question to close")
        looks(page, folder, "stopping")

        say("stopping")
        page.wait_for(f"{text('notice')}.includes('has ended')", "the end")
        assert page.ask("document.getElementById('stop').disabled || document.getElementById('stops').hidden")
        looks(page, folder, "ended")
        page.ask("1")

        assert token not in page.ask("document.documentElement.outerHTML")
        storage = page.ask("JSON.stringify([localStorage.length, sessionStorage.length, document.cookie])")
        assert storage == '[0,0,""]', storage
        others = [url for url in page.requests() if not url.startswith((address, "data:"))]
        assert not others, others
        # The browser itself notes each answer 401, and each request that nobody answers when the job is gone.
        ignored = (
            "status of 401",
            "ERR_CONNECTION_REFUSED",
            "ERR_CONNECTION_RESET",
            "ERR_INCOMPLETE_CHUNKED_ENCODING",
            "ERR_EMPTY_RESPONSE",
        )
        complaints = page.complaints(ignored)
        assert not complaints, complaints
    say("ended")


if __name__ == "__main__":
    main()
