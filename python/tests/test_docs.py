"""The pages about Python run as a reader would run them; see `book.py` for the convention."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import book

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "docs/src"

PAGES = sorted([*BOOK.glob("python/*.md"), *BOOK.glob("guides/python-*.md")])

#: Made by a script from the docstrings; `test_reference.py` looks after it.
GENERATED = BOOK / "python/reference.md"


#: Where `scripts/python-build` leaves the wheel that the tutorial installs.
WHEELS = Path(os.environ.get("SAFEPOINT_WHEELS", ROOT / "target" / "wheels-dev"))


@pytest.mark.parametrize("page", [page for page in PAGES if page != GENERATED], ids=lambda page: str(page.name))
def test_a_page_runs(page: Path, tmp_path: Path) -> None:
    if "safepoint-*.whl" in page.read_text():
        wheels = list(WHEELS.glob("safepoint-*.whl"))
        assert len(wheels) == 1, f"scripts/python-build makes the one wheel in {WHEELS}"
        (tmp_path / wheels[0].name).symlink_to(wheels[0].resolve())
    assert book.run(page, tmp_path) > 0, f"{page.name} has no block that runs"


@pytest.mark.heavy
@pytest.mark.parametrize("page", [page for page in PAGES if "heavy" in page.read_text()], ids=lambda page: page.name)
def test_a_page_runs_with_all_its_libraries(page: Path, tmp_path: Path) -> None:
    assert book.run(page, tmp_path, heavy=True) > 0


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", BOOK / "introduction.md", BOOK / "guides/queue.md"], ids=lambda page: page.name
)
def test_the_python_of_a_page_about_all_runs(page: Path, tmp_path: Path) -> None:
    assert book.run(page, tmp_path, languages={"python"}) > 0, f"{page.name} has no block of Python"


# The runner of pages itself: a page that is wrong must fail.


def page_of(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text.replace("~~~", "```"))
    return page


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("~~~python\nassert 1 == 2\n~~~\n", "AssertionError"),
        ("~~~python\n>>> 1 + 1\n3\n~~~\n", "Expected"),
        ("~~~python\nimport os\nos._exit(7)\n~~~\n", "ended with 7"),
        ("~~~python,no_run\nif True\n~~~\n", "expected ':'"),
        ("~~~console\n$ false\n~~~\n", "ended with 1"),
        ("~~~console\n$ echo one\ntwo\n~~~\n", "instead of"),
        ("~~~console\n$ echo one\none\ntwo\n~~~\n", "instead of"),
        ("~~~console\n$ echo ready; sleep 0.1\nready\n^C\n^C\n~~~\n", "could be pressed"),
    ],
)
def test_a_page_that_is_wrong_fails(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, SyntaxError), match=complaint):
        book.run(page_of(tmp_path, text), tmp_path)


def test_a_page_is_one_session(tmp_path: Path) -> None:
    text = """
~~~text
this is for reading
~~~
~~~python
# hello.py
import sys, time
try:
    print("hello", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("bye")
    sys.exit(130)
~~~
~~~console
$ cd . && name=world
$ echo $name  # a comment
world
$ python hello.py
hello
^C
bye
$ echo $?
130
$ python hello.py
hello
Killed
$ echo $?
137
$ printf 'a\\nb\\nc\\n'
a
...
c
~~~
~~~python
first = 1
~~~
~~~python
>>> first + 1
2
~~~
    ~~~python
    assert first == 1   # a block in a list
    ~~~
"""
    assert book.run(page_of(tmp_path, text), tmp_path) == 5
