//! What the job's database says. Its tables are read here without the library under test.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Row};

use super::Storm;
use super::scenario::Kind;

/// The text of every result in the database: each is what the item printed.
pub(super) fn results(database: &Path) -> rusqlite::Result<BTreeMap<String, u64>> {
    let database = Connection::open(database)?;
    let mut statement =
        database.prepare("SELECT CAST(result AS TEXT) FROM items WHERE state = 'done'")?;
    let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0))?;
    let mut results = BTreeMap::new();
    for row in rows {
        *results
            .entry(row?.unwrap_or_default().trim_end().to_owned())
            .or_insert(0) += 1;
    }
    Ok(results)
}

/// How many of these lines are not results in the database; one that cannot be read has none.
pub fn missing(database: &Path, acknowledged: &[String]) -> usize {
    let stored = results(database).unwrap_or_default();
    acknowledged
        .iter()
        .filter(|line| !stored.contains_key(*line))
        .count()
}

/// Every row, and the counts that are kept beside them.
pub(super) fn check(
    storm: &Storm,
    path: &Path,
    problems: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let database = Connection::open(path)?;
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if verdict != "ok" {
        problems.push(format!("the database is damaged: {verdict}"));
    }
    let scenario = &storm.scenario;
    let mut statement = database.prepare(
        "SELECT item, state, CAST(content AS TEXT), CAST(result AS TEXT) FROM items ORDER BY item",
    )?;
    let mut rows = statement.query([])?;
    let (mut next, mut done, mut dead) = (0, 0, 0);
    while let Some(row) = rows.next()? {
        let index = number(row, 0)?;
        let (state, content): (String, Option<String>) = (row.get(1)?, row.get(2)?);
        let expected = if scenario.kind(index) == Kind::Dead {
            "dead"
        } else {
            "done"
        };
        if index != next
            || state != expected
            || content.is_some_and(|content| content != scenario.item(index))
        {
            problems.push(format!(
                "row {index} (expected {next}) is {state} or of another item, where {expected} is due"
            ));
        }
        let result: Option<String> = row.get(3)?;
        if state == "done" && result.as_deref().map(str::trim_end) != Some(&scenario.item(index)) {
            problems.push(format!("row {index} has the result {result:?}"));
        }
        done += u64::from(state == "done");
        dead += u64::from(state == "dead");
        next = index + 1;
    }
    if next != scenario.items {
        problems.push(format!("the rows end at {next}"));
    }
    let query = "SELECT frontier, done, dead, waiting, pending FROM progress";
    let counts = database.query_row(query, [], |row| {
        (0..5)
            .map(|column| number(row, column))
            .collect::<Result<Vec<_>, _>>()
    })?;
    // The frontier may lag behind: it promises rows below it and says nothing of those above.
    if counts[0] > next || counts[1..] != [done, dead, 0, 0] {
        problems.push(format!("frontier, done, dead, waiting, pending are {counts:?}; the rows say {done} done, {dead} dead"));
    }
    Ok(())
}

/// `SQLite` has signed numbers only.
fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}
