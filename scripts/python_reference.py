#!/usr/bin/env python3
"""The reference of the Python package, made from its sources: names, signatures and docstrings. What is written twice
comes apart.

    scripts/python_reference.py           writes docs/src/python/reference.md
    scripts/python_reference.py --check   says whether it is what would be written
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "python" / "safepoint"
PAGE = ROOT / "docs/src/python/reference.md"

NOTICE = "<!-- Made by `scripts/python_reference.py`. Change the docstrings, not this file. -->"

INTRODUCTION = """\
Everything public in `safepoint`, from its docstrings. The [tutorial](tutorial.md) shows how the parts go together, and
the guides say why.

- Times are seconds, as `float`, or a `datetime.timedelta`. Money is `Decimal`, `float` or `str`, counted exactly in
  millionths.
- `state="name"` is the directory `.safepoint/name` below the current one, where the command looks for jobs. A
  `pathlib.Path` is that directory itself.
- `stop=None` means the innermost `with safepoint.shutdown()` block of this process, if it is in one.
- What is durable survives `kill -9` and a power cut. The docstrings say from when on something is; what exactly is
  promised is on [one page](../concepts/guarantees.md).
- Each error is a `safepoint.Error` with `kind` and `hint`, and also the builtin that people catch for it. What is said
  at a function is what it adds to that.
- What waits or writes lets go of the interpreter, and Ctrl-C is heard meanwhile.
"""

#: The sections, and the modules whose public names are in each. A module that is not here has a section of its own.
SECTIONS = {
    "Stopping": ["_shutdown", "_unit", "_budget", "_health", "_native", "_reports"],
    "Items": ["_batch", "_map", "_worker", "_outcome"],
    "State": ["_checkpoint", "_generations", "_retention", "_schedule", "_checkpointed", "_cache"],
    "Steps": ["_steps", "_effects"],
    "A queue": ["_queue"],
    "Errors": ["_errors"],
}


@dataclass
class Module:
    """A source file, parsed."""

    path: Path
    lines: list[str] = field(init=False)
    tree: ast.Module = field(init=False)
    constants: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        text = self.path.read_text()
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        self.constants = {
            node.targets[0].id: ast.unparse(node.value)
            for node in self.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            if isinstance(node.value, ast.Constant)
        }

    def find(self, name: str) -> ast.stmt | None:
        """The definition of a name; of several, the last, which is the one behind its overloads."""
        found = [node for node in self.tree.body if name in _names(node)]
        return found[-1] if found else None

    def origin(self, name: str) -> Module:
        """The module that defines a name: this one, or the one that it is imported from to be public here."""
        if self.find(name) is not None:
            return self
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.level == 1 and name in [alias.name for alias in node.names]:
                return module(node.module or "__init__")
        return self

    def comment(self, node: ast.stmt) -> str:
        """The `#:` comment above a statement."""
        said: list[str] = []
        above = node.lineno - 2
        while above >= 0 and self.lines[above].strip().startswith("#:"):
            said.insert(0, self.lines[above].strip().removeprefix("#:").strip())
            above -= 1
        return "\n".join(said)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


_modules: dict[str, Module] = {}


def module(name: str) -> Module:
    if name not in _modules:
        path = SOURCE / f"{name}.py"
        _modules[name] = Module(path if path.exists() else path.with_suffix(".pyi"))
    return _modules[name]


def public_names() -> dict[str, list[str]]:
    """The public names by the module they live in, as `__init__.py` says."""
    found: dict[str, list[str]] = {}
    for node in module("__init__").tree.body:
        if isinstance(node, ast.Assign) and _names(node) == ["_HOMES"]:
            for name, home in ast.literal_eval(node.value).items():
                found.setdefault(home, []).append(name)
    return found


@cache
def private_classes() -> set[str]:
    """The classes of the package that are not public."""
    public = {name for names in public_names().values() for name in names}
    trees = [module(path.stem).tree for path in [*SOURCE.glob("*.py"), *SOURCE.glob("*.pyi")]]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)} - public


def integrations() -> list[str]:
    """The modules that are imported by name, such as `safepoint.torch`."""
    return sorted(path.stem for path in SOURCE.glob("*.py") if not path.stem.startswith("_"))


# Docstrings

_ROLE = re.compile(r":(?:class|meth|func|attr|mod|data):`~?([\w.]+)`")


def prose(text: str) -> str:
    """A docstring as Markdown."""
    out: list[str] = []
    lines = _dedent(text).splitlines()
    number = 0
    in_code = False
    while number < len(lines):
        line = lines[number]
        follows = lines[number + 1] if number + 1 < len(lines) else ""
        if in_code:
            if line and not line.startswith(" "):
                while out[-1] == "":
                    out.pop()
                out += ["```", ""]
                in_code = False
                continue
            out.append(line.removeprefix("    "))
        elif line.rstrip().endswith("::"):
            said = line.rstrip().removesuffix("::")
            if said.strip():
                out += [_inline(said.rstrip()) + ":", ""]
            out.append("```python")
            number += 1  # the empty line between
            in_code = True
        elif line and not line.startswith(" ") and follows.startswith("    ") and not line.endswith((".", ":")):
            # A term and what it means: a parameter.
            if out and out[-1] != "" and not out[-1].startswith("- "):
                out.append("")
            body = []
            while number + 1 < len(lines) and (lines[number + 1].startswith("    ") or not lines[number + 1]):
                number += 1
                body.append(lines[number].strip())
            while body and not body[-1]:
                body.pop()
            names = _inline(line) if "`" in line else ", ".join(f"`{name.strip()}`" for name in line.split(","))
            out.append(f"- {names}: {_inline(' '.join(part for part in body if part))}")
            if number + 1 < len(lines) and not _is_term(lines, number + 1):
                out.append("")
        else:
            out.append(_inline(line))
        number += 1
    if in_code:
        while out[-1] == "":
            out.pop()
        out.append("```")
    return "\n".join(out).strip()


def _is_term(lines: list[str], number: int) -> bool:
    return number + 1 < len(lines) and not lines[number].startswith(" ") and lines[number + 1].startswith("    ")


def _dedent(text: str) -> str:
    first, _, rest = text.strip().partition("\n")
    indents = [len(line) - len(line.lstrip()) for line in rest.splitlines() if line.strip()]
    margin = min(indents, default=0)
    return "\n".join([first, *(line[margin:] for line in rest.splitlines())])


def _inline(text: str) -> str:
    text = _ROLE.sub(lambda found: f"`{_said(found[1])}`", text)
    return text.replace("``", "`")


def _said(name: str) -> str:
    """Classes are known by their name; `map` and the like may be a builtin, too."""
    short = name.removeprefix("safepoint.")
    return short if short[0].isupper() else name


# Definitions


def signature(function: ast.FunctionDef | ast.AsyncFunctionDef, home: Module, *, bound: bool) -> str:
    """The parameters as they are written, without `self`; defaults that are constants by their value."""
    arguments = function.args
    listed = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [*[None] * (len(listed) - len(arguments.defaults)), *arguments.defaults]
    parts = [_parameter(one, default, home) for one, default in zip(listed, defaults, strict=True)]
    if bound:
        parts = parts[1:]
    if arguments.vararg is not None:
        parts.append("*" + _parameter(arguments.vararg, None, home))
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [
        _parameter(one, default, home)
        for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if not one.arg.startswith("_")
    ]
    if arguments.kwarg is not None:
        parts.append("**" + _parameter(arguments.kwarg, None, home))
    return ", ".join(parts)


def _parameter(one: ast.arg, default: ast.expr | None, home: Module) -> str:
    said = one.arg
    if one.annotation is not None:
        said += f": {_type(one.annotation)}"
    if default is None:
        return said
    value = ast.unparse(default)
    equals = " = " if one.annotation is not None else "="
    return f"{said}{equals}{home.constants.get(value, value)}"


def _type(node: ast.expr) -> str:
    text = ast.unparse(node)
    return re.sub(r"\b(?:_native|builtins|multiprocessing\.\w+)\.(?=\w)", "", text).strip("'\"")


def code(text: str) -> str:
    """A definition as a block; what is too long for a line has one for each parameter."""
    if len(text) > 110 and "(" in text:
        head, _, rest = text.partition("(")
        inside, _, tail = rest.rpartition(")")
        parts = _split(inside)
        text = f"{head}(\n" + "".join(f"    {part},\n" for part in parts) + f"){tail}"
    return f"```python\n{text}\n```"


def _split(parameters: str) -> list[str]:
    parts, depth = [""], 0
    for letter in parameters:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def function(node: ast.FunctionDef | ast.AsyncFunctionDef, home: Module, prefix: str = "") -> Iterator[str]:
    level = "####" if prefix else "###"
    yield f"{level} {prefix}{node.name}"
    before = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    is_bound = bool(prefix) and not _is(node, "staticmethod")
    returns = f" -> {_type(node.returns)}" if node.returns is not None else ""
    yield code(f"{before}{prefix}{node.name}({signature(node, home, bound=is_bound)}){returns}")
    yield prose(ast.get_docstring(node) or "")


def _is(node: ast.stmt, decorator: str) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(one).partition("(")[0].rpartition(".")[2] == decorator for one in decorators)


@dataclass
class Member:
    """What a class has, of itself, of its half in Rust or of a private base."""

    node: ast.stmt
    home: Module


def members(node: ast.ClassDef, home: Module) -> dict[str, Member]:
    found: dict[str, Member] = {}
    for base in node.bases:
        name = ast.unparse(base)
        if name.startswith("_"):
            # Nobody could look a private base up.
            theirs = module("_native") if name.startswith("_native.") else home
            inherited = theirs.find(name.removeprefix("_native."))
            assert isinstance(inherited, ast.ClassDef), name
            found.update(members(inherited, theirs))
    for statement in node.body:
        if _is(statement, "overload") or _is(statement, "setter"):
            continue
        for name in _names(statement):
            found[name] = Member(statement, home)
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            # What is set there and has a comment for readers.
            for inner in ast.walk(statement):
                if isinstance(inner, (ast.Assign, ast.AnnAssign)):
                    target = inner.targets[0] if isinstance(inner, ast.Assign) else inner.target
                    if isinstance(target, ast.Attribute) and home.comment(inner):
                        found[target.attr] = Member(inner, home)
    return found


def class_(node: ast.ClassDef, home: Module) -> Iterator[str]:
    yield f"### {node.name}"
    all_members = members(node, home)
    documentation = ast.get_docstring(node) or ""
    is_made_elsewhere = re.search(r"(?:see|What) :(?:meth|func):", documentation)
    begins = all_members.get("__init__") or all_members.get("__new__")
    is_frozen = _is(node, "dataclass")
    bases = [name for name in map(ast.unparse, node.bases) if not name.startswith(("_", "Generic", "TypedDict"))]
    is_own = begins is not None and begins.home is home and home.path.suffix == ".py"
    if begins is not None and is_own and not is_made_elsewhere and isinstance(begins.node, ast.FunctionDef):
        parameters = signature(begins.node, begins.home, bound=True)
        # Who cannot have what it takes gets it from elsewhere.
        if not private_classes() & set(re.findall(r"\w+", parameters)):
            yield code(f"{node.name}({parameters})")
    elif is_frozen and all(statement.value for statement in node.body if isinstance(statement, ast.AnnAssign)):
        fields = [statement for statement in node.body if isinstance(statement, ast.AnnAssign)]
        inside = ", ".join(ast.unparse(one) for one in fields)
        yield code(f"{node.name}({inside})")
    if bases:
        yield f"A kind of {' and '.join(f'`{name}`' for name in bases)}."
    yield prose(documentation)
    ways = [
        said
        for method, said in (
            ("__enter__", "`with`"),
            ("__aenter__", "`async with`"),
            ("__iter__", "`for`"),
            ("__aiter__", "`async for`"),
            ("__call__", "as a decorator"),
        )
        if method in all_members
    ]
    if ways:
        yield f"To be used {_listed(ways)}."
    shown = {name: member for name, member in all_members.items() if not name.startswith("_")}
    attributes = {
        name: member
        for name, member in shown.items()
        if not isinstance(member.node, (ast.FunctionDef, ast.AsyncFunctionDef)) or _is(member.node, "property")
    }
    if attributes:
        yield "It has:"
        yield "\n".join(_attributes(attributes))
    for name, member in shown.items():
        if name not in attributes and isinstance(member.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if bases and name.startswith("on_") and ast.get_docstring(member.node) is None:
                continue  # It is for the framework to call.
            yield from function(member.node, member.home, f"{node.name}.")


def _listed(words: list[str]) -> str:
    many = [word if word.startswith("as") else f"in {word}" for word in words]
    return " and ".join([", ".join(many[:-1]), many[-1]]) if len(many) > 1 else many[0]


def _attributes(attributes: dict[str, Member]) -> list[str]:
    """A line for each; those below another without a comment of their own share its line."""
    names: list[list[str]] = []
    texts: list[str] = []
    last = -1
    for name, member in attributes.items():
        node = member.node
        if isinstance(node, ast.FunctionDef):
            kind = "" if node.returns is None else _type(node.returns)
            said = ast.get_docstring(node) or ""
        else:
            kind = _type(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            kind = re.sub(r"^ClassVar\[(.*)\]$", r"\1", kind)
            said = member.home.comment(node)
        shown = f"`{name}{': ' + kind if kind else ''}`"
        if not said and node.lineno == last + 1:
            names[-1].append(shown)
        else:
            names.append([shown])
            texts.append(" ".join(prose(said).split()))
        last = node.lineno
    return [f"- {', '.join(listed)}{': ' + text if text else ''}" for listed, text in zip(names, texts, strict=True)]


def definition(name: str, home: Module) -> Iterator[str]:
    home = home.origin(name)
    node = home.find(name)
    if isinstance(node, ast.ClassDef):
        if node.name == "shutdown" or (node.name.islower() and "__enter__" in members(node, home)):
            yield from block(node, home)
        else:
            yield from class_(node, home)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from function(node, home)
    elif node is not None:
        yield f"### {name}"
        yield prose(home.comment(node))
    else:
        raise SystemExit(f"python_reference: `{name}` is not in {home.path}")


def block(node: ast.ClassDef, home: Module) -> Iterator[str]:
    """A class that is used as a function: for a `with` block, or as a decorator."""
    all_members = members(node, home)
    begins = all_members["__init__"].node
    assert isinstance(begins, ast.FunctionDef)
    gives = all_members["__enter__"].node
    yield f"### {node.name}"
    yield code(f"with {node.name}({signature(begins, home, bound=True)}) as stop:")
    if isinstance(gives, ast.FunctionDef) and gives.returns is not None:
        yield f"Gives a `{_type(gives.returns)}`."
    yield prose(ast.get_docstring(node) or "")


def errors(names: list[str]) -> Iterator[str]:
    """The exceptions in a table; what all have in common above it."""
    home = module("_errors")
    kinds = []
    others = []
    for name in names:
        node = home.find(name)
        assert isinstance(node, ast.ClassDef)
        bases = [ast.unparse(base) for base in node.bases]
        if bases[0] != "Error":
            others.append(node)
            continue
        meaning = " ".join(prose(ast.get_docstring(node) or "").split())
        named = [one for one in node.body if isinstance(one, ast.Assign) and _names(one) == ["kind"]]
        kind = ast.literal_eval(named[0].value)
        kinds.append(f"| `{name}` | `{kind}` | {', '.join(f'`{base}`' for base in bases[1:])} | {meaning} |")
    for node in others:
        yield from class_(node, home)
        if node.name == "Error":
            yield "\n".join(["| exception | `kind` | is also a | when |", "|---|---|---|---|", *kinds])


def integration(name: str) -> Iterator[str]:
    home = module(name)
    yield f"## safepoint.{name}"
    yield prose(ast.get_docstring(home.tree) or "")
    listed = [node for node in home.tree.body if isinstance(node, ast.Assign) and _names(node) == ["__all__"]]
    if listed:
        names = ast.literal_eval(listed[0].value)
    else:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        defined = [node.name for node in home.tree.body if isinstance(node, kinds) and not _is(node, "overload")]
        names = [name for name in dict.fromkeys(defined) if not name.startswith("_")]
    for public in names:
        for part in definition(public, home):
            yield part.replace("### ", f"### safepoint.{name}.", 1) if part.startswith("### ") else part


def _place(name: str, home: str) -> tuple[int, int]:
    """What the module is called after comes first, then the order of the source."""
    node = module(home).find(name)
    if node is None:
        return (len(SECTIONS), 0)
    word = home.strip("_")
    first = [word, f"{word.capitalize()}Store", word.capitalize()]
    return (first.index(name) if name in first else len(first), node.lineno)


def _home(name: str, home: str) -> Module:
    """Where a name is defined, through what its home imports, or the native half."""
    there = module(home).origin(name)
    return there if there.find(name) is not None else module("_native")


def page() -> str:
    """The whole page."""
    parts = ["# Python reference", NOTICE, INTRODUCTION.strip()]
    homes = public_names()
    # The native half has something of each; what begins with a section's word belongs there.
    for name in [name for name in homes.get("_native", []) if name.startswith(("Steps", "Queue"))]:
        homes["_native"].remove(name)
        homes.setdefault(f"_{re.findall('[A-Z][a-z]+', name)[0].lower()}", []).append(name)
    known = [home for listed in SECTIONS.values() for home in listed]
    others = {home.strip("_").capitalize(): [home] for home in homes if home not in known}
    sections = {**SECTIONS, **others}
    sections["Errors"] = sections.pop("Errors")
    for title, listed in sections.items():
        if not any(home in homes for home in listed):
            continue
        parts.append(f"## {title}")
        for home in listed:
            if home == "_errors":
                parts += errors(homes.get(home, []))
                continue
            for name in sorted(homes.get(home, []), key=lambda name: _place(name, home)):
                parts += definition(name, _home(name, home))
    for name in integrations():
        parts += integration(name)
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> int:
    text = page()
    if sys.argv[1:] == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == text:
            return 0
        print(f"{PAGE.relative_to(ROOT)} is not what `scripts/python_reference.py` writes: run it", file=sys.stderr)
        return 1
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
