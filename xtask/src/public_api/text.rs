//! Pieces of source text, on one line each.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::{Field, Ident, Safety, Signature, Token, Visibility};

pub(super) fn start(span: Span) -> usize {
    span.byte_range().start
}

pub(super) fn end(span: Span) -> usize {
    span.byte_range().end
}

/// The text of a file.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Text<'_> {
    /// A piece without its comments and line breaks, as if it were short.
    pub(super) fn between(&self, from: usize, to: usize) -> String {
        let piece = self.0.get(from..to).unwrap_or_default();
        let lines = piece.lines().map(|line| line.split("//").next());
        let code: Vec<&str> = lines.map(Option::unwrap_or_default).collect();
        let words: Vec<&str> = code
            .iter()
            .flat_map(|line| line.split_whitespace())
            .collect();
        let mut line = words.join(" ");
        for (long, short) in [
            ("( ", "("),
            (", )", ")"),
            (" )", ")"),
            ("< ", "<"),
            (", >", ">"),
            ("[ ", "["),
            (" ]", "]"),
            (" .", "."),
            // How a function names its arguments for itself is its own business.
            ("(mut ", "("),
            (", mut ", ", "),
        ] {
            line = line.replace(long, short);
        }
        line.trim_end_matches(',').to_owned()
    }

    /// A piece with `path` in the place of the name it declares.
    pub(super) fn named(&self, from: usize, ident: &Ident, path: &str, to: usize) -> String {
        let before = self.between(from, start(ident.span()));
        let after = self.between(end(ident.span()), to);
        tight(&format!("{before} {path}"), &after)
    }
}

/// Puts `after` where it stood behind a name: with a space before words and signs, without one before what belongs to the name.
pub(super) fn tight(before: &str, after: &str) -> String {
    let belongs = after.is_empty() || after.starts_with(['(', '<', ':', ',']);
    let space = if belongs { "" } else { " " };
    format!("{before}{space}{after}")
}

/// Where the type of each field begins and ends.
pub(super) fn types(
    fields: &Punctuated<Field, Token![,]>,
    open: Span,
    close: Span,
) -> Vec<(usize, usize)> {
    let mut after = end(open);
    let mut types = Vec::new();
    for pair in fields.pairs() {
        let field = pair.value();
        let visibility = match &field.vis {
            Visibility::Public(public) => Some(end(public.span)),
            _ => None,
        };
        let attributes = field.attrs.last();
        let from = [
            Some(after),
            attributes.map(|attribute| end(attribute.bracket_token.span.close())),
            visibility,
            field.colon_token.as_ref().map(|colon| end(colon.span)),
        ];
        let to = pair
            .punct()
            .map_or_else(|| start(close), |comma| start(comma.span));
        after = pair.punct().map_or(to, |comma| end(comma.span));
        types.push((from.into_iter().flatten().max().unwrap_or(after), to));
    }
    types
}

/// Where a signature begins.
pub(super) fn first(signature: &Signature) -> usize {
    let places = [
        signature.constness.as_ref().map(|token| start(token.span)),
        signature.asyncness.as_ref().map(|token| start(token.span)),
        match &signature.safety {
            Safety::Unsafe(token) => Some(start(token.span)),
            Safety::Safe(token) => Some(start(token.span)),
            Safety::Default => None,
        },
        signature
            .abi
            .as_ref()
            .map(|abi| start(abi.extern_token.span)),
        Some(start(signature.fn_token.span)),
    ];
    places.into_iter().flatten().min().unwrap_or_default()
}
