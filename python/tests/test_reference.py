"""The reference in the book says what the sources say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import safepoint

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/src/python/reference.md").read_text()


def test_the_page_is_what_the_script_writes() -> None:
    script = [sys.executable, str(ROOT / "scripts/python_reference.py"), "--check"]
    checked = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", safepoint._HOMES)
def test_each_public_name_is_on_the_page(name: str) -> None:
    assert f"### {name}\n" in PAGE or f"| `{name}` |" in PAGE


def test_everything_on_the_page_is_explained() -> None:
    attributes = re.findall(r"^- `([^`]+)`$", PAGE, re.MULTILINE)
    assert not attributes, "attributes without a docstring"
    # A heading, its definition, and then the next heading.
    things = re.findall(r"^#+ ([\w.]+)\n\n```python\n[^`]*```\n\n(?=#|\Z)", PAGE, re.MULTILINE)
    assert not things, "functions and classes without a docstring"


def test_nothing_of_the_markup_of_docstrings_is_left() -> None:
    for markup in (":class:", ":meth:", ":func:", ":attr:", "``", "::\n"):
        assert markup not in PAGE.replace("```", "")
