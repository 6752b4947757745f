//! A directory of one's own, and the command run in it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use safepoint::queue::{AttemptRow, ItemRow, View, ViewFilter};
use serde_json::Value;
use tempfile::TempDir;

/// An empty directory that is the current one for each command, and is removed at the end.
pub(crate) struct Place {
    dir: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().expect("a directory"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// The lines of a file, none if it is not there.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The command with these arguments, not yet started; its environment has nothing that changes it.
    pub(crate) fn safepoint(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_safepoint"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SAFEPOINT_") || name == "SHUTDOWN_TIMEOUT" {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.path())
            .env("NO_COLOR", "1")
            .env("PATH", &*SEARCH_PATH)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.begin(arguments).ended()
    }
}

impl Ran {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an output becomes what was seen of it"
    )]
    pub(crate) fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// `PATH` with the folder of the real Python first: a wrapper such as pyenv's would make each worker slow to start.
static SEARCH_PATH: LazyLock<OsString> = LazyLock::new(|| {
    let path = std::env::vars_os().find(|(name, _)| name == "PATH");
    let path = path.map(|(_, value)| value).unwrap_or_default();
    let asked = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let found = String::from_utf8(asked.map(|asked| asked.stdout).unwrap_or_default());
    let Some(folder) = Path::new(found.unwrap_or_default().trim())
        .parent()
        .map(Path::to_path_buf)
    else {
        return path;
    };
    std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path))).unwrap_or(path)
});

/// How long a test waits for something that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` finds something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `holds` does.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// A FIFO at which commands wait (`read x < NAME`) until the test lets them pass.
#[derive(Debug)]
pub(crate) struct Gate {
    fifo: File,
}

impl Gate {
    /// Lets so many readers pass, now or when they come.
    pub(crate) fn pass(&self, readers: usize) {
        (&self.fifo)
            .write_all(&vec![b'\n'; readers])
            .expect("the gate opens");
    }
}

/// A command in progress, whose output goes to files. Killed if the test gives up.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    pub(crate) fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Waits until its standard error says `text`.
    pub(crate) fn says(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.stderr().contains(text) {
            assert!(
                Instant::now() < end,
                "waited in vain for {text:?} in:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Closes its standard input, if that is a pipe to us.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits until it has ended.
    pub(crate) fn ended(mut self) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return Ran {
                    code: status.code(),
                    signal: status.signal(),
                    stdout: self.stdout(),
                    stderr: self.stderr(),
                };
            }
            assert!(
                Instant::now() < end,
                "it does not end; it said:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Three signals also end its children, which a kill would leave behind.
            for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
                let _ = kill_process(self.pid(), signal);
            }
            std::thread::sleep(Duration::from_millis(50));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

impl Place {
    /// Makes a gate.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        let made = Command::new("mkfifo").arg(self.file(name)).status();
        assert!(made.is_ok_and(|status| status.success()), "a FIFO");
        // Open for reading too, so that opening waits for nobody and what is written stays until it is read.
        let fifo = File::options()
            .read(true)
            .write(true)
            .open(self.file(name))
            .expect("a gate");
        Gate { fifo }
    }

    /// Starts a command that was made by [`safepoint`](Self::safepoint).
    pub(crate) fn start(&self, command: Command) -> Running {
        self.start_with(command, None)
    }

    /// Starts a command, its standard output connected to something else than a file.
    pub(crate) fn start_into(&self, command: Command, stdout: Stdio) -> Running {
        self.start_with(command, Some(stdout))
    }

    fn start_with(&self, mut command: Command, to: Option<Stdio>) -> Running {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (
            self.file(&format!("stdout.{number}")),
            self.file(&format!("stderr.{number}")),
        );
        let child = command
            .stdout(to.unwrap_or_else(|| File::create(&stdout).expect("a file").into()))
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("it starts");
        Running {
            child,
            stdout,
            stderr,
        }
    }

    /// Starts `safepoint` with these arguments.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        self.start(self.safepoint(arguments))
    }

    /// The state directory of a job.
    pub(crate) fn state(&self, job: &str) -> PathBuf {
        self.file(".safepoint").join(job)
    }

    /// The events of a job with this name.
    pub(crate) fn events(&self, job: &str, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.state(job).join("events.jsonl"));
        text.unwrap_or_default()
            .split_inclusive('\n')
            // The last one may be in the making.
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str::<Value>(line).expect("an event is JSON"))
            .filter(|event| event["event"] == name)
            .collect()
    }

    /// All rows of a job.
    pub(crate) fn rows(&self, job: &str) -> Vec<ItemRow> {
        let mut rows = Vec::new();
        let view = View::open(&self.state(job).join("job.db")).expect("a database");
        view.for_each(ViewFilter::default(), |row| {
            rows.push(row);
            Ok(true)
        })
        .expect("rows");
        rows
    }

    /// The failed attempts of an item.
    pub(crate) fn attempts(&self, job: &str, index: u64) -> Vec<AttemptRow> {
        let view = View::open(&self.state(job).join("job.db")).expect("a database");
        view.attempts(index).expect("attempts")
    }

    /// Waits until no process is left that belongs to a job of this place.
    pub(crate) fn is_left_alone(&self) {
        let mark = [
            b"SAFEPOINT_STATE=",
            self.path().to_str().expect("plain").as_bytes(),
        ]
        .concat();
        let is_ours = |pid: &str| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable.starts_with(&mark))
        };
        wait_until("the last process to go", || {
            !std::fs::read_dir("/proc")
                .expect("a /proc")
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .any(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && is_ours(&name))
        });
    }
}
