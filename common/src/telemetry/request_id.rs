//! The id of a REST request, by which what it led to is found in the logs of masters and agents.

/// Its header over HTTP, and its metadata over gRPC.
pub const REQUEST_ID: &str = "x-request-id";
/// Longest id that is taken from others.
const ID_BYTES_MAX: usize = 128;

/// Whether a text may be an id: 1 to 128 visible ASCII characters.
pub fn is_request_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_visible() {
        assert!(is_request_id("a-1") && is_request_id(&"x".repeat(128)) && is_request_id("\"{}\\"));
        for wrong in ["", "a b", "a\nb", "ä", "\u{7f}", &"x".repeat(129)] {
            assert!(!is_request_id(wrong), "{wrong:?}");
        }
    }
}
