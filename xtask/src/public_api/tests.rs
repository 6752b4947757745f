use super::*;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_public_api_is_as_recorded() {
    let changes = changes(&root()).expect("the sources are understood");
    assert!(
        changes.is_empty(),
        "run `cargo xtask public-api` and look at what it changes:\n{}",
        changes.join("\n")
    );
}

#[test]
fn what_is_exported_is_listed_under_its_path_and_nothing_else() {
    let read = |path: &str| {
        let text = match path {
            "lib.rs" => {
                "pub mod room;
                 mod error;
                 #[cfg(feature = \"job\")] pub mod job {}
                 #[cfg(test)] pub mod checks;
                 pub use error::Error;
                 pub use room::Thing;
                 pub use std::time::Duration as Time;"
            }
            "error.rs" => "#[non_exhaustive] pub enum Error { /// Some.\n A(u8, B), C { d: Vec<u8>, } } pub struct Hidden;",
            "room/mod.rs" => {
                "mod thing; mod inner;
                 pub use thing::{Thing, Ending as End};
                 pub(crate) fn hidden() {}
                 pub const MOST: usize = 7;
                 pub struct Pair(pub u8, String);"
            }
            "room/thing.rs" => {
                "use super::inner::{Private, Shared as Common};
                 #[derive(Debug, Clone)]
                 pub struct Thing<T> { pub first: T, second: u8 }
                 pub trait Ending { type Of: Copy; fn end(&self) -> bool; fn both(self) where Self: Sized {} }
                 impl<T: Send> Thing<T> {
                     pub fn new(
                         first: T, // a comment
                         mut second: impl Fn(&str) -> u8 + Send,
                     ) -> Self { todo!() }
                     fn hidden() {}
                 }
                 impl<T> Ending for Thing<T> { type Of = u8; }
                 impl Ending for u8 {}
                 impl<T> Private for Thing<T> {}
                 impl Common {}"
            }
            "room/inner.rs" => {
                "use super::Thing as Other;
                 pub trait Private {}
                 pub struct Shared;
                 impl<T> Other<T> { pub const async unsafe fn far(&self) {} }"
            }
            _ => return None,
        };
        Some(text.to_owned())
    };
    let expected = "\
pub mod c
pub enum c::Error { .. }
variant c::Error::A
field c::Error::A::0: u8
field c::Error::A::1: B
variant c::Error::C
field c::Error::C::d: Vec<u8>
pub use c::Thing = c::room::Thing
pub use c::Time = std::time::Duration
pub mod c::job
pub mod c::room
pub trait c::room::End
impl Ending for u8
type c::room::End::Of: Copy
fn c::room::End::both(self) where Self: Sized { .. }
fn c::room::End::end(&self) -> bool
pub const c::room::MOST: usize
pub struct c::room::Pair { .. }
field c::room::Pair::0: u8
pub struct c::room::Thing<T> { .. }
derive Clone, Debug for c::room::Thing
impl<T: Send> c::room::Thing<T>
impl<T> Ending for c::room::Thing<T>
type c::room::Thing::Of = u8
pub const async unsafe fn c::room::Thing::far(&self)
field c::room::Thing::first: T
pub fn c::room::Thing::new(first: T, second: impl Fn(&str) -> u8 + Send) -> Self";
    let found = lines("c", &read).expect("understood").join("\n");
    assert_eq!(found, expected);
}
