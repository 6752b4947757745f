//! `cargo xtask COMMAND`: one match arm per command, one library function behind each.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool talks to the terminal; only the library and the command may not"
)]

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  tidy                  check layers, words, file names, links and texts that the compiler does not see
  reference [--check]   write the pages of the reference, or say which of them are not as they must be
  public-api [--check]  write the list of what the library exports, or say what has changed
  torture [--short] [--kills N] [--save-kills N] [--seed S] [--binary PATH]
                        kill and resume the command and a program that saves over and over, cut their power, and count
                        what was lost; 0 kills leave a part out
  models [NAME]         try the models of the shutdown room under every interleaving
  prometheus BINARY     have Prometheus scrape a job that this `safepoint` runs, and ask it what it stored
  planted [NAME]        plant bugs in a copy of the sources, and see that the tests catch each of them";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["tidy"] => tidy(),
        ["reference"] => reference(),
        ["reference", "--check"] => check_reference(),
        ["public-api"] => public_api(),
        ["public-api", "--check"] => check_public_api(),
        ["torture", arguments @ ..] => torture(arguments),
        ["models"] => models(""),
        ["models", name] => models(name),
        ["prometheus", binary] => prometheus(binary),
        ["planted"] => planted(""),
        ["planted", name] => planted(name),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The repository that this program was built from, wherever it is called.
fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

fn tidy() -> ExitCode {
    match xtask::tidy::findings(repository()) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            eprintln!("tidy: {} to mend", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: cannot read the repository: {error}");
            ExitCode::FAILURE
        }
    }
}

fn reference() -> ExitCode {
    let pages = xtask::reference::pages();
    passed(pages.iter().all(|page| write(page.path, &page.text)))
}

/// Writes a generated file of the repository; says it if that fails.
fn write(path: &str, text: &str) -> bool {
    let path = repository().join(path);
    #[expect(
        clippy::disallowed_methods,
        reason = "a generated page can be generated again"
    )]
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&path, text));
    if let Err(error) = &written {
        eprintln!("cannot write {}: {error}", path.display());
    }
    written.is_ok()
}

fn public_api() -> ExitCode {
    match xtask::public_api::public_api(repository()) {
        Ok(list) => passed(write(xtask::public_api::FILE, &list)),
        Err(error) => {
            eprintln!("public-api: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check_public_api() -> ExitCode {
    match xtask::public_api::changes(repository()) {
        Ok(changes) => {
            for change in &changes {
                println!("{change}");
            }
            passed(changes.is_empty())
        }
        Err(error) => {
            eprintln!("public-api: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check_reference() -> ExitCode {
    let stale = xtask::reference::stale(repository());
    for path in &stale {
        eprintln!("reference: {path} is not as generated; run `cargo xtask reference`");
    }
    passed(stale.is_empty())
}

fn say(line: &str) {
    eprintln!("{line}");
}

fn torture(arguments: &[&str]) -> ExitCode {
    let plan = match xtask::torture::Plan::from_arguments(arguments) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("torture: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match xtask::torture::torture(repository(), &plan, &mut say) {
        Ok(verdict) => {
            println!("seed {}\n\n{}", plan.seed, verdict.table);
            for problem in &verdict.problems {
                println!("VIOLATION: {problem}");
            }
            passed(verdict.problems.is_empty())
        }
        Err(error) => {
            eprintln!("torture: {error}");
            ExitCode::FAILURE
        }
    }
}

fn models(filter: &str) -> ExitCode {
    match xtask::models::models(repository(), filter) {
        Ok(verdict) if verdict.all_hold => {
            println!("{} models hold", verdict.tried);
            ExitCode::SUCCESS
        }
        Ok(verdict) => {
            println!("{}", verdict.text);
            eprintln!("models: {} tried, and not all hold", verdict.tried);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("models: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prometheus(binary: &str) -> ExitCode {
    let binary = Path::new(binary).canonicalize();
    match binary.and_then(|binary| xtask::prometheus::scrape(&binary)) {
        Ok(answers) => {
            println!("{}", answers.join("\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("prometheus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn planted(filter: &str) -> ExitCode {
    match xtask::planted::planted(repository(), filter, &mut say) {
        Ok(verdict) => {
            println!("{}", verdict.table);
            passed(verdict.all_caught)
        }
        Err(error) => {
            eprintln!("planted: {error}");
            ExitCode::FAILURE
        }
    }
}

fn passed(all_well: bool) -> ExitCode {
    if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
