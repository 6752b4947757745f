#!/bin/bash
# A batch script of SLURM for work that takes longer than one allocation.
#
#   sbatch {{name}}.sh
#
# When the time is nearly over:
#
#   T-{{deadline}} s     SIGUSR1 to this script, which is safepoint by then; the command is asked to stop and has {{grace}} s{{checkpoint_note}}
#   T-{{margin}} s     what is left of its process tree is killed; safepoint puts the job back into the queue and leaves
#   T          SLURM ends what is left
#
# SLURM looks every 30 s or so, so the signal may come up to a minute early. Requeued, the job has the same number, and goes on
# where it was. A job that finishes is not requeued.
#SBATCH --job-name={{name}}
#SBATCH --time={{time}}
# {{sum}}. `B:` means this script alone: safepoint tells the command.
#SBATCH --signal=B:USR1@{{deadline}}
# May be put back: by safepoint, by preemption, after a node failed.
#SBATCH --requeue
# One log over all stints.
#SBATCH --open-mode=append
#SBATCH --output={{name}}-%j.log

# `exec`: without it the shell would get the signal, and would not pass it on.
# State is in .safepoint of the directory from which `sbatch` was called; every node must see it.
exec {{words}}
