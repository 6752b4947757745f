//! `safepoint queue`: a durable queue from a shell, the same that programs open.

mod claim;
mod look;
mod push;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use safepoint::job::JobPath;
use safepoint::queue::{Builder, LeaseToken, QUEUE_DB, QueuedState, RetryPolicy};
use safepoint::{Error, ErrorKind, Queue, Result};

use crate::context::Context;
use crate::exit::Exit;
use crate::render::safe;
use crate::time::parse_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Push items: arguments, or each line of standard input
    ///
    /// The queue is made where it does not exist. What was pushed is durable when the command ends. An item with a key that is in the queue
    /// already, also if it is done or dead, changes nothing.
    Push(PushArgs),
    /// Claim the next item, and print it as JSON with the token of its lease
    ///
    /// Whoever has the token acknowledges, releases, fails or extends the lease. One that expires is claimed again. Ends with 75 if there is nothing to
    /// claim.
    Claim(ClaimArgs),
    /// Say that the item of a lease is done
    Acknowledge(AcknowledgeArgs),
    /// Give the item of a lease back; the attempt does not count
    Release(ReleaseArgs),
    /// Say that an attempt failed: the item is claimed again after a wait, or is dead
    Fail(FailArgs),
    /// Let a lease last for a time from now on
    Extend(ExtendArgs),
    /// Count the items by state
    Stats(QueueArgs),
    /// List items in the order of pushing
    List(ListArgs),
    /// Make dead items pending again: those named, or all
    Retry(RetryArgs),
    /// Forget items that were done long ago, with their keys
    Forget(ForgetArgs),
    /// Check that the queue's file is whole
    Validate(QueueArgs),
}

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The queue's name below the state directory, or the path of its directory (with a `/`)
    #[arg(value_name = "QUEUE|DIR", value_hint = ValueHint::DirPath)]
    queue: String,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    queue: QueueArgs,
    /// The payloads; `-` is each line of standard input
    #[arg(value_name = "PAYLOAD", required = true)]
    payloads: Vec<String>,
    /// The key of the item, if there is one
    #[arg(long, value_name = "KEY", conflicts_with = "unique")]
    key: Option<String>,
    /// Each payload is its own key: one that was pushed before is known
    #[arg(long)]
    unique: bool,
    /// The items can be claimed after this time only
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0")]
    delay: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ClaimArgs {
    #[command(flatten)]
    queue: QueueArgs,
    /// Wait so long for an item if there is none
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0")]
    wait: Duration,
    /// How long the lease lasts [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    lease: Option<Duration>,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Attempts before an item is dead [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct LeaseArgs {
    #[command(flatten)]
    queue: QueueArgs,
    /// What the claim gave
    #[arg(value_name = "TOKEN")]
    token: String,
}

#[derive(Debug, Args)]
pub(crate) struct AcknowledgeArgs {
    #[command(flatten)]
    lease: LeaseArgs,
    /// The result, to be kept with the item
    #[arg(long, value_name = "TEXT")]
    result: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    lease: LeaseArgs,
    /// It can be claimed after this time only
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0")]
    delay: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct FailArgs {
    #[command(flatten)]
    lease: LeaseArgs,
    /// Why
    #[arg(long, value_name = "TEXT")]
    error: String,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExtendArgs {
    #[command(flatten)]
    lease: LeaseArgs,
    /// How long, from now on
    #[arg(value_name = "TIME", value_parser = parse_duration)]
    time: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    queue: QueueArgs,
    /// Only items in this state
    #[arg(long, value_name = "STATE", value_parser = QueuedState::ALL.map(QueuedState::name))]
    state: Option<String>,
    /// So many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    limit: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    queue: QueueArgs,
    /// Keys, or numbers of items without a key [default: all dead items]
    #[arg(value_name = "ITEM")]
    items: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    queue: QueueArgs,
    /// Those that were done longer ago than this
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    done_before: Duration,
}

/// Runs one of the commands.
pub(crate) fn command(context: &Context, command: &QueueCommand) -> Result<Exit> {
    match command {
        QueueCommand::Push(args) => push::push(context, args),
        QueueCommand::Claim(args) => claim::claim(context, args),
        QueueCommand::Acknowledge(args) => claim::acknowledge(context, args),
        QueueCommand::Release(args) => claim::release(context, args),
        QueueCommand::Fail(args) => claim::fail(context, args),
        QueueCommand::Extend(args) => claim::extend(context, args),
        QueueCommand::Stats(args) => look::stats(context, args),
        QueueCommand::List(args) => look::list(context, args),
        QueueCommand::Retry(args) => look::retry(context, args),
        QueueCommand::Forget(args) => look::forget(context, args),
        QueueCommand::Validate(args) => look::validate(context, args),
    }
}

impl QueueArgs {
    fn directory(&self, context: &Context) -> Result<PathBuf> {
        if self.queue.contains('/') {
            return Ok(PathBuf::from(&self.queue));
        }
        let named = JobPath::new(&context.state_dir, &self.queue).map_err(|error| {
            Error::invalid(format!(
                "`{}` cannot name a queue",
                safe(&self.queue, false)
            ))
            .with_hint(error.hint().unwrap_or_default().to_owned())
        })?;
        Ok(named.dir())
    }

    /// Settings for a queue that exists. A command ends after what it does, so nothing is claimed ahead for it.
    fn existing(&self, context: &Context) -> Result<Builder> {
        let directory = self.directory(context)?;
        if !directory.join(QUEUE_DB).exists() {
            let message = format!(
                "no queue in `{}`",
                safe(&directory.display().to_string(), false)
            );
            return Err(Error::new(ErrorKind::NotFound, message).with_hint(
                "`safepoint queue push` makes one; for the path of a directory write a `/` into it",
            ));
        }
        Ok(Queue::builder(directory).read_ahead(0))
    }

    fn open(&self, context: &Context) -> Result<Queue> {
        self.existing(context)?.open()
    }
}

impl PolicyArgs {
    fn policy(&self) -> RetryPolicy {
        let usual = RetryPolicy::default();
        RetryPolicy {
            max_attempts: self.attempts.unwrap_or(usual.max_attempts),
            ..usual
        }
    }
}

impl LeaseArgs {
    fn token(&self) -> Result<LeaseToken> {
        self.token.parse()
    }
}
