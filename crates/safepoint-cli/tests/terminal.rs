//! The command in a real terminal: a pseudo-terminal whose other side the test reads and types on.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::support::{Place, wait_for, wait_until};

const CTRL_C: &[u8] = b"\x03";
const CTRL_Z: &[u8] = b"\x1a";

/// Longer than the time in which repeated signals count once.
const APART: Duration = Duration::from_millis(130);

/// A command with a terminal of its own, in whose foreground it is.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Runs `safepoint` with these arguments; what `redirect` leaves alone is the terminal.
    pub(crate) fn start(
        place: &Place,
        arguments: &[&str],
        redirect: impl FnOnce(&mut Command),
    ) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let flags = i32::try_from(OFlags::NOCTTY.bits()).expect("a flag");
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .custom_flags(flags)
                .open(name.to_str().expect("plain"))
                .expect("a terminal")
        };
        let slave = open();
        let size = Winsize {
            ws_row: 40,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).expect("a size");
        let made = place.safepoint(arguments);
        // A session of its own, with the terminal as the controlling one: Ctrl-C then is a signal to its foreground group.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(made.get_program())
            .args(made.get_args());
        for (name, value) in made.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .current_dir(place.path())
            .stdin(open())
            .stdout(open())
            .stderr(open());
        redirect(&mut command);
        let child = command.spawn().expect("it starts");
        drop((slave, command));
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().expect("a copy");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It ends with an error when the last program has closed the terminal.
            while let Ok(count) = screen.read(&mut buffer) {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            child,
            keyboard,
            seen,
            reader,
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("typed");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Everything that was ever written to the terminal.
    fn raw(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// The same, once no program has the terminal any more.
    fn all(&self) -> String {
        wait_until("the terminal to be closed", || self.reader.is_finished());
        self.raw()
    }

    pub(crate) fn shows(&self, text: &str) {
        wait_until(text, || self.raw().contains(text));
    }

    /// `R`, `S`, `T`, … as the kernel has it.
    fn state(&self) -> Option<char> {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(") ").next()?.chars().next()
    }

    /// Waits for the end; what is then on the screen, its exit code and its signal.
    fn ended(mut self) -> (Screen, Option<i32>, Option<i32>) {
        let status = wait_for("it to end", || {
            self.child.try_wait().expect("it is our child")
        });
        (Screen::of(&self.all()), status.code(), status.signal())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            for signal in [Signal::CONT, Signal::INT, Signal::TERM, Signal::HUP] {
                let _ = kill_process(self.pid(), signal);
            }
            std::thread::sleep(Duration::from_millis(50));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What is on a screen after everything was drawn: as much of a terminal as a progress bar uses.
#[derive(Debug)]
struct Screen {
    lines: Vec<String>,
    column: usize,
    shows_cursor: bool,
}

impl Screen {
    fn of(raw: &str) -> Self {
        let mut lines: Vec<Vec<char>> = vec![Vec::new()];
        let (mut row, mut column, mut shows_cursor) = (0, 0, true);
        let mut letters = raw.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\r' => column = 0,
                '\n' => {
                    row += 1;
                    if row == lines.len() {
                        lines.push(Vec::new());
                    }
                }
                '\u{1b}' => {
                    assert_eq!(letters.next(), Some('['), "an unknown sequence in {raw:?}");
                    let mut parameters = String::new();
                    let last = loop {
                        match letters.next() {
                            Some(letter) if letter.is_ascii_alphabetic() => break letter,
                            Some(letter) => parameters.push(letter),
                            None => panic!("a sequence is cut off in {raw:?}"),
                        }
                    };
                    let number = parameters.parse().unwrap_or(1);
                    match (last, parameters.as_str()) {
                        ('m', _) => {}
                        ('K', "" | "0") => lines[row].truncate(column),
                        ('K', "2") => lines[row].clear(),
                        ('J', "" | "0") => {
                            lines[row].truncate(column);
                            lines.truncate(row + 1);
                        }
                        ('A', _) => row = row.saturating_sub(number),
                        ('B', _) => row = (row + number).min(lines.len() - 1),
                        ('G', _) => column = number - 1,
                        ('h', "?25") => shows_cursor = true,
                        ('l', "?25") => shows_cursor = false,
                        _ => panic!("an unknown sequence {parameters}{last} in {raw:?}"),
                    }
                }
                letter => {
                    assert!(!letter.is_control(), "{letter:?} in {raw:?}");
                    let line = &mut lines[row];
                    if line.len() <= column {
                        line.resize(column + 1, ' ');
                    }
                    line[column] = letter;
                    column += 1;
                }
            }
        }
        Self {
            lines: lines
                .into_iter()
                .map(|line| line.into_iter().collect::<String>().trim_end().to_owned())
                .collect(),
            column,
            shows_cursor,
        }
    }

    /// Whether the next prompt would stand on an empty line of a terminal in order, without a bar above it.
    fn is_clean(&self) -> bool {
        self.shows_cursor
            && self.column == 0
            && self.lines.last().is_some_and(String::is_empty)
            && !self.lines.iter().any(|line| line.contains(BAR))
    }
}

/// What only the bar has.
const BAR: char = '━';

/// Some quick items, then one that waits at the gate.
const GATED: &str =
    r#"[ "$1" -lt 3 ] && exit 0; echo "$1 $SAFEPOINT_ATTEMPT $$" >> began; read x < gate"#;

fn arguments<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let mut all = vec!["run", "-j1", "in.txt", "--shell"];
    all.extend(options);
    all.extend(["--", script]);
    all
}

fn gated(place: &Place, options: &[&str]) -> Terminal {
    place.write("in.txt", "0\n1\n2\n3\n4\n");
    let terminal = Terminal::start(place, &arguments(options, GATED), |_| {});
    wait_until("an item to begin", || !place.lines("began").is_empty());
    terminal
}

#[test]
fn the_terminal_is_left_in_order_after_every_kind_of_end() {
    // All done.
    let place = Place::new();
    let gate = place.gate("gate");
    let terminal = gated(&place, &[]);
    terminal.shows("60% 3/5");
    gate.pass(2);
    let (screen, code, _) = terminal.ended();
    assert_eq!(code, Some(0));
    assert!(screen.is_clean(), "{screen:?}");
    assert!(
        screen
            .lines
            .iter()
            .any(|line| line.contains("5 of 5 items done")),
        "{screen:?}"
    );

    // Ctrl-C: it reaches only us, so what is in progress finishes.
    let place = Place::new();
    let gate = place.gate("gate");
    let mut terminal = gated(&place, &[]);
    terminal.shows("60% 3/5");
    terminal.press(CTRL_C);
    terminal.shows("1 in progress may finish");
    gate.pass(1);
    let (screen, code, _) = terminal.ended();
    assert_eq!(code, Some(130), "{screen:?}");
    assert!(screen.is_clean(), "{screen:?}");
    assert!(
        screen
            .lines
            .iter()
            .any(|line| line.contains("4 of 5 items done")),
        "{screen:?}"
    );

    // Twice.
    let place = Place::new();
    let _gate = place.gate("gate");
    let mut terminal = gated(&place, &[]);
    terminal.shows("60% 3/5");
    terminal.press(CTRL_C);
    terminal.shows("1 in progress may finish");
    std::thread::sleep(APART);
    terminal.press(CTRL_C);
    let (screen, _, signal) = terminal.ended();
    assert_eq!(signal, Some(2), "{screen:?}");
    assert!(screen.is_clean(), "{screen:?}");
    place.is_left_alone();

    // Three times, with a command that does not listen.
    let place = Place::new();
    let _gate = place.gate("gate");
    place.write("in.txt", "0\n1\n2\n3\n4\n");
    let script = format!("trap '' TERM INT; {GATED}");
    let mut terminal =
        Terminal::start(&place, &arguments(&["--kill-after", "1h"], &script), |_| {});
    terminal.shows("60% 3/5");
    terminal.press(CTRL_C);
    terminal.shows("1 in progress may finish");
    std::thread::sleep(APART);
    terminal.press(CTRL_C);
    terminal.shows("once more kills everything at once");
    std::thread::sleep(APART);
    terminal.press(CTRL_C);
    let (screen, _, signal) = terminal.ended();
    assert_eq!(signal, Some(2), "{screen:?}");
    assert!(screen.is_clean(), "{screen:?}");
    place.is_left_alone();

    // An error, once it draws already.
    let place = Place::new();
    place.write("in.txt", "0\n");
    let terminal = Terminal::start(
        &place,
        &[
            "run",
            "-j1",
            "in.txt",
            "--worker",
            "--",
            "sh",
            "-c",
            "sleep 0.15; exit 3",
        ],
        |_| {},
    );
    let (screen, code, _) = terminal.ended();
    assert_eq!(code, Some(1), "{screen:?}");
    assert!(screen.is_clean(), "{screen:?}");
}

#[test]
fn progress_is_drawn_where_and_as_it_was_asked_for() {
    for (options, has_bar) in [
        (&[][..], true),
        (&["--progress", "bar"], true),
        (&["--progress", "none"], false),
        (&["--progress", "counter"], false),
        (&["-q", "-q"], false),
    ] {
        let place = Place::new();
        let gate = place.gate("gate");
        let terminal = gated(&place, options);
        if has_bar {
            terminal.shows("60% 3/5");
        }
        gate.pass(2);
        let raw = terminal.all();
        assert_eq!(raw.contains(BAR), has_bar, "{options:?}: {raw:?}");
        let (screen, code, _) = terminal.ended();
        assert_eq!(code, Some(0));
        assert!(screen.is_clean(), "{options:?} {screen:?}");
        if options.contains(&"-q") {
            assert!(
                screen.lines.iter().all(String::is_empty),
                "{options:?} {screen:?}"
            );
        }
    }

    // Elsewhere there is no bar, whatever is asked for, and nothing that steers a terminal.
    for options in [&[][..], &["--progress", "bar"]] {
        let place = Place::new();
        place.write("in.txt", "0\n1\n2\n");
        let ran = place.run(&arguments(options, "exit 0"));
        assert!(
            ran.code == Some(0) && !ran.stderr.contains(BAR) && !ran.stderr.contains('\u{1b}'),
            "{:?}",
            ran.stderr
        );
    }
}

#[test]
fn colours_are_used_as_they_are_wanted() {
    let colours = |options: &[&str], no_color: bool| {
        let place = Place::new();
        let gate = place.gate("gate");
        place.write("in.txt", "0\n1\n2\n3\n");
        let script = format!("[ $1 = 1 ] && exit 9; {GATED}");
        let mut all = vec!["--retries", "0"];
        all.extend(options);
        let terminal = Terminal::start(&place, &arguments(&all, &script), |command| {
            if no_color {
                command.env("NO_COLOR", "1");
            }
        });
        terminal.shows("75% 3/4");
        gate.pass(1);
        let raw = terminal.all();
        let (screen, code, _) = terminal.ended();
        assert_eq!(code, Some(3), "{screen:?}");
        // Where a sequence that sets a colour stands: in the bar (cyan), in notices (yellow, red).
        (raw.contains("\u{1b}[36m"), raw.contains("\u{1b}[33m"))
    };
    assert_eq!(colours(&[], false), (true, true));
    assert_eq!(colours(&[], true), (false, false));
    assert_eq!(colours(&["--color", "never"], false), (false, false));
    assert!(colours(&["--color", "always"], true).1);
}

#[test]
fn what_commands_write_cannot_steer_the_terminal() {
    let hostile =
        r"printf 'out\033[2J\033]0;title\007\rback\b\302\233m\n'; printf 'err\033[2J\007\n' >&2";
    let place = Place::new();
    place.write("in.txt", "\u{1b}[2Jitem\n");
    for (script, said) in [
        (format!("{hostile}; exit 0"), "out\\u{1b}[2J"),
        (
            format!("{hostile}; exit 3"),
            "attempt 1 failed: exit 3: err",
        ),
        (
            format!("{hostile}; echo '{{\"error\":\"no\\u001b[2J\"}}' >&3"),
            "no\\u{1b}[2J",
        ),
    ] {
        let options = ["--fresh", "--retries", "0"];
        let terminal = Terminal::start(&place, &arguments(&options, &script), |_| {});
        terminal.shows(said);
        // `ended` refuses every control character and every sequence but the bar's own.
        let (screen, _, _) = terminal.ended();
        assert!(screen.is_clean(), "{screen:?}");
    }
    // Where a program reads them, results are what they are.
    let ran = place.run(&arguments(&["--fresh"], "printf 'a\\033[2J'"));
    assert_eq!(ran.stdout, "a\u{1b}[2J\n");
    // An item's key, its content and a changed command in errors.
    let terminal = Terminal::start(
        &place,
        &["run", "in.txt", "--", "echo", "\u{1b}[2J{}"],
        |_| {},
    );
    terminal.shows("made by another command");
    let (screen, code, _) = terminal.ended();
    assert_eq!(code, Some(5), "{screen:?}");
    assert!(screen.is_clean(), "{screen:?}");
}

#[test]
fn ctrl_z_suspends_all_and_the_time_counts_against_no_limit() {
    let place = Place::new();
    let gate = place.gate("gate");
    let mut terminal = gated(&place, &["--timeout", "1500ms", "--time-limit", "1h"]);
    terminal.shows("60% 3/5");
    let line = place.lines("began")[0].clone();
    let child = line.split(' ').nth(2).expect("a number").to_owned();
    let state_of_child = || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next())
    };
    terminal.press(CTRL_Z);
    wait_until("it to be suspended", || terminal.state() == Some('T'));
    assert_eq!(state_of_child(), Some('T'), "its command is too");
    // What it wrote before that may be on its way still.
    wait_until("a clean screen", || {
        let screen = Screen::of(&terminal.raw());
        screen.shows_cursor && !screen.lines.iter().any(|line| line.contains(BAR))
    });
    // Longer than the time that the attempt has.
    std::thread::sleep(Duration::from_millis(1800));
    kill_process(terminal.pid(), Signal::CONT).expect("it is there");
    wait_until("its command to go on", || state_of_child() != Some('T'));
    gate.pass(2);
    let (screen, code, _) = terminal.ended();
    assert_eq!(code, Some(0), "{screen:?}");
    assert!(screen.is_clean(), "{screen:?}");
    assert!(
        place.attempts("in", 3).is_empty(),
        "the attempt did not time out"
    );
    let suspended = &place.events("in", "continued")[0]["suspended_seconds"];
    assert!(
        suspended.as_f64().is_some_and(|seconds| seconds > 1.7),
        "{suspended}"
    );

    // A time limit of the run stands still as well.
    let place = Place::new();
    let gate = place.gate("gate");
    let mut terminal = gated(&place, &["--time-limit", "2s"]);
    terminal.press(CTRL_Z);
    wait_until("it to be suspended", || terminal.state() == Some('T'));
    std::thread::sleep(Duration::from_millis(2200));
    kill_process(terminal.pid(), Signal::CONT).expect("it is there");
    wait_until("it to go on", || {
        !place.events("in", "continued").is_empty()
    });
    gate.pass(2);
    let (screen, code, _) = terminal.ended();
    assert_eq!(code, Some(0), "{screen:?}");
}

/// A supervised command that notes each SIGINT and reads its terminal, and the number of its process.
fn supervised(place: &Place, options: &[&str]) -> (Terminal, Pid) {
    let script = "trap 'echo INT >> got' INT; echo $$ > pid; read line; echo \"read $line\"; while :; do sleep 0.01; done";
    let mut arguments = vec!["supervise", "--name", "job"];
    arguments.extend(options);
    arguments.extend(["--", "sh", "-c", script]);
    let terminal = Terminal::start(place, &arguments, |_| {});
    let child = wait_for("the command", || {
        let text = std::fs::read_to_string(place.file("pid")).ok()?;
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    });
    (terminal, child)
}

#[test]
fn a_supervised_command_has_the_terminal_and_gets_each_ctrl_c_once() {
    let place = Place::new();
    let (mut terminal, _) = supervised(&place, &["--kill-after", "0.3"]);
    terminal.press(b"hello\r");
    terminal.shows("read hello");
    terminal.press(CTRL_C);
    terminal.shows("SIGINT: the command may finish");
    std::thread::sleep(APART);
    assert_eq!(place.lines("got"), ["INT"]);
    terminal.press(CTRL_C);
    terminal.shows("SIGINT: ending the command now");
    let (screen, code, signal) = terminal.ended();
    assert_eq!((code, signal), (None, Some(9)), "{screen:?}");
    assert_eq!(place.lines("got"), ["INT", "INT"]);
    let asked = place.events("job", "interrupt_initiated");
    assert_eq!((&asked[0]["source"], asked.len()), (&"USER".into(), 2));
}

#[test]
fn a_supervised_command_is_suspended_with_us_and_its_time_stands_still() {
    let place = Place::new();
    let (mut terminal, child) = supervised(&place, &["--time-limit", "2s", "--kill-after", "0.1"]);
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
        stat.ok()?.rsplit_once(") ")?.1.chars().next()
    };
    terminal.press(CTRL_Z);
    wait_until("it to be suspended", || terminal.state() == Some('T'));
    assert_eq!(state(), Some('T'), "its command is too");
    // Longer than the time limit.
    std::thread::sleep(Duration::from_millis(2200));
    kill_process(terminal.pid(), Signal::CONT).expect("it is there");
    wait_until("its command to go on", || state() != Some('T'));
    let suspended = wait_for("the event", || {
        let continued = place.events("job", "continued");
        continued
            .first()
            .map(|event| event["suspended_seconds"].clone())
    });
    assert!(
        suspended.as_f64().is_some_and(|seconds| seconds > 2.1),
        "{suspended}"
    );
    assert!(place.events("job", "interrupt_initiated").is_empty());
    terminal.press(CTRL_C);
    terminal.shows("SIGINT: the command may finish");
}
