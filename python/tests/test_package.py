"""The package as a thing: its names, what importing it costs, its errors, its stub, its wheel, and its command."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from importlib import import_module
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

import safepoint
from safepoint import _errors

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "python" / "safepoint"

#: Where `scripts/python-build` leaves the wheel.
WHEELS = Path(os.environ.get("SAFEPOINT_WHEELS", ROOT / "target" / "wheels-dev"))

#: What nobody should have to wait for who wants to stop a loop.
HEAVY = ["asyncio", "concurrent.futures", "dataclasses", "decimal", "inspect", "multiprocessing", "numpy", "torch"]


def python(program: str, *arguments: str, code: int = 0) -> str:
    """Runs a program of one string in a process of its own, and gives what it printed."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == code, ended.stderr
    return ended.stdout


# Names


def the_names_for_type_checkers() -> dict[str, str]:
    """What `__init__.py` imports under `TYPE_CHECKING`: name to module."""
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    found = {}
    for statement in [statement for block in blocks for statement in block.body]:
        assert isinstance(statement, ast.ImportFrom), ast.unparse(statement)
        for name in statement.names:
            assert name.asname == name.name, f"`{name.name}` is not re-exported: write `{name.name} as {name.name}`"
            found[name.name] = str(statement.module)
    return found


def test_type_checkers_and_programs_see_the_same_names() -> None:
    assert the_names_for_type_checkers() == safepoint._HOMES
    assert safepoint.__all__ == ["__version__", *safepoint._HOMES]
    assert list(safepoint._HOMES) == sorted(safepoint._HOMES), "in alphabetical order, for merges"


@pytest.mark.parametrize("name", safepoint._HOMES)
def test_each_public_name_can_be_had_and_says_what_it_is(name: str) -> None:
    thing = getattr(safepoint, name)
    assert thing is getattr(import_module(f"safepoint.{safepoint._HOMES[name]}"), name)
    assert (thing.__doc__ or "").strip(), f"`safepoint.{name}` has no docstring"
    assert name in dir(safepoint)


def test_a_name_that_is_not_there_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'safepoint' has no attribute 'shutdwon'"):
        getattr(safepoint, "shutdwon")  # noqa: B009
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from safepoint import nothing")


def test_a_star_import_gives_all_names() -> None:
    names: dict[str, object] = {}
    exec("from safepoint import *", names)
    assert set(safepoint.__all__) <= set(names)


# What an import costs


def test_an_import_loads_nothing_heavy() -> None:
    loaded = python("import sys, safepoint; print(*sys.modules)").split()
    assert [module for module in HEAVY if module in loaded] == []
    assert [module for module in loaded if module.startswith("safepoint")] == ["safepoint"]


def test_the_block_itself_loads_nothing_heavy() -> None:
    # What everybody uses: the block, a loop, a unit and a hook without `async`.
    program = """
import sys, safepoint
with safepoint.shutdown() as stop:
    for item in stop.iter(range(3)):
        with stop.unit("one"):
            stop.requested
print(*sys.modules)
"""
    loaded = python(program).split()
    assert [module for module in HEAVY if module in loaded] == []


# Errors


def the_kinds_of_the_library() -> dict[str, str]:
    """The names of `ErrorKind` in the Rust source: variant to name."""
    text = (ROOT / "crates/safepoint/src/error.rs").read_text()
    body = text.partition("fn name(self)")[2].partition("fn meaning")[0]
    return dict(re.findall(r'Self::(\w+) => "(\w+)"', body))


def test_each_kind_of_error_has_its_exception() -> None:
    kinds = the_kinds_of_the_library()
    assert len(kinds) >= 7
    assert set(_errors.BY_KIND) == set(kinds.values())
    for variant, kind in kinds.items():
        exception = getattr(safepoint, f"{variant}Error")
        assert _errors.BY_KIND[kind] is exception
        assert exception.kind == kind
        assert issubclass(exception, safepoint.Error)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("busy", BlockingIOError),
        ("closed", ValueError),
        ("corrupt", ValueError),
        ("incompatible", ValueError),
        ("invalid", ValueError),
        ("io", OSError),
        ("not_found", LookupError),
    ],
)
def test_each_exception_is_the_builtin_that_people_catch(kind: str, builtin: type[Exception]) -> None:
    assert issubclass(_errors.BY_KIND[kind], builtin)


@pytest.mark.parametrize("kind", _errors.BY_KIND)
def test_an_error_keeps_all_it_says_in_another_process(kind: str) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        error = _errors.BY_KIND[kind]("cannot open `a.ckpt`", "look at it", 5)
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert (str(again), again.hint, again.kind) == ("cannot open `a.ckpt`", "look at it", kind)
        assert again.is_retryable == (kind == "busy")
        if isinstance(again, safepoint.IoError):
            assert again.errno == 5


def test_an_error_of_the_native_half_has_kind_and_hint() -> None:
    with pytest.raises(safepoint.InvalidError) as refused, safepoint.shutdown(signals=False, grace=-1):
        pass
    assert refused.value.kind == "invalid"
    assert isinstance(refused.value, ValueError)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes are of Python 3.11")
def test_a_traceback_shows_the_hint() -> None:
    raised = subprocess.run(
        [sys.executable, "-c", "import safepoint; raise safepoint.NotFoundError('no job `a`', hint='see `list`')"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert raised.stderr.splitlines()[-2:] == ["safepoint._errors.NotFoundError: no job `a`", "hint: see `list`"]


def test_a_stop_is_no_exception_that_handlers_of_errors_catch() -> None:
    assert issubclass(safepoint.Stopped, BaseException)
    assert not issubclass(safepoint.Stopped, Exception)


# Other interpreters

SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
if sys.argv[1] == "after":
    import safepoint
    safepoint.StopReport
other = interpreters.create()
program = '''
try:
    import safepoint
    safepoint.StopReport
except ImportError as refused:
    print("refused:", refused)
else:
    print("taken")
'''
interpreters.run_string(other, program)
"""


@pytest.mark.parametrize("when", ["after", "before"])
def test_another_interpreter_of_the_process_is_refused(when: str) -> None:
    said = python(SUBINTERPRETER, when)
    assert said.startswith("refused: ")
    assert "subinterpreters" in said


# The command


def test_the_console_script_and_the_module_are_the_command() -> None:
    version = f"safepoint {safepoint.__version__}\n"
    script = Path(sys.executable).with_name("safepoint")
    for command in ([str(script)], [sys.executable, "-m", "safepoint"]):
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120, check=True)
        assert said.stdout == version
    (point,) = entry_points(group="console_scripts", name="safepoint")
    assert point.value == "safepoint._command:main"


def test_the_command_refuses_as_the_binary_does() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "safepoint", "status", "nothing"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "nothing" in refused.stderr


def test_ctrl_c_stops_a_job_of_the_command_and_the_same_line_goes_on(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("".join(f"{item}\n" for item in range(300)))
    # Each item says that it began. Open in both directions, so that no end waits for the other; what is said fits.
    said = tmp_path / "said"
    os.mkfifo(said)
    reading = os.open(said, os.O_RDWR)
    line = [
        *(sys.executable, "-m", "safepoint", "run", "items.txt", "--output", "none"),
        *("--", "sh", "-c", f'echo "$1" > {said}; sleep 0.01', "sh", "{}"),
    ]
    first = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert os.read(reading, 1), "an item began"
    os.killpg(first.pid, signal.SIGINT)
    _, told = first.communicate(timeout=120)
    assert first.returncode == 130, told
    assert "Traceback" not in told

    ask = [sys.executable, "-m", "safepoint", "status", "items", "--json"]
    status = json.loads(subprocess.run(ask, cwd=tmp_path, capture_output=True, timeout=120, check=True).stdout)
    assert status["status"] == "interrupted", status
    second = subprocess.run(
        [*line[:4], "--limit=1", *line[4:]], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "run 2" in second.stderr
    os.close(reading)


# The stub and the wheel


def test_the_stub_says_what_the_module_has(tmp_path: Path) -> None:
    allowed = ROOT / "python/stubtest.allowlist"
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest", "safepoint._native"),
            *("--allowlist", str(allowed), "--mypy-config-file", str(ROOT / "pyproject.toml")),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_installed_files_are_the_package_and_nothing_else() -> None:
    files = [str(file) for file in distribution("safepoint").files or []]
    sources = [file for file in files if file.startswith("safepoint/") and "__pycache__" not in file]
    kept = [path for path in SOURCE.rglob("*") if path.suffix in {".py", ".pyi", ".typed"}]
    expected = {f"safepoint/{path.relative_to(SOURCE)}" for path in kept}
    assert {file for file in sources if not file.endswith(".so")} == expected
    assert "safepoint/py.typed" in sources
    assert [file for file in sources if file.endswith(".so")] == ["safepoint/_native.abi3.so"]
    assert not [file for file in files if "test" in file]


def test_the_wheel_is_for_every_python_from_3_10_on() -> None:
    wheels = list(WHEELS.glob("*.whl"))
    if not wheels:
        pytest.skip(f"there is no wheel in {WHEELS}: scripts/python-build makes one")
    (wheel,) = wheels
    assert re.fullmatch(r"safepoint-[\d.]+-cp310-abi3-\w*linux\w*\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        assert "Requires-Python: >=3.10" in archive.read(metadata).decode()
        assert [name for name in names if name.endswith("LICENSE-MIT")]
    assert not [name for name in names if "tests/" in name]


@pytest.mark.heavy
def test_the_sdist_builds(tmp_path: Path) -> None:
    beside = [Path(sys.executable).with_name("maturin"), ROOT / ".venv/bin/maturin"]
    maturin = [str(next(path for path in beside if path.exists()))]
    subprocess.run([*maturin, "sdist", "--out", str(tmp_path)], cwd=ROOT, check=True, timeout=300)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if "python/tests" in name]
        archive.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    # With a target of its own nothing of the repository can help it; compiling takes minutes.
    subprocess.run(
        [*maturin, "build", "--profile", "dev", "--out", str(tmp_path / "wheels")],
        cwd=folder,
        env={**os.environ, "CARGO_TARGET_DIR": str(tmp_path / "target")},
        check=True,
        timeout=3600,
    )
    assert list((tmp_path / "wheels").glob("*.whl"))
