//! The library as a program uses it: real processes, real signals.

mod signals;

#[test]
fn no_test_file_is_forgotten() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let declared = include_str!("main.rs");
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        let module = name.trim_end_matches(".rs");
        let is_declared = declared.contains(&format!("mod {module};"));
        assert!(module == "main" || is_declared, "`{name}` is in no binary");
    }
}
