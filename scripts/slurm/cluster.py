"""A private SLURM cluster of one machine on the loopback device, in a directory of its own.

It needs root, `slurmctld`, `slurmd` and `munged` (Debian: slurm-wlm, munge), and nothing of /etc: it has its own
configuration, key, sockets and ports. The node pretends to have more processors than the machine has; the jobs of a
rehearsal only sleep.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel"]

CONFIGURATION = """\
ClusterName=rehearsal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for as long as a credential lives.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# No control groups: this runs in containers too.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 State=UNKNOWN
PartitionName=calm Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE PriorityTier=1 GraceTime=20
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for(what: str, holds: Callable[[], bool], patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.2)


class Cluster:
    """The cluster, as a context: it is there within, and nothing of it is left afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> Cluster:
        missing = [program for program in PROGRAMS if not shutil.which(program)]
        if missing:
            sys.exit(f"there is no {', '.join(missing)}; scripts/setup installs slurm-wlm and munge")
        folder = self.folder
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        filled = CONFIGURATION.format(host=host, folder=folder, controller=free_port(), node=free_port())
        (folder / "slurm.conf").write_text(filled)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        own = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munged.seed"}
        options = [f"--{option}={self.folder / name}" for option, name in own.items()]
        self.call("munged", *options, f"--log-file={self.folder / 'munged.log'}")
        self.call("slurmctld", "-c")
        self.call("slurmd", "-c")
        wait_for("the node", lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T"))

    def __exit__(self, *_: object) -> None:
        if (self.folder / "slurmctld.pid").exists():
            subprocess.run(["scancel", "--quiet", "--state=PENDING"], env=self.environment, check=False)
            subprocess.run(
                ["scancel", "--quiet", "--signal=KILL", "--full", "--state=RUNNING"], env=self.environment, check=False
            )
            subprocess.run(["scancel", "--quiet", "--state=RUNNING"], env=self.environment, check=False)
        for name in ("slurmd", "slurmctld", "munged"):
            file = self.folder / f"{name}.pid"
            if not file.exists():
                continue
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            wait_for(f"the end of {name}", lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]

    def call(self, *line: str, cwd: Path | None = None) -> str:
        ran = subprocess.run(
            line, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=60
        )
        if ran.returncode:
            raise SystemExit(f"{' '.join(line)}: exit {ran.returncode}: {ran.stderr.strip()}")
        return ran.stdout

    def submit(self, folder: Path, *options: str) -> str:
        """Submits the script of a folder, and returns the job's number."""
        return self.call("sbatch", "--parsable", *options, "job.sh", cwd=folder).strip()

    def show(self, job: str, field: str) -> str:
        """A field of a job, `JobState` or `Restarts`."""
        found = re.search(rf"\b{field}=(\S+)", self.call("scontrol", "show", "job", job))
        return found[1] if found else ""
