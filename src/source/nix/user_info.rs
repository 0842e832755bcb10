//! Takes passwords out of what Nix says: it repeats the URLs of expressions as they are written.

/// `text` without what stands before the host in its URLs.
pub(super) fn without_user_info(text: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(3).position(|bytes| bytes == b"://") {
        let (before, url) = rest.split_at(at + 3);
        shown.extend_from_slice(before);
        // A quote may stand in a password; where it ends a URL, no `@` follows in the same word.
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"/?#".contains(byte);
        let authority = &url[..url.iter().position(ends).unwrap_or(url.len())];
        let host = authority.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
        rest = &url[host..];
    }
    shown.extend_from_slice(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_and_password() {
        for (text, expected) in [
            ("at 'https://u:p@host:1/a@b' and http://t@x.", "at 'https://host:1/a@b' and http://x."),
            ("git+ssh://git@host/x \"ftp://a:b@c@d\"", "git+ssh://host/x \"ftp://d\""),
            ("https://host/x you@example.org", "https://host/x you@example.org"),
            ("https://u:p'w\"`<>@host/x", "https://host/x"),
            (
                "'https://host' or 'https://host/you@example.org'",
                "'https://host' or 'https://host/you@example.org'",
            ),
            ("a://", "a://"),
            ("://u:p@", "://"),
        ] {
            assert_eq!(without_user_info(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }
}
