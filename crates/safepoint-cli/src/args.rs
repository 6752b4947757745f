//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::http::HttpArgs;
use crate::time::parse_duration;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Run long work that can be stopped at any moment and goes on exactly where it was.
#[derive(Debug, Parser)]
#[command(name = "safepoint", version, styles = STYLES, max_term_width = 100, disable_help_subcommand = true, args_override_self = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The directory that holds the state of all jobs [default: .safepoint]
    #[arg(long, global = true, env = "SAFEPOINT_STATE_DIR", value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Global options")]
    pub(crate) state_dir: Option<PathBuf>,
    /// When to use colours; `NO_COLOR` is obeyed by `auto`
    #[arg(
        long,
        global = true,
        env = "SAFEPOINT_COLOR",
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub(crate) color: Color,
    /// Answer in JSON, with the number of its schema
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Say less: once no notices, twice no summary
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub(crate) quiet: u8,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command for every item of an input; the same command line resumes
    ///
    /// Stop it with Ctrl-C, SIGTERM, a limit or even `kill -9`, and start it again with the same command line: it goes on where it was.
    /// In arguments, `{}` is the item, `{index}` and `{key}` its index and key, `{.field}` a field of a JSON or CSV item. They are never
    /// read by a shell. Without any of them the item becomes the last argument.
    Run(Box<RunArgs>),
    /// Start one command, stop it well, start it again, and leave nothing of it behind
    ///
    /// For a training script, an agent or a service, also as the first process of a container. Signals are passed on; a stop has its steps
    /// (checkpoint signal, stop signal, grace period, SIGKILL for all that it started); limits become stops. The command's exit code or signal is passed on.
    Supervise(Box<crate::supervise::SuperviseArgs>),
    /// List the jobs, the latest first
    List(ListArgs),
    /// Say how far a job is, also while it runs
    Status(StatusArgs),
    /// Show a job, or one of its items with its attempts
    Show(ShowArgs),
    /// Print the results so far, in input order
    Results(ResultsArgs),
    /// Print what happened to a job
    Events(EventsArgs),
    /// Put all runs of a job on one page, to look at or to send
    ///
    /// The page is one HTML file that needs nothing else: a timeline over all runs with every interruption and its reason, how much was in progress and
    /// done, how long it took, what was slow, what died and why. It may be made while the job runs.
    Report(ReportArgs),
    /// Make dead items pending again, for the next run
    Retry(RetryArgs),
    /// Ask the process that runs a job to stop
    Stop(StopArgs),
    /// Remove a job and all its state
    Clean(CleanArgs),
    /// Check that the state of a job is whole: its database, checkpoints and caches
    Validate(ValidateArgs),
    /// Look at checkpoints: list, show, validate, export or prune them
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Look at a cache of results: list, validate or clear it
    #[command(subcommand)]
    Cache(CacheCommand),
    /// List the steps and effects of a program, or resolve an effect in doubt
    Steps(crate::commands::steps::StepsArgs),
    /// Push to a durable queue and claim from it; several programs may use it at once
    #[command(subcommand)]
    Queue(crate::commands::queue::QueueCommand),
    /// Print a file for Kubernetes, Docker, systemd or SLURM in which a command is supervised
    ///
    /// The file has comments that say what happens when, and its times fit each other: whoever stops the process gives it more time
    /// than it takes. It is printed and nothing else is changed: `safepoint init systemd -- ./serve > serve.service`.
    #[command(subcommand)]
    Init(crate::commands::init::InitCommand),
    /// Say what there is to know about this machine and this place
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or that of one command
    Man(ManArgs),
}

/// The job that a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobArg {
    /// A job's name or the beginning of it [default: the latest job]
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) job: JobArg,
    /// Look again every second until nobody runs the job
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) job: JobArg,
    /// An item's key or index; without it the dead and waiting items are listed
    #[arg(value_name = "ITEM")]
    pub(crate) item: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    pub(crate) job: JobArg,
    /// How to print them
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub(crate) format: ResultsFormat,
    /// Dead items too, with their error
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResultsFormat {
    Jsonl,
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) job: JobArg,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) job: JobArg,
    /// The file to write, replaced in one step [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// What to write [default: json or csv if FILE ends so, else html]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<ReportFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// A page for people
    Html,
    /// All of its figures as one object
    Json,
    /// A line for each attempt, step or child
    Csv,
    /// Trace events, for ui.perfetto.dev
    Perfetto,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    pub(crate) job: JobArg,
    /// Keys or indexes of dead items [default: all dead items]
    #[arg(value_name = "ITEM")]
    pub(crate) items: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) job: JobArg,
    /// Give up what is in progress instead of letting it finish
    #[arg(long)]
    pub(crate) now: bool,
    /// Wait until the process is gone
    #[arg(short, long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    #[command(flatten)]
    pub(crate) job: JobArg,
    /// Do not ask; JOB must be given then
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// A job's name, or the path of a state directory, of checkpoints, of a cache or of a `job.db` [default: the latest job]
    #[arg(value_name = "JOB|PATH")]
    pub(crate) job: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List the generations, the newest last; what they hold is not read
    List(CheckpointArgs),
    /// Show one generation: its metadata, fingerprint and buffers
    Show(GenerationArgs),
    /// Read every byte of every generation and say which are damaged
    Validate(CheckpointArgs),
    /// Write one generation as gzip and JSON Lines, and print the new file's path
    Export(ExportArgs),
    /// Remove old generations; the newest two, pinned and damaged ones stay
    Prune(PruneArgs),
}

/// Whose checkpoints, and which state of them.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// A directory of checkpoints, or a job that has some
    #[arg(value_name = "DIR|JOB", value_hint = ValueHint::DirPath)]
    pub(crate) place: PathBuf,
    /// The state's name [default: all of them]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Which generation.
#[derive(Debug, Args)]
pub(crate) struct GenerationArgs {
    /// A directory of checkpoints, or a job that has some
    #[arg(value_name = "DIR|JOB", value_hint = ValueHint::DirPath)]
    pub(crate) place: PathBuf,
    /// The state's name; needed if there are several
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The generation's number [default: the newest]
    #[arg(short, long, value_name = "N")]
    pub(crate) generation: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) which: GenerationArgs,
    /// The folder of the new file
    #[arg(long, value_name = "FOLDER", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) which: CheckpointArgs,
    /// How many of the newest stay, at least 2
    #[arg(long, value_name = "N", value_parser = parse_keep)]
    pub(crate) keep: usize,
    /// Each generation whose number is a multiple of this stays as well
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_every: Option<u64>,
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How many generations stay: two at least, whatever is asked for.
fn parse_keep(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count >= 2 => Ok(count),
        Ok(_) => Err("the newest 2 always stay: one to go on from, and one to fall back to".into()),
        Err(_) => Err("a number is needed, 2 or more".into()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the entries, the most recently used last
    List(CacheArgs),
    /// Read every byte of every entry and say which are damaged
    Validate(CacheArgs),
    /// Remove all entries
    Clear(CacheArgs),
}

/// Which cache.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// The cache's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) place: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// A command, for example `run`
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}

/// What `safepoint run` is told.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  safepoint run files.txt -- sha256sum {}\n  safepoint run -j 8 urls.csv --key id -- fetch --to out/{key}.json {.url}\n  seq 100 | safepoint run - --name numbers --worker -- python3 work.py"
)]
pub(crate) struct RunArgs {
    /// Inputs: files of lines, JSON Lines (.jsonl, .ndjson) or CSV (.csv), or `-` for standard input
    #[arg(required = true, value_name = "INPUT", value_hint = ValueHint::FilePath)]
    pub(crate) inputs: Vec<PathBuf>,
    /// The command, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// The job's name [default: the first input's name without its ending]
    #[arg(
        long,
        env = "SAFEPOINT_NAME",
        value_name = "NAME",
        help_heading = "Job"
    )]
    pub(crate) name: Option<String>,
    /// How to cut the inputs into items [default: by each file's ending]
    #[arg(long, value_name = "FORMAT", help_heading = "Job")]
    pub(crate) format: Option<InputFormat>,
    /// Items end with a NUL byte, as `find -print0` writes them
    #[arg(short = '0', long, conflicts_with = "format", help_heading = "Job")]
    pub(crate) null: bool,
    /// The field that is an item's key; an item whose key came before is left out
    #[arg(long, value_name = "FIELD", help_heading = "Job")]
    pub(crate) key: Option<String>,
    /// The command is a script for `sh -c`; the item is "$1"
    #[arg(long, group = "delivery", help_heading = "Job")]
    pub(crate) shell: bool,
    /// Pass the item on the command's standard input
    #[arg(long, group = "delivery", help_heading = "Job")]
    pub(crate) stdin: bool,
    /// The command is a persistent worker: it starts once per slot and speaks JSON Lines
    #[arg(long, group = "delivery", help_heading = "Job")]
    pub(crate) worker: bool,
    /// Go on although the command or done lines of the input changed
    #[arg(long, help_heading = "Job")]
    pub(crate) accept_changes: bool,
    /// Begin anew; the old state is kept as NAME.previous
    #[arg(long, conflicts_with = "accept_changes", help_heading = "Job")]
    pub(crate) fresh: bool,
    /// Print the commands instead of running them; nothing is changed
    #[arg(long, help_heading = "Job")]
    pub(crate) dry_run: bool,

    /// Attempts, or persistent workers, at a time [default: the number of processors]
    #[arg(
        short = 'j',
        long,
        env = "SAFEPOINT_SLOTS",
        value_name = "N",
        help_heading = "Speed"
    )]
    pub(crate) slots: Option<usize>,
    /// Items in flight per persistent worker [default: 1]
    #[arg(
        long,
        env = "SAFEPOINT_PIPELINE",
        value_name = "K",
        help_heading = "Speed"
    )]
    pub(crate) pipeline: Option<usize>,

    /// Further attempts after a failed one, before the item is dead [default: 2]
    #[arg(
        long,
        env = "SAFEPOINT_RETRIES",
        value_name = "N",
        help_heading = "Failures"
    )]
    pub(crate) retries: Option<u32>,
    /// Wait before the second attempt; each further wait is twice as long, up to 5m [default: 1s]
    #[arg(long, env = "SAFEPOINT_RETRY_DELAY", value_name = "TIME", value_parser = parse_duration, help_heading = "Failures")]
    pub(crate) retry_delay: Option<Duration>,
    /// Attempt the dead items of earlier runs again
    #[arg(long, help_heading = "Failures")]
    pub(crate) retry_failed: bool,
    /// End an attempt that takes longer; it has failed
    #[arg(long, env = "SAFEPOINT_TIMEOUT", value_name = "TIME", value_parser = parse_duration, help_heading = "Failures")]
    pub(crate) timeout: Option<Duration>,
    /// Stop when so many items, or so many percent of them, died in this run
    #[arg(
        long,
        env = "SAFEPOINT_MAX_FAILURES",
        value_name = "N|P%",
        help_heading = "Failures"
    )]
    pub(crate) max_failures: Option<String>,
    /// Stop when the first item dies
    #[arg(long, conflicts_with = "max_failures", help_heading = "Failures")]
    pub(crate) fail_fast: bool,
    /// Crashes of the runner during an item before the item is dead [default: 3]
    #[arg(
        long,
        env = "SAFEPOINT_CRASH_LIMIT",
        value_name = "N",
        help_heading = "Failures"
    )]
    pub(crate) crash_limit: Option<u32>,

    /// Stop gracefully after this time
    #[arg(long, env = "SAFEPOINT_TIME_LIMIT", value_name = "TIME", value_parser = parse_duration, help_heading = "Stopping")]
    pub(crate) time_limit: Option<Duration>,
    /// Begin at most so many items in this run
    #[arg(
        long,
        env = "SAFEPOINT_LIMIT",
        value_name = "N",
        help_heading = "Stopping"
    )]
    pub(crate) limit: Option<u64>,
    /// How long items in progress may finish after a stop request [default: $`SHUTDOWN_TIMEOUT` seconds, else 25s]
    #[arg(long, env = "SAFEPOINT_GRACE", value_name = "TIME", value_parser = parse_duration, help_heading = "Stopping")]
    pub(crate) grace: Option<Duration>,
    /// From SIGTERM to SIGKILL for a command that is to end [default: 2s]
    #[arg(long, env = "SAFEPOINT_KILL_AFTER", value_name = "TIME", value_parser = parse_duration, help_heading = "Stopping")]
    pub(crate) kill_after: Option<Duration>,
    /// The exit code after a graceful stop, instead of 75, 129, 130 and 143
    #[arg(
        long,
        env = "SAFEPOINT_STOP_EXIT_CODE",
        value_name = "CODE",
        help_heading = "Stopping"
    )]
    pub(crate) stop_exit_code: Option<u8>,

    /// In which order the results of this run go to standard output [default: arrival]
    #[arg(
        long,
        env = "SAFEPOINT_OUTPUT",
        value_name = "ORDER",
        help_heading = "Output"
    )]
    pub(crate) output: Option<OutputOrder>,
    /// How to show progress [default: auto]
    #[arg(
        long,
        env = "SAFEPOINT_PROGRESS",
        value_name = "HOW",
        help_heading = "Output"
    )]
    pub(crate) progress: Option<ProgressKind>,

    #[command(flatten)]
    pub(crate) http: HttpArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    Lines,
    Jsonl,
    Csv,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutputOrder {
    /// As the input has them
    Ordered,
    /// As they come
    Arrival,
    /// Not at all
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProgressKind {
    /// A bar on a terminal, else a line every 30 s
    Auto,
    /// A bar
    Bar,
    /// A line every 30 s
    Counter,
    /// Nothing
    None,
}
