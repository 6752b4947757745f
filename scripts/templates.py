#!/usr/bin/env python3
"""Proves the templates of `safepoint init` with the programs that will read them.

Each template is filled with commands whose words are as hostile as words can be. Then

- Kubernetes' own schemas accept the manifests, strictly, in each of its recent versions;
- hadolint accepts the Dockerfile, shellcheck and bash the batch script, `systemd-analyze verify` the unit;
- what each of them would start has exactly the words that were given: the shell really starts it, systemd says what it
  parsed, and a manifest and a Dockerfile are read as their documentation says;
- the time until SIGKILL is longer than everything that safepoint does before it.

usage: .venv/bin/python scripts/templates.py path/to/safepoint
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

# From the first with `preStop.sleep` switched on to the newest there are schemas of.
KUBERNETES = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]

COMMANDS: list[list[str]] = [
    ["python3", "train.py", "--lr=0.1"],
    ["./serve", "a b", "", "it's", 'say "no"', "back\\slash", "\\", "trailing\\"],
    ["./serve", "$HOME", "${HOME}", "$(HOSTNAME)", "$$(X)", "$", "$$", "$$$", "`id`", "$(id)", "%n", "%%", "100%"],
    ["./serve", "tab\there", "line\nend", "\r", "\x01\x1b[31m\x7f", "\u0085\u2028\u2029\ufeff", "ünï 😀", "e\u0301"],
    [
        "./serve",
        ";",
        "|",
        "&&",
        ">x",
        "#no",
        "# comment",
        "-x",
        "--",
        "--name",
        "!",
        "@",
        "{}",
        "[a]",
        "a: b",
        "*",
        "~",
    ],
    ["./serve", "yes", "null", "1e3", "0x10", "- a", "{{name}}", "}}", "{{", "<<EOF", "|-", "'", "''", '"', "{a: 1}"],
]

SECONDS = re.compile(r"(\d+)s")


def filled(safepoint: str, *arguments: str, command: list[str]) -> str:
    """What `safepoint init` prints."""
    ran = subprocess.run([safepoint, "init", *arguments, "--", *command], capture_output=True, check=True)
    return ran.stdout.decode()


def same(what: str, found: list[str], wanted: list[str]) -> None:
    """The words after `--` are the command's."""
    after = found[found.index("--") + 1 :]
    if after != wanted:
        raise SystemExit(f"{what}: it would start {after!r} instead of {wanted!r}")


def grace(words: list[str]) -> int:
    """How long safepoint takes at most, as its own arguments say."""
    own = words[: words.index("--")]
    match = SECONDS.fullmatch(own[own.index("--grace") + 1])
    assert match, own
    return int(match[1])


def longer(what: str, deadline: int, needed: int) -> None:
    """There is time to spare before SIGKILL."""
    if deadline <= needed:
        raise SystemExit(f"{what}: SIGKILL after {deadline} s, but {needed} s are needed")


def accepted(safepoint: str, words: list[str], folder: Path) -> None:
    """The real program takes these arguments: it supervises `true` with them, elsewhere and on another port."""
    own = words[1 : words.index("--") + 1]
    for option, instead in [("--state-dir", str(folder / "state")), ("--http", "127.0.0.1:0")]:
        if option in own:
            own[own.index(option) + 1] = instead
    subprocess.run([safepoint, *own, "true"], cwd=folder, check=True)


def expanded(word: str) -> str:
    """A word as the kubelet leaves it: `$$` is a dollar sign. `$(NAME)` must not be left, for it would be replaced."""
    assert "$(" not in word.replace("$$", ""), word
    return word.replace("$$", "$")


def kubernetes(safepoint: str, command: list[str], folder: Path, kind: str, versions: list[str], *more: str) -> None:
    text = filled(safepoint, "k8s", "--name", "job-1", "--kind", kind, *more, command=command)
    manifests: list[dict[str, Any]] = list(yaml.safe_load_all(text))
    for manifest in manifests:
        for version in versions:
            kubernetes_validate.validate(manifest, version, strict=True)
    pod = manifests[-1]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    words = [expanded(word) for word in container["command"]]
    same(f"k8s {kind}", words, command)
    accepted(safepoint, words, folder)
    hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    longer(f"k8s {kind}", pod["terminationGracePeriodSeconds"], hook + grace(words))


def docker(safepoint: str, command: list[str], folder: Path) -> None:
    text = filled(safepoint, "docker", "--name", "job-1", command=command)
    # hadolint 2.15 takes `"\\\\"` for the beginning of a string without an end.
    if not any(word.endswith("\\") for word in command):
        subprocess.run(["hadolint", "-"], input=text.encode(), check=True)
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    words = json.loads(entry)
    same("docker", words, command)
    accepted(safepoint, words, folder)
    (deadline,) = re.findall(r"--stop-timeout (\d+)", text)
    longer("docker", int(deadline), grace(words))


# The escapes that systemd writes within double quotes.
ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|[0-7]{3}|.)", re.DOTALL)
LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b", "s": " "}


def words_of(line: str) -> list[str]:
    """The words of a command line as systemd prints it."""

    def unescaped(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 3:
            return chr(int(code[1:], 16) if code[0] == "x" else int(code, 8))
        return LETTERS.get(code, code)

    words = re.findall(r'"(?:[^"\\]|\\.)*"|[^ ]+', line, re.DOTALL)
    plain = [ESCAPE.sub(unescaped, word[1:-1]) if word.startswith('"') else word for word in words]
    # A byte of its own each, where systemd escaped the bytes of a character.
    return [text_of_bytes(word) for word in plain]


def text_of_bytes(word: str) -> str:
    try:
        return word.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return word


def systemd(safepoint: str, command: list[str], folder: Path) -> None:
    unit = folder / "job-1.service"
    text = filled(safepoint, "systemd", "--name", "job-1", "--directory", "/", "--program", safepoint, command=command)
    unit.write_text(text)
    unit.chmod(0o644)
    verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    if verified.returncode or verified.stderr:
        raise SystemExit(f"systemd: {verified.stderr}")
    # In its test mode systemd reads units, prints what it made of them and starts nothing. It refuses to do so as root.
    manager = next(path for path in ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"] if os.path.exists(path))
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    runtime = folder / "run"
    runtime.mkdir(exist_ok=True)
    runtime.chmod(0o777)
    told = subprocess.run(
        [*nobody, manager, "--test", "--user", "--no-pager", "--unit=job-1.service"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:", "XDG_RUNTIME_DIR": str(runtime)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        check=False,
    )
    listed = told.stdout.decode(errors="replace")
    found = re.search(r"-> Unit job-1\.service:.*?Command Line: ([^\n]*)", listed, re.DOTALL)
    if not found:
        raise SystemExit(f"systemd: it does not say what it would start:\n{listed}")
    # It prints the words as they are before variables are replaced: `$$` is a dollar sign then.
    words = []
    for word in words_of(found[1]):
        assert not re.search(r"\$", word.replace("$$", "")), word
        words.append(word.replace("$$", "$"))
    same("systemd", words, command)
    accepted(safepoint, words, folder)
    (deadline,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    longer("systemd", int(deadline), grace(words))


def slurm(safepoint: str, command: list[str], folder: Path) -> None:
    text = filled(safepoint, "slurm", "--name", "job-1", command=command)
    script = folder / "job.sh"
    script.write_text(text)
    subprocess.run(["bash", "-n", script], check=True)
    # Not its notes: it suspects that somebody forgot that nothing is replaced within single quotes.
    subprocess.run(["shellcheck", "--severity=warning", script], check=True)
    # In place of safepoint: a program that prints its own words.
    stub = folder / "safepoint"
    stub.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv))\n")
    stub.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", script], env=env, stdout=subprocess.PIPE, check=True)
    words = json.loads(ran.stdout)
    same("slurm", words, command)
    accepted(safepoint, words, folder)
    (deadline,) = re.findall(r"^#SBATCH --signal=B:USR1@(\d+)$", text, re.MULTILINE)
    longer("slurm", int(deadline), grace(words))


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: templates.py path/to/safepoint")
    safepoint = str(Path(sys.argv[1]).resolve())
    # The checks that were installed with the Python of this script.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for program in ["hadolint", "shellcheck", "systemd-analyze", "setpriv"]:
        if not shutil.which(program):
            raise SystemExit(f"there is no {program}; scripts/setup installs it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for number, command in enumerate(COMMANDS):
            for kind in ["job", "deployment"]:
                # The schema does not depend on the words: one command for all versions, one version for all commands.
                kubernetes(safepoint, command, folder, kind, KUBERNETES if number == 0 else KUBERNETES[-1:])
                kubernetes(safepoint, command, folder, kind, [], "--checkpoint-signal", "USR1", "--grace", "0.5s")
            docker(safepoint, command, folder)
            systemd(safepoint, command, folder)
            slurm(safepoint, command, folder)
    print(f"{len(COMMANDS)} commands in 5 templates, each read as it was meant")


if __name__ == "__main__":
    main()
