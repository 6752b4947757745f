//! Signals as people write them, and those that a supervisor passes on.

/// The signals that are passed on: all that can be caught but those of job control, of a fault in ourselves, and those that the C library keeps for
/// itself (32 and 33, see signal(7)).
pub(super) fn forwarded() -> impl Iterator<Item = i32> {
    use signal_hook::consts::{
        SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGTSTP, SIGTTIN,
        SIGTTOU,
    };
    let not = [
        SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGTSTP, SIGTTIN,
        SIGTTOU, 32, 33,
    ];
    (1..=64).filter(move |signal| !not.contains(signal))
}

/// Reads `TERM`, `SIGTERM`, `15`, `RTMIN+1`.
pub(super) fn parse_signal(text: &str) -> Result<i32, String> {
    let refuse = || format!("`{text}` is not a signal; write for example TERM, USR1 or 10");
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match name.parse() {
        Ok(number) => number,
        Err(_) => by_name(name).ok_or_else(refuse)?,
    };
    if forwarded().any(|signal| signal == number) {
        Ok(number)
    } else {
        Err(format!(
            "`{text}` cannot be used here: it cannot be caught, or it has a meaning of its own"
        ))
    }
}

fn by_name(name: &str) -> Option<i32> {
    if let Some(after) = name.strip_prefix("RTMIN") {
        let offset: i32 = if after.is_empty() {
            0
        } else {
            after.strip_prefix('+')?.parse().ok()?
        };
        // As the C library has it: the first two are its own.
        return 34_i32.checked_add(offset);
    }
    let is_named = |signal: &i32| {
        signal_hook::low_level::signal_name(*signal)
            .is_some_and(|known| known.strip_prefix("SIG") == Some(name))
    };
    (1..=64).find(is_named)
}

/// Reads `TERM=INT`; `TERM=` sends nothing.
pub(super) fn parse_map(text: &str) -> Result<(i32, i32), String> {
    let (from, to) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not a pair of signals; write for example TERM=INT"))?;
    let to = if to.trim().is_empty() || to.trim() == "0" {
        0
    } else {
        parse_signal(to)?
    };
    Ok((parse_signal(from)?, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_people_write_them() {
        for (text, number) in [
            ("TERM", 15),
            ("sigusr1", 10),
            ("2", 2),
            ("RTMIN+1", 35),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(text), Ok(number), "{text}");
        }
        for bad in ["KILL", "9", "STOP", "NOPE", "0", "65", "-1", "", "RTMIN+99"] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_map("TERM=INT"), Ok((15, 2)));
        assert_eq!(parse_map("HUP="), Ok((1, 0)));
        assert!(parse_map("TERM").is_err() && parse_map("=INT").is_err());
    }
}
