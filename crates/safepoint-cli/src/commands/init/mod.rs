//! `safepoint init`: a file for the platform on which a process shall run, with the arithmetic of its stop done.
//!
//! Each template starts `safepoint supervise`, and says in its comments what happens when. Nothing is written but to standard
//! output: the file belongs to whoever keeps it.

mod naming;
mod quoting;
mod template;
mod timeline;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use safepoint::job::JobPath;
use safepoint::{Error, Result};

use self::timeline::Timeline;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::Page;
use crate::render::safe;
use crate::time::parse_duration;

const JOB: &str = include_str!("templates/job.yaml");
const DEPLOYMENT: &str = include_str!("templates/deployment.yaml");
const DOCKERFILE: &str = include_str!("templates/Dockerfile");
const UNIT: &str = include_str!("templates/unit.service");
const SBATCH: &str = include_str!("templates/sbatch.sh");

/// The most that `sbatch --signal=SIG@SECONDS` takes.
const MAX_SLURM_NOTICE: u64 = 65_535;

/// Where state is in a container: below the volume, in a directory that the process makes and therefore owns.
const STATE_IN_CONTAINER: &str = "/state/safepoint";

#[derive(Debug, Subcommand)]
pub(crate) enum InitCommand {
    /// A Job or a Deployment of Kubernetes, with its volume
    K8s(K8sArgs),
    /// A Dockerfile
    Docker(DockerArgs),
    /// A unit of systemd
    Systemd(SystemdArgs),
    /// A batch script of SLURM that puts its job back into the queue
    Slurm(SlurmArgs),
}

/// What every template needs to know.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// What it is called [default: by the command]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A signal that makes the command save; up to 5s later it gets the stop signal
    #[arg(long, value_name = "SIG")]
    checkpoint_signal: Option<String>,
    /// The command to supervise, after `--` [default: python3 train.py]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Work that comes to an end
    Job,
    /// A service
    Deployment,
}

#[derive(Debug, Args)]
pub(crate) struct K8sArgs {
    #[command(flatten)]
    common: Common,
    /// What to run it as
    #[arg(long, value_name = "KIND", default_value = "job")]
    kind: Workload,
    /// The image; it has `safepoint` on its search path [default: NAME:latest]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// How long the command has after the stop signal
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "50s")]
    grace: Duration,
    /// How long a Deployment's pod goes on as if nothing were, so that no request is sent to it any more
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    pre_stop: Duration,
    /// The port of the probes
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct DockerArgs {
    #[command(flatten)]
    common: Common,
    /// The image to begin from
    #[arg(long, value_name = "IMAGE", default_value = "debian:stable-slim")]
    image: String,
    /// How long the command has after the stop signal
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "25s")]
    grace: Duration,
    /// The port of health and the live page
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct SystemdArgs {
    #[command(flatten)]
    common: Common,
    /// How long the command has after the stop signal
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "50s")]
    grace: Duration,
    /// The user it runs as [default: one that systemd makes up for it]
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
    user: Option<String>,
    /// Where it starts [default: the current directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// Where `safepoint` is
    #[arg(long, value_name = "PATH", default_value = "/usr/local/bin/safepoint", value_hint = ValueHint::FilePath)]
    program: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SlurmArgs {
    #[command(flatten)]
    common: Common,
    /// How long the command has after the stop signal
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "50s")]
    grace: Duration,
    /// How long an allocation is
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "4h")]
    time: Duration,
    /// Where `safepoint` is; a bare name is looked for on the search path
    #[arg(long, value_name = "PATH", default_value = "safepoint", value_hint = ValueHint::FilePath)]
    program: PathBuf,
}

/// Runs `safepoint init`.
pub(crate) fn command(_: &Context, command: &InitCommand) -> Result<Exit> {
    let filled = match command {
        InitCommand::K8s(args) => k8s(args),
        InitCommand::Docker(args) => docker(args),
        InitCommand::Systemd(args) => systemd(args),
        InitCommand::Slurm(args) => slurm(args),
    }?;
    let mut page = Page::new();
    page.bytes(filled.as_bytes());
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

fn k8s(args: &K8sArgs) -> Result<String> {
    let plan = Plan::new(&args.common)?;
    naming::check_label(&plan.name)?;
    let image = args
        .image
        .clone()
        .unwrap_or_else(|| format!("{}:latest", plan.name));
    naming::check_image(&image)?;
    // Only a service has somebody who still sends requests.
    let (template, pre_stop) = match args.kind {
        Workload::Job => (JOB, Duration::ZERO),
        Workload::Deployment => (DEPLOYMENT, args.pre_stop),
    };
    let timeline = Timeline::new(pre_stop, args.grace, 5);
    let listen = format!("0.0.0.0:{}", args.port);
    let words = plan.supervise(
        "safepoint",
        timeline,
        &["--state-dir", STATE_IN_CONTAINER, "--http", &listen],
    );
    let lines: Vec<String> = words
        .iter()
        .map(|word| format!("            - {}", quoting::kubernetes(word)))
        .collect();
    let mut values = plan.values(timeline, "preStop");
    values.extend([
        ("words", lines.join("\n")),
        ("image", quoting::yaml(&image)),
        ("port", args.port.to_string()),
        ("pre_stop", timeline.before.to_string()),
    ]);
    Ok(template::fill(template, &values))
}

fn docker(args: &DockerArgs) -> Result<String> {
    let plan = Plan::new(&args.common)?;
    naming::check_label(&plan.name)?;
    naming::check_image(&args.image)?;
    let timeline = Timeline::new(Duration::ZERO, args.grace, 5);
    let listen = format!("0.0.0.0:{}", args.port);
    let words = plan.supervise(
        "safepoint",
        timeline,
        &["--state-dir", STATE_IN_CONTAINER, "--http", &listen],
    );
    let words: Vec<String> = words.iter().map(|word| quoting::json(word)).collect();
    let mut values = plan.values(timeline, "");
    values.extend([
        ("words", format!("[{}]", words.join(", "))),
        ("image", args.image.clone()),
        ("port", args.port.to_string()),
    ]);
    Ok(template::fill(DOCKERFILE, &values))
}

fn systemd(args: &SystemdArgs) -> Result<String> {
    let plan = Plan::new(&args.common)?;
    let directory = match &args.directory {
        Some(directory) => directory.clone(),
        None => std::env::current_dir().map_err(|error| {
            Error::invalid("the current directory is gone")
                .with_source(error)
                .with_hint("name another one with `--directory`")
        })?,
    };
    let directory = utf8("the directory", directory.into_os_string())?;
    naming::check_path("the directory", &directory)?;
    let program = utf8("the program", args.program.clone().into_os_string())?;
    naming::check_path("the program", &program)?;
    let user = match &args.user {
        None => "# A user of its own, made up at each start, who may write to the state directory alone. `User=NAME` is another way.\nDynamicUser=yes".to_owned(),
        Some(user) => {
            naming::check_user(user)?;
            format!("User={user}")
        }
    };
    let timeline = Timeline::new(Duration::ZERO, args.grace, 10);
    let state = format!("/var/lib/{}/safepoint", plan.name);
    let words = plan.supervise(&program, timeline, &["--state-dir", &state]);
    let words: Vec<String> = words.iter().map(|word| quoting::systemd(word)).collect();
    let mut values = plan.values(timeline, "");
    values.extend([
        ("words", words.join(" ")),
        ("directory", directory.replace('%', "%%")),
        ("user", user),
    ]);
    Ok(template::fill(UNIT, &values))
}

fn slurm(args: &SlurmArgs) -> Result<String> {
    let plan = Plan::new(&args.common)?;
    // More to spare than elsewhere: the controller is asked to requeue.
    let timeline = Timeline::new(Duration::ZERO, args.grace, 10);
    let seconds = args.time.as_secs();
    if seconds <= timeline.deadline() {
        return Err(Error::invalid(format!(
            "the allocation of {seconds} s is no longer than its stop, {}",
            timeline.sum("")
        ))
        .with_hint("give more with `--time`, or less with `--grace`"));
    }
    if timeline.deadline() > MAX_SLURM_NOTICE {
        return Err(Error::invalid(format!(
            "SLURM gives notice at most {MAX_SLURM_NOTICE} s before the end, not {}",
            timeline.sum("")
        ))
        .with_hint("give less with `--grace`"));
    }
    let program = utf8("the program", args.program.clone().into_os_string())?;
    let words = plan.supervise(
        &program,
        timeline,
        // Without it the command would get the signal that SLURM sends, for which hardly anybody has a handler.
        &["--slurm", "--requeue", "--stop-signal", "TERM"],
    );
    let words: Vec<String> = words.iter().map(|word| quoting::shell(word)).collect();
    let mut values = plan.values(timeline, "");
    values.extend([
        ("words", words.join(" ")),
        ("time", slurm_time(seconds)),
        ("margin", timeline.margin.to_string()),
    ]);
    Ok(template::fill(SBATCH, &values))
}

/// What every template is made of.
struct Plan {
    name: String,
    checkpoint: Option<String>,
    command: Vec<String>,
}

impl Plan {
    fn new(common: &Common) -> Result<Self> {
        let mut command = Vec::with_capacity(common.command.len());
        for word in &common.command {
            command.push(utf8("the word", word.clone())?);
        }
        if command.is_empty() {
            command = ["python3", "train.py"].map(str::to_owned).into();
        }
        let name = match &common.name {
            None => naming::of_command(&command),
            Some(name) => {
                // The rules for a job's name, as its state directory has this name too.
                JobPath::new(".safepoint".as_ref(), name)?;
                name.clone()
            }
        };
        if let Some(signal) = &common.checkpoint_signal {
            let is_name = !signal.is_empty()
                && signal
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || letter == '+' || letter == '-');
            if !is_name {
                return Err(
                    Error::invalid(format!("`{}` is no signal", safe(signal, false)))
                        .with_hint("write for example USR1"),
                );
            }
        }
        Ok(Self {
            name,
            checkpoint: common.checkpoint_signal.clone(),
            command,
        })
    }

    /// The whole command line.
    fn supervise(&self, program: &str, timeline: Timeline, more: &[&str]) -> Vec<String> {
        let grace = format!("{}s", timeline.grace);
        let mut words = vec![program, "supervise", "--name", &self.name];
        words.extend(more);
        if let Some(signal) = &self.checkpoint {
            words.extend(["--checkpoint-signal", signal]);
        }
        words.extend(["--grace", &grace, "--"]);
        let command = self.command.iter().map(String::as_str);
        words
            .into_iter()
            .chain(command)
            .map(str::to_owned)
            .collect()
    }

    fn values(&self, timeline: Timeline, before: &str) -> Vec<(&'static str, String)> {
        let note = match &self.checkpoint {
            None => String::new(),
            Some(signal) => format!(
                ",\n#              up to 5 s of them to save, after SIG{}",
                signal.trim_start_matches("SIG")
            ),
        };
        vec![
            ("name", self.name.clone()),
            ("grace", timeline.grace.to_string()),
            ("checkpoint_note", note),
            ("grace_end", timeline.grace_end().to_string()),
            ("deadline", timeline.deadline().to_string()),
            ("sum", timeline.sum(before)),
        ]
    }
}

fn utf8(what: &str, word: OsString) -> Result<String> {
    word.into_string().map_err(|word| {
        Error::invalid(format!(
            "{what} `{}` is not UTF-8, which these files must be",
            safe(&word.to_string_lossy(), false)
        ))
        .with_hint("put such a word into a script, and name that")
    })
}

/// A time as `#SBATCH --time` wants it: `04:00:00`, `2-00:00:00`.
fn slurm_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!(
        "{:02}:{:02}:{:02}",
        rest / 3600,
        rest % 3600 / 60,
        rest % 60
    );
    if days == 0 {
        clock
    } else {
        format!("{days}-{clock}")
    }
}
