//! `safepoint init`: one template as a whole, and what it refuses. `scripts/templates.py` gives all of them to the programs that will read them.

use crate::shown::shows;
use crate::support::Place;

#[test]
fn a_batch_script_is_printed_with_its_arithmetic_and_quoted_words() {
    let place = Place::new();
    let ran = place.run(&[
        "init",
        "slurm",
        "--time",
        "2d",
        "--grace",
        "89.5s",
        "--checkpoint-signal",
        "USR2",
        "--",
        "python3",
        "fit.py",
        "it's $HOME",
    ]);
    shows!(place, ran, @r#"
    exit 0
    --- stdout
    #!/bin/bash
    # A batch script of SLURM for work that takes longer than one allocation.
    #
    #   sbatch fit.sh
    #
    # When the time is nearly over:
    #
    #   T-100 s     SIGUSR1 to this script, which is safepoint by then; the command is asked to stop and has 90 s,
    #              up to 5 s of them to save, after SIGUSR2
    #   T-10 s     what is left of its process tree is killed; safepoint puts the job back into the queue and leaves
    #   T          SLURM ends what is left
    #
    # SLURM looks every 30 s or so, so the signal may come up to a minute early. Requeued, the job has the same number, and goes on
    # where it was. A job that finishes is not requeued.
    #SBATCH --job-name=fit
    #SBATCH --time=2-00:00:00
    # 90 s grace period + 10 s to spare = 100 s. `B:` means this script alone: safepoint tells the command.
    #SBATCH --signal=B:USR1@100
    # May be put back: by safepoint, by preemption, after a node failed.
    #SBATCH --requeue
    # One log over all stints.
    #SBATCH --open-mode=append
    #SBATCH --output=fit-%j.log

    # `exec`: without it the shell would get the signal, and would not pass it on.
    # State is in .safepoint of the directory from which `sbatch` was called; every node must see it.
    exec safepoint supervise --name fit --slurm --requeue --stop-signal TERM --checkpoint-signal USR2 --grace 90s -- python3 fit.py 'it'\''s $HOME'
    --- stderr
    "#);
}

#[test]
fn what_cannot_be_written_into_a_template_is_refused() {
    let place = Place::new();
    for (arguments, said) in [
        (
            &["k8s", "--name", "My_Job"][..],
            "error: `My_Job` cannot be a name in Kubernetes\nhint: up to 63 lower-case letters, digits and `-` in between\n",
        ),
        (
            &["docker", "--image", "debian\nRUN x"],
            "error: `debian\\nRUN x` is no name of an image\nhint: write it as `docker pull` takes it, for example registry.example/work:1\n",
        ),
        (
            &["slurm", "--time", "60s"],
            "error: the allocation of 60 s is no longer than its stop, 50 s grace period + 10 s to spare = 60 s\nhint: give more with `--time`, or less with `--grace`\n",
        ),
        (
            &["slurm", "--time", "5d", "--grace", "1d"],
            "error: SLURM gives notice at most 65535 s before the end, not 86400 s grace period + 10 s to spare = 86410 s\nhint: give less with `--grace`\n",
        ),
        (
            &["systemd", "--user", "a b"],
            "error: `a b` is no name of a user\nhint: lower-case letters, digits, `_` and `-`\n",
        ),
        (
            &["systemd", "--directory", "here"],
            "error: the directory `here` cannot stand in a unit file\nhint: an absolute path without control characters, which does not end in a space or a backslash\n",
        ),
        (
            &["slurm", "--checkpoint-signal", "USR1 --x"],
            "error: `USR1 --x` is no signal\nhint: write for example USR1\n",
        ),
        (
            &["slurm", "--name", "a\n#SBATCH --uid=0"],
            "error: `a\\n#SBATCH --uid=0` cannot name a job\nhint: use up to 100 letters, digits, dots, underscores and hyphens, not beginning with a dot or hyphen\n",
        ),
    ] {
        let ran = place.run(&[&["init"], arguments].concat());
        assert_eq!(
            (ran.code, ran.stderr.as_str(), ran.stdout.as_str()),
            (Some(2), said, ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_word_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let mut command = place.safepoint(&["init", "k8s", "--"]);
    command.arg(std::ffi::OsStr::from_bytes(b"a\xff"));
    let ran = place.start(command).ended();
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("is not UTF-8"), "{}", ran.stderr);
}
