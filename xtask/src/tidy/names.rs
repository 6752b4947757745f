//! The names that Rust code makes public.

use super::source::{closing, is_word};

/// A name where it is declared.
#[derive(Debug, PartialEq)]
pub(super) struct Name<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
    /// A type, a trait or a variant: a noun, where a function may be a verb.
    pub(super) is_type: bool,
}

/// Which declarations count.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reach {
    /// `pub` only.
    Public,
    /// Also `pub(crate)` and the like: in the command, such fields become flags.
    Visible,
}

/// The items, fields, variants and members of traits that are declared public in `code`, which has
/// neither comments nor strings.
pub(super) fn public(code: &str, reach: Reach) -> Vec<Name<'_>> {
    let tokens = tokens(code);
    let mut names = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if token.text != "pub" {
            continue;
        }
        let mut rest = &tokens[index + 1..];
        if rest.first().is_some_and(|next| next.text == "(") {
            // A tuple field `pub (A, B)` has no name either.
            if reach == Reach::Public {
                continue;
            }
            rest = after_bracket(code, rest);
        }
        declaration(code, rest, &mut names);
    }
    names
}

#[derive(Clone, Copy)]
struct Token<'a> {
    at: usize,
    text: &'a str,
}

/// Words, and every other character for itself.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        let word = rest.bytes().take_while(|byte| is_word(*byte)).count();
        let length = word.max(1);
        if !rest.starts_with(char::is_whitespace) {
            tokens.push(Token {
                at,
                text: &rest[..length],
            });
        }
        at += length;
    }
    tokens
}

fn after_bracket<'a, 'b>(code: &str, tokens: &'b [Token<'a>]) -> &'b [Token<'a>] {
    let end = tokens.first().map_or(0, |open| closing(code, open.at));
    &tokens[tokens.partition_point(|token| token.at < end)..]
}

fn declaration<'a>(code: &'a str, mut tokens: &[Token<'a>], names: &mut Vec<Name<'a>>) {
    while let [first, second, ..] = tokens {
        let is_modifier = match first.text {
            "async" | "unsafe" | "extern" | "default" => true,
            "const" => matches!(second.text, "fn" | "unsafe" | "async" | "extern"),
            "static" => second.text == "mut",
            _ => false,
        };
        if !is_modifier {
            break;
        }
        tokens = &tokens[1..];
    }
    let [keyword, name, rest @ ..] = tokens else {
        return;
    };
    let is_type = match keyword.text {
        "fn" | "mod" | "const" | "static" | "mut" => false,
        "struct" | "enum" | "trait" | "type" | "union" => true,
        "use" => return renames(tokens, names),
        // A field: `pub name: Type`.
        _ if name.text == ":" => {
            names.push(Name {
                at: keyword.at,
                text: keyword.text,
                is_type: false,
            });
            return;
        }
        _ => return,
    };
    names.push(Name {
        at: name.at,
        text: name.text,
        is_type,
    });
    match keyword.text {
        "enum" => names.extend(variants(code, rest)),
        "trait" => names.extend(members(code, rest)),
        _ => {}
    }
}

/// `pub use a::B as C` makes `C` public; `B` is judged where it is declared.
fn renames<'a>(tokens: &[Token<'a>], names: &mut Vec<Name<'a>>) {
    let end = tokens
        .iter()
        .position(|token| token.text == ";")
        .unwrap_or(tokens.len());
    for pair in tokens[..end].windows(2) {
        if pair[0].text == "as" {
            let is_type = pair[1].text.starts_with(char::is_uppercase);
            names.push(Name {
                at: pair[1].at,
                text: pair[1].text,
                is_type,
            });
        }
    }
}

/// What stands between the next braces, at their own level: inner brackets are left out.
fn body<'a>(code: &str, tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let Some(open) = tokens
        .iter()
        .position(|token| matches!(token.text, "{" | ";"))
    else {
        return Vec::new();
    };
    if tokens[open].text == ";" {
        return Vec::new();
    }
    let end = closing(code, tokens[open].at) - 1;
    let mut body = Vec::new();
    let mut rest = &tokens[open + 1..];
    while let Some(token) = rest.first().filter(|token| token.at < end) {
        if matches!(token.text, "(" | "[" | "{") {
            rest = after_bracket(code, rest);
        } else {
            body.push(*token);
            rest = &rest[1..];
        }
    }
    body
}

fn variants<'a>(code: &str, tokens: &[Token<'a>]) -> Vec<Name<'a>> {
    let body = body(code, tokens);
    let variants = body.split(|token| token.text == ",");
    // Of an attribute only the `#` is left.
    let names = variants.filter_map(|variant| variant.iter().find(|token| token.text != "#"));
    names
        .map(|name| Name {
            at: name.at,
            text: name.text,
            is_type: true,
        })
        .collect()
}

fn members<'a>(code: &str, tokens: &[Token<'a>]) -> Vec<Name<'a>> {
    let body = body(code, tokens);
    let pairs = body
        .windows(2)
        .filter(|pair| matches!(pair[0].text, "fn" | "type" | "const"));
    pairs
        .map(|pair| Name {
            at: pair[1].at,
            text: pair[1].text,
            is_type: pair[0].text == "type",
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(reach: Reach, code: &str, expected: &[&str]) {
        let found: Vec<&str> = public(code, reach)
            .into_iter()
            .map(|name| name.text)
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn items_and_fields() {
        finds(
            Reach::Public,
            "pub fn a() {} pub async fn b() {} pub const C: u8 = 1; pub const unsafe fn d();",
            &["a", "b", "C", "d"],
        );
        finds(
            Reach::Public,
            "pub struct A<T> { pub b: T, c: T } pub mod d; pub static mut E: u8;",
            &["A", "b", "d", "E"],
        );
        finds(
            Reach::Public,
            "pub struct A(pub u8, pub B); pub type F = G; fn private() {}",
            &["A", "F"],
        );
        finds(
            Reach::Public,
            "pub use a::B as C; pub use d::{E, F as G};",
            &["C", "G"],
        );
        finds(Reach::Public, "pub extern  fn a() {}", &["a"]);
    }

    #[test]
    fn variants_and_members() {
        finds(
            Reach::Public,
            "pub enum A { #[x(y)] B, C { d: u8, e: f64 }, F(G, H), I = 3, }",
            &["A", "B", "C", "F", "I"],
        );
        finds(
            Reach::Public,
            "pub trait A { type B; const C: u8; fn d(&self) { let fn_e = 1; } }",
            &["A", "B", "C", "d"],
        );
        finds(Reach::Public, "enum A { B }", &[]);
    }

    #[test]
    fn restricted_names_count_on_demand() {
        let code = "pub(crate) struct A { pub(super) b: u8, pub(in crate::c) d: u8 }";
        finds(Reach::Public, code, &[]);
        finds(Reach::Visible, code, &["A", "b", "d"]);
    }

    #[test]
    fn types_are_told_from_values() {
        let names = public("pub enum A { B } pub fn c() {}", Reach::Public);
        assert_eq!(
            names.iter().map(|name| name.is_type).collect::<Vec<_>>(),
            [true, true, false]
        );
    }
}
