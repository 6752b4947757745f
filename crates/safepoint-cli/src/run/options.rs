//! From flags to the library's options.

use safepoint::job::{Definition, Delivery, Format, MaxFailures, Options, Order};
use safepoint::{Error, Result};

use crate::args::{InputFormat, OutputOrder, RunArgs};

/// What decides the results.
pub(super) fn definition(args: &RunArgs) -> Result<Definition> {
    let format = match args.format {
        _ if args.null => Some(Format::Null),
        Some(InputFormat::Lines) => Some(Format::Lines),
        Some(InputFormat::Jsonl) => Some(Format::Jsonl),
        Some(InputFormat::Csv) => Some(Format::Csv),
        Some(InputFormat::Null) => Some(Format::Null),
        None => None,
    };
    let delivery = match (args.shell, args.stdin, args.worker) {
        (true, _, _) => Delivery::Shell,
        (_, true, _) => Delivery::Stdin,
        (_, _, true) => Delivery::Worker,
        _ => Delivery::Arguments,
    };
    if args.pipeline.is_some_and(|depth| depth > 1) && !args.worker {
        return Err(Error::invalid("`--pipeline` is for persistent workers")
            .with_hint("add `--worker`, or use more slots (`-j`)"));
    }
    Ok(Definition {
        inputs: args.inputs.clone(),
        format,
        key_field: args.key.clone(),
        command: args.command.clone(),
        delivery,
    })
}

/// What decides the speed and the bounds.
pub(super) fn options(args: &RunArgs) -> Result<Options> {
    let defaults = Options::default();
    let slots = match args.slots {
        Some(0) => {
            return Err(Error::invalid("`--slots 0` would do nothing")
                .with_hint("leave it out for one slot per processor"));
        }
        Some(slots) => slots,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    if slots > 4096 {
        return Err(Error::invalid(format!(
            "`--slots {slots}` is more than the 4096 that one run may have"
        )));
    }
    let mut retry = defaults.retry;
    if let Some(retries) = args.retries {
        retry.max_attempts = retries.saturating_add(1);
    }
    if let Some(delay) = args.retry_delay {
        retry.base = delay;
    }
    let max_failures = match &args.max_failures {
        _ if args.fail_fast => Some(MaxFailures::Count(1)),
        Some(text) => Some(parse_max_failures(text)?),
        None => None,
    };
    let order = match args.output {
        Some(OutputOrder::Ordered) => Order::Input,
        Some(OutputOrder::None) => Order::Silent,
        Some(OutputOrder::Arrival) | None => Order::Arrival,
    };
    Ok(Options {
        slots,
        pipeline: args.pipeline.unwrap_or(defaults.pipeline).clamp(1, 4096),
        retry,
        retry_failed: args.retry_failed,
        crash_limit: args.crash_limit.unwrap_or(defaults.crash_limit).max(1),
        timeout: args.timeout,
        time_limit: args.time_limit,
        ready_delay: args.http.ready_delay.unwrap_or_default(),
        kill_after: args.kill_after.unwrap_or(defaults.kill_after),
        max_failures,
        limit: args.limit,
        accept_changes: args.accept_changes,
        fresh: args.fresh,
        order,
        owns_process: true,
        environment: std::env::vars_os().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn parse_max_failures(text: &str) -> Result<MaxFailures> {
    let refuse = || {
        Error::invalid(format!(
            "`--max-failures {text}` is neither a number nor a percentage"
        ))
        .with_hint("write for example 10 or 5%")
    };
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| refuse())?;
        return if (0.0..=100.0).contains(&percent) {
            Ok(MaxFailures::Percent(percent))
        } else {
            Err(refuse())
        };
    }
    text.trim()
        .parse()
        .map(MaxFailures::Count)
        .map_err(|_| refuse())
}
