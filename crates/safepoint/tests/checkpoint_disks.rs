//! Disks of their own: one that is full, and one whose power is cut for real. They need root, and say so where they do not run.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use safepoint_testkit::faults::{Counter, Faults};
use safepoint_testkit::saves::{Acknowledged, PROGRAM, Plan, Said, Saver, verify};

/// A file system of its own, unmounted at the end.
struct Disk {
    place: PathBuf,
    folder: tempfile::TempDir,
}

impl Disk {
    /// None, and a word why, where this process may not mount such a thing.
    fn mount(prepare: impl Fn(&Path) -> Option<Vec<String>>) -> Option<Self> {
        let folder = safepoint_testkit::image::scratch().expect("a folder");
        let place = folder.path().join("disk");
        fs::create_dir(&place).expect("a directory to mount on");
        let mounted = prepare(folder.path()).is_some_and(|arguments| mount(&arguments, &place));
        #[expect(clippy::print_stderr, reason = "a test that did not run has to say so")]
        if !mounted {
            eprintln!(
                "SKIPPED: this process may not mount what the test needs (it has to be root, with mkfs.ext4 and loop devices)"
            );
        }
        mounted.then_some(Self { place, folder })
    }

    fn small() -> Option<Self> {
        Self::mount(|_| {
            Some(
                ["-t", "tmpfs", "-o", "size=2m", "tmpfs"]
                    .map(str::to_owned)
                    .to_vec(),
            )
        })
    }

    /// ext4 on a loop device over memory.
    fn ext4() -> Option<Self> {
        Self::mount(|folder| {
            let image = folder.join("image");
            fs::File::create(&image).ok()?.set_len(32 << 20).ok()?;
            let made = Command::new("mkfs.ext4")
                .args(["-q", "-F"])
                .arg(&image)
                .stderr(Stdio::null())
                .status();
            made.ok()?.success().then(|| Self::loop_arguments(folder))
        })
    }

    fn loop_arguments(folder: &Path) -> Vec<String> {
        let image = folder.join("image").display().to_string();
        vec!["-o".to_owned(), "loop".to_owned(), image]
    }

    fn store(&self) -> PathBuf {
        self.place.join("state/checkpoints")
    }

    /// Stops everything that is on its way to the device, as a power cut does, and mounts what is there.
    fn cut_power(&self, saver: &mut Child) {
        let root = fs::File::open(&self.place).expect("the disk");
        shut_down(&root).expect("FS_IOC_SHUTDOWN");
        drop(root);
        // It may have ended by itself: it cannot save any more.
        let _ = saver.kill();
        saver.wait().expect("the saver");
        let unmounted = Command::new("umount").arg(&self.place).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
        assert!(mount(
            &Self::loop_arguments(self.folder.path()),
            &self.place
        ));
    }

    /// Removes what is there, so that not even a power cut brings it back.
    fn clear(&self) {
        let state = self.place.join("state");
        if state.exists() {
            fs::remove_dir_all(&state).expect("the last state");
            let synced = Command::new("sync").arg("-f").arg(&self.place).status();
            assert!(synced.is_ok_and(|status| status.success()));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.place)
            .status();
    }
}

fn mount(arguments: &[String], place: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(place).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

mod ioctl {
    // include/uapi/linux/fs.h of Linux: FS_IOC_SHUTDOWN, and FS_SHUTDOWN_FLAGS_NOLOGFLUSH: not even the journal is written out.
    nix::ioctl_read!(shutdown, b'X', 125, u32);
    pub(super) const NO_LOG_FLUSH: u32 = 2;
}

#[expect(unsafe_code, reason = "no crate has this ioctl")]
fn shut_down(file: &fs::File) -> nix::Result<()> {
    let mut flags = ioctl::NO_LOG_FLUSH;
    // SAFETY: the descriptor is open, and the kernel reads 32 bits from a variable that outlives the call.
    unsafe { ioctl::shutdown(file.as_raw_fd(), &raw mut flags) }.map(drop)
}

/// A saver that answers line by line.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
}

impl Running {
    fn start(plan: &Plan, store: &Path, faults: Option<&Faults>) -> Self {
        let saver = Saver::new(plan.clone()).expect("cargo built the saver");
        let mut command = saver.command(store);
        command.stdin(Stdio::piped());
        if let Some(faults) = faults {
            faults.apply(&mut command).expect("faults");
        }
        let mut child = command.spawn().expect("a saver");
        Self {
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            input: child.stdin.take(),
            child,
        }
    }

    fn line(&mut self) -> Said {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        Said::parse(line.trim_end()).unwrap_or_else(|| panic!("it said `{line}`"))
    }

    /// Lets it make a step. What it said of that, notices first.
    fn step(&mut self) -> Vec<Said> {
        let input = self.input.as_mut().expect("a pipe");
        input.write_all(b"go\n").expect("it listens");
        let mut said = vec![self.line()];
        while matches!(said.last(), Some(Said::Notice(_))) {
            said.push(self.line());
        }
        said
    }
}

#[test]
fn a_full_disk_costs_no_earlier_state_and_the_program_goes_on_when_there_is_room() {
    let Some(disk) = Disk::small() else { return };
    let plan = Plan {
        bytes: 200_000,
        keep: 20,
        steps: u64::from(u32::MAX),
        prompted: true,
        ..Plan::default()
    };
    let mut saver = Running::start(&plan, &disk.store(), None);
    assert!(matches!(saver.line(), Said::Nothing { .. }));
    let mut all = Vec::new();
    let mut step = |saver: &mut Running| {
        let said = saver.step();
        all.extend(said.clone());
        said
    };
    for _ in 0..2 {
        let said = step(&mut saver);
        assert!(matches!(said.last(), Some(Said::Saved { .. })), "{said:?}");
    }
    // Somebody else takes all there is, and the two that there are must not go.
    let filler = disk.place.join("filler");
    let mut full = fs::File::create(&filler).expect("a filler");
    while full.write_all(&[7; 4096]).is_ok() {}
    let refused = step(&mut saver);
    let Some(Said::Failed { why, .. }) = refused.last() else {
        panic!("{refused:?}")
    };
    assert!(why.starts_with("Io: `model` was not saved"), "{why}");
    assert!(why.contains("No space left on device"), "{why}");
    assert!(why.contains("free some space and save again"), "{why}");
    assert!(why.contains("generation 2 is whole and stays"), "{why}");
    let folder = disk.store().join("model");
    let files = || fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(files(), 2, "two good ones are the floor");
    fs::remove_file(&filler).expect("the filler");
    drop(full);
    // Five times as much as fits: older ones go before their time, and no save fails.
    for _ in 0..50 {
        let said = step(&mut saver);
        assert!(matches!(said.last(), Some(Said::Saved { .. })), "{said:?}");
        assert!(files() >= 2);
    }
    drop(saver.input.take());
    assert!(saver.child.wait().expect("the saver").success());
    let made_room =
        |said: &&Said| matches!(said, Said::Notice(text) if text.contains("nearly full: removed"));
    assert!(all.iter().filter(made_room).count() > 1, "{all:?}");
    // The retention asked for more than the disk could hold: only the newest are looked for.
    let plan = Plan { keep: 2, ..plan };
    let acknowledged = Acknowledged::of(&all);
    let found = verify(&disk.store(), &plan, &acknowledged);
    assert_eq!(
        (found.lost, found.unreadable),
        (0, 0),
        "{:?}",
        found.problems
    );
    assert!(found.is_clean(), "{:?}", found.problems);
}

/// Cuts the power of a real file system so often while a saver runs. How often something was lost.
fn losses(disk: &Disk, plan: &Plan, cuts: u32, change: impl Fn(Faults) -> Faults) -> (u32, u64) {
    let count = Counter::new(&disk.folder.path().join("count")).expect("a counter");
    let (mut losing, mut acknowledged_saves) = (0, 0);
    for cut in 0..cuts {
        disk.clear();
        let faults = Faults::new(PROGRAM, &disk.place).expect("faults");
        let faults = change(faults.count(&count));
        let mut saver = Running::start(plan, &disk.store(), Some(&faults));
        let mut said = Vec::new();
        // The cut comes between two lines: from the first one on, and each time somewhere else in what follows.
        while said.len() < 2 + cut as usize % 7 {
            said.push(saver.line());
        }
        disk.cut_power(&mut saver.child);
        let acknowledged = Acknowledged::of(&said);
        acknowledged_saves += acknowledged.count();
        let found = verify(&disk.store(), plan, &acknowledged);
        losing += u32::from(!found.is_clean());
        #[expect(
            clippy::print_stderr,
            reason = "what was lost has to be known where nothing may be"
        )]
        for problem in found.problems {
            eprintln!("cut {cut}: {problem}");
        }
    }
    (losing, acknowledged_saves)
}

#[test]
fn a_power_cut_of_a_real_file_system_loses_no_acknowledged_state() {
    let Some(disk) = Disk::ext4() else { return };
    let endless = Plan {
        steps: u64::from(u32::MAX),
        ..Plan::default()
    };
    let large = Plan {
        bytes: 3 << 20,
        ..endless.clone()
    };
    for plan in [&endless, &large] {
        let (losing, saves) = losses(&disk, plan, 14, |faults| faults);
        assert_eq!(losing, 0);
        assert!(saves > 14, "{saves} saves");
    }
    // The control: a saver whose syncs are forged. ext4 writes names before data only when it is asked to.
    let (losing, _) = losses(&disk, &endless, 14, Faults::lie);
    assert!(losing > 7, "only {losing} of 14 cuts lost something");
    let (losing, _) = losses(&disk, &endless, 14, |faults| faults.only(&["fsync"]).lie());
    assert!(losing > 0, "no cut lost a name that was not synced");
}
