//! `safepoint doctor`: what there is to know about this machine and this place, and what may go wrong here.

use std::io::IsTerminal;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use safepoint::disk::{FilesystemKind, free_bytes};
use safepoint::{Error, Result};
use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::{safe, show_bytes};
use crate::settings;
use crate::time::show_duration;

/// Less room than this is worth a warning.
const LITTLE_ROOM: u64 = 256 << 20;
/// Fewer open files than this are worth a warning: each slot needs about five.
const FEW_FILES: u64 = 256;
/// Orchestrators usually kill after this time.
const USUAL_KILL: std::time::Duration = std::time::Duration::from_secs(30);

/// One thing that was looked at.
struct Finding {
    name: &'static str,
    value: String,
    warning: Option<String>,
}

impl Finding {
    fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name,
            value: value.into(),
            warning: None,
        }
    }

    fn warn_if(mut self, is_bad: bool, warning: impl Into<String>) -> Self {
        if is_bad {
            self.warning = Some(warning.into());
        }
        self
    }

    fn error(name: &'static str, error: &Error) -> Self {
        Self::new(name, "unknown").warn_if(true, error.chain())
    }
}

/// Runs `safepoint doctor`.
pub(crate) fn command(context: &Context, _: &DoctorArgs) -> Result<Exit> {
    let mut findings = versions();
    findings.extend(place(&context.state_dir));
    findings.push(grace());
    findings.extend(process());
    findings.extend(bounds());
    findings.extend(kernel());

    let warnings = findings
        .iter()
        .filter(|finding| finding.warning.is_some())
        .count();
    let mut page = Page::new();
    if context.is_json {
        let checks: Vec<Value> = findings
            .iter()
            .map(|finding| json!({"name": finding.name, "value": finding.value, "warning": finding.warning}))
            .collect();
        page.json(&with_schema(
            json!({"checks": checks, "warnings": warnings}),
        ));
    } else {
        for finding in &findings {
            let mark = if finding.warning.is_some() { '!' } else { ' ' };
            page.line(&format!(
                "{mark} {:16} {}",
                finding.name,
                safe(&finding.value, false)
            ));
            if let Some(warning) = &finding.warning {
                page.line(&format!("  {:16} warning: {}", "", safe(warning, false)));
            }
        }
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

fn versions() -> Vec<Finding> {
    vec![
        Finding::new("safepoint", env!("CARGO_PKG_VERSION")),
        Finding::new(
            "SQLite",
            format!("{}, built in", safepoint::queue::sqlite_version()),
        ),
        Finding::new(
            "job.db format",
            safepoint::queue::FORMAT_VERSION.0.to_string(),
        ),
    ]
}

/// The state directory and the file system it is, or would be, on.
fn place(state_dir: &Path) -> Vec<Finding> {
    let absolute = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_path_buf());
    let existing = absolute
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let is_made = existing == absolute;
    let shown = absolute.display();
    let directory = if is_made {
        shown.to_string()
    } else {
        format!("{shown}, not made yet")
    };
    let may_write = rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_ok();
    let mut findings = vec![Finding::new("state directory", directory).warn_if(
        !may_write,
        format!(
            "`{}` may not be written to; choose another with `--state-dir`",
            existing.display()
        ),
    )];
    findings.push(match FilesystemKind::of(existing) {
        Ok(kind) => {
            let (locking, is_network) = if kind.is_network() { ("exclusive", true) } else { ("shared", false) };
            Finding::new("file system", format!("{}; write-ahead log: {locking}", kind.name())).warn_if(
                is_network,
                "a network file system: while a job runs, other processes cannot read it, and `safepoint stop` is noticed within a second",
            )
        }
        Err(error) => Finding::error("file system", &error),
    });
    findings.push(match free_bytes(existing) {
        Ok(free) => Finding::new("free room", show_bytes(free)).warn_if(
            free < LITTLE_ROOM,
            "little room; a full disk stops a run, which then can be resumed",
        ),
        Err(error) => Finding::error("free room", &error),
    });
    findings
}

fn grace() -> Finding {
    match settings::grace_in_force(Path::new(".")) {
        Ok(grace) => Finding::new(
            "grace period",
            format!("{}, from {}", show_duration(grace.time), grace.from),
        )
        .warn_if(
            grace.time >= USUAL_KILL,
            "orchestrators usually kill 30 s after they asked to stop",
        ),
        Err(error) => Finding::error("grace period", &error),
    }
}

fn process() -> Vec<Finding> {
    let pid = std::process::id();
    let mut findings = vec![if pid == 1 {
        Finding::new("process", "1: an init process, which also collects orphans")
    } else {
        Finding::new("process", pid.to_string())
    }];
    let parent = std::os::unix::process::parent_id();
    let name = read(&format!("/proc/{parent}/comm")).unwrap_or_else(|| "not to be seen".to_owned());
    findings.push(Finding::new("parent", format!("{parent} ({name})")));
    // A mask in hexadecimal; SIGHUP is bit 0, SIGINT bit 1.
    let ignored = read("/proc/self/status").and_then(|status| {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    let is_ignored = |bit: u32| ignored.is_some_and(|mask| mask & (1 << bit) != 0);
    findings.push(Finding::new(
        "SIGHUP",
        if is_ignored(0) {
            "ignored (nohup): a closed terminal does not stop a run"
        } else {
            "a closed terminal stops a run gracefully"
        },
    ));
    findings.push(
        Finding::new("SIGINT", if is_ignored(1) { "ignored" } else { "Ctrl-C stops a run gracefully" })
            .warn_if(is_ignored(1), "it was ignored by whoever started this process, as shells do for `command &` in a script"),
    );
    let streams = [
        ("stdin", std::io::stdin().is_terminal()),
        ("stdout", std::io::stdout().is_terminal()),
        ("stderr", std::io::stderr().is_terminal()),
    ];
    let terminals: Vec<&str> = streams
        .iter()
        .filter(|(_, is_terminal)| *is_terminal)
        .map(|(name, _)| *name)
        .collect();
    findings.push(Finding::new(
        "terminal",
        if terminals.is_empty() {
            "none".to_owned()
        } else {
            terminals.join(", ")
        },
    ));
    findings
}

fn bounds() -> Vec<Finding> {
    let slots = std::thread::available_parallelism().map_or(1, usize::from);
    let number =
        |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    let both = |resource| {
        let limit = getrlimit(resource);
        (
            limit.current,
            format!(
                "{} (at most {})",
                number(limit.current),
                number(limit.maximum)
            ),
        )
    };
    let (files, files_text) = both(Resource::Nofile);
    let (_, processes_text) = both(Resource::Nproc);
    let mut findings = vec![
        Finding::new("processors", format!("{slots}: so many slots by default")),
        Finding::new("open files", files_text).warn_if(
            files.is_some_and(|files| files < FEW_FILES),
            "few; each slot needs about five (`ulimit -n`)",
        ),
        Finding::new("processes", processes_text),
    ];
    findings.extend(cgroup());
    findings
}

/// The control group's limits; version 2 has one line `0::PATH`, version 1 a line per controller.
fn cgroup() -> Vec<Finding> {
    let Some(groups) = read("/proc/self/cgroup") else {
        return vec![Finding::new("cgroup", "none to be seen")];
    };
    let of_controller = |name: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            controllers
                .split(',')
                .any(|controller| controller == name)
                .then(|| parts.next())
                .flatten()
        })
    };
    let (version, memory, cpu) = if let Some(path) = of_controller("memory") {
        let memory = in_group("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
            // A number near the end of the address space is how version 1 says that there is none.
            .filter(|limit| limit.parse::<u64>().is_ok_and(|limit| limit < 1 << 60));
        let path = of_controller("cpu").unwrap_or(path);
        let quota = in_group("/sys/fs/cgroup/cpu", path, "cpu.cfs_quota_us");
        let period = in_group("/sys/fs/cgroup/cpu", path, "cpu.cfs_period_us");
        (1, memory, quota.zip(period))
    } else {
        let path = of_controller("").unwrap_or("/");
        let memory = in_group("/sys/fs/cgroup", path, "memory.max");
        let cpu = in_group("/sys/fs/cgroup", path, "cpu.max");
        let cpu = cpu.and_then(|cpu| {
            cpu.split_once(' ')
                .map(|(quota, period)| (quota.to_owned(), period.to_owned()))
        });
        (2, memory, cpu)
    };
    let memory = memory.and_then(|limit| limit.parse().ok()).map_or_else(
        || "no memory limit".to_owned(),
        |limit| format!("{} of memory", show_bytes(limit)),
    );
    let cpu = cpu
        .and_then(|(quota, period)| processors(&quota, &period))
        .unwrap_or_else(|| "no processor limit".to_owned());
    vec![Finding::new(
        "cgroup",
        format!("version {version}; {memory}; {cpu}"),
    )]
}

fn processors(quota: &str, period: &str) -> Option<String> {
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| format!("{:.2} processors", f64::from(quota) / f64::from(period)))
}

/// A group's file; inside a container the path is often not to be seen, and the root is the group's own.
fn in_group(root: &str, path: &str, file: &str) -> Option<String> {
    read(&format!("{root}{}/{file}", path.trim_end_matches('/')))
        .or_else(|| read(&format!("{root}/{file}")))
}

fn kernel() -> Vec<Finding> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let own = rustix::process::getpid();
    let has_pidfd = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()).is_ok();
    vec![
        Finding::new("kernel", release),
        Finding::new("pidfd", if has_pidfd { "yes" } else { "no" }).warn_if(
            !has_pidfd,
            "children cannot be waited for here; Linux 5.3 or later is needed, and a sandbox that allows pidfd_open",
        ),
        Finding::new("clock ticks", format!("{} a second", rustix::param::clock_ticks_per_second())),
    ]
}

/// A small text of the kernel, trimmed.
fn read(path: &str) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}
