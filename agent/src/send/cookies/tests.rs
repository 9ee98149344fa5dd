//! Jars as browsers keep them.

use proptest::prelude::*;
use url::Url;

use super::*;

const NOW_NS: u64 = 1_000_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

/// What a jar that took these lines from these URLs sends to a URL.
#[track_caller]
fn check(given: &[(&str, &str)], asked: &str, expected: &str) {
    let mut jar = Jar::default();
    for (from, line) in given {
        jar.store(&url(from), line.as_bytes(), NOW_NS);
    }
    let sent = String::from_utf8(jar.header(&url(asked), "", NOW_NS)).unwrap();
    assert_eq!(sent, expected, "{given:?} asked for {asked}");
}

#[test]
fn a_cookie_comes_back_to_its_host_and_path() {
    check(&[("http://h/a/b", "k=v")], "http://h/a/c", "k=v");
    check(&[("http://h/a/b", "k=v")], "http://h/a", "k=v");
    check(&[("http://h/a/b", "k=v")], "http://h/ab", "");
    check(&[("http://h/a/b", "k=v; Path=/")], "http://h/x", "k=v");
    check(&[("http://h/", "k=v; path=/a/")], "http://h/a/b", "k=v");
    check(&[("http://h/", "k=v; path=/a/")], "http://h/a", "");
    check(&[("http://h/a/b", "k=v; path=nonsense")], "http://h/a/", "k=v");
    check(&[("http://h:1/", "k=v")], "http://h:2/", "k=v");
    check(&[("http://h/", "k=v")], "http://other/", "");
    check(&[("http://h/", "k=v")], "http://sub.h/", "");
    check(&[("http://127.0.0.1/", "k=v")], "http://127.0.0.1/", "k=v");
}

#[test]
fn a_domain_opens_what_lies_below_it_and_nothing_else() {
    let from = "http://a.example.com/";
    for domain in ["example.com", ".example.com", "EXAMPLE.com"] {
        let line = format!("k=v; Domain={domain}");
        check(&[(from, &line)], "http://b.example.com/", "k=v");
        check(&[(from, &line)], "http://example.com/", "k=v");
        check(&[(from, &line)], "http://badexample.com/", "");
    }
    check(&[(from, "k=v; domain=")], from, "k=v");
    check(&[(from, "k=v; domain=")], "http://b.a.example.com/", "");
    check(&[(from, "k=v; domain=a.example.com")], "http://b.a.example.com/", "k=v");
    for foreign in ["com", "other.com", "b.example.com", "b.a.example.com"] {
        check(&[(from, &format!("k=v; domain={foreign}"))], from, "");
    }
    check(&[("http://localhost/", "k=v; domain=localhost")], "http://localhost/", "k=v");
    check(&[("http://127.0.0.1/", "k=v; domain=127.0.0.1")], "http://127.0.0.1/", "k=v");
    check(&[("http://127.0.0.1/", "k=v; domain=0.0.1")], "http://127.0.0.1/", "");
}

#[test]
fn secure_cookies_and_their_prefixes_are_for_tls() {
    check(&[("https://h/", "k=v; Secure")], "https://h/", "k=v");
    check(&[("https://h/", "k=v; Secure")], "http://h/", "");
    check(&[("http://h/", "k=v; Secure")], "https://h/", "");
    check(&[("https://h/", "k=safe; secure"), ("http://h/", "k=bent")], "https://h/", "k=safe");
    check(&[("https://h/", "__Secure-k=v")], "https://h/", "");
    check(&[("https://h/", "__Secure-k=v; secure")], "https://h/", "__Secure-k=v");
    check(&[("https://h/", "__Host-k=v; secure; path=/")], "https://h/", "__Host-k=v");
    for wrong in ["path=/", "secure", "secure; path=/a", "secure; path=/; domain=a.example"] {
        check(&[("https://a.example/", &format!("__Host-k=v; {wrong}"))], "https://a.example/", "");
    }
}

#[test]
fn longer_paths_go_first_then_those_that_were_there_first() {
    let given =
        [("http://h/", "a=1"), ("http://h/", "b=2"), ("http://h/", "c=3; path=/x/y"), ("http://h/", "a=4")];
    check(&given, "http://h/x/y/z", "c=3; a=4; b=2");
}

#[test]
fn what_expires_is_gone_and_max_age_counts_before_expires() {
    let from = "http://h/";
    check(&[(from, "k=v"), (from, "k=; Max-Age=0")], from, "");
    check(&[(from, "k=v"), (from, "k=; max-age=-9")], from, "");
    check(&[(from, "k=v"), (from, "k=; expires=Thu, 01 Jan 1970 00:00:00 GMT")], from, "");
    check(&[(from, "k=v; expires=Thu, 01 Jan 1970 00:00:00 GMT; max-age=5")], from, "k=v");
    check(&[(from, "k=v; expires=Fri, 31-Dec-9999 23:59:59 GMT")], from, "k=v");
    check(&[(from, "k=v; max-age=99999999999999999999999")], from, "k=v");
    check(&[(from, "k=v; max-age=soon; expires=never")], from, "k=v");
    let mut jar = Jar::default();
    jar.store(&url(from), b"k=v; max-age=5", NOW_NS);
    assert_eq!(jar.header(&url(from), "", NOW_NS + 5 * SECOND_NS - 1), b"k=v");
    assert_eq!(jar.header(&url(from), "", NOW_NS + 5 * SECOND_NS), b"");
}

#[test]
fn dates_are_read_in_all_their_forms() {
    for text in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "6 november 1994 8:49:37",
        "08:49:37x 1994 nov 6th",
    ] {
        // A year of four digits that stands before the day is not taken for it.
        assert_eq!(date::unix_seconds(text), Some(784_111_777), "{text}");
    }
    assert_eq!(date::unix_seconds("Tue, 29 Feb 2028 00:00:00 GMT"), Some(1_835_395_200));
    assert_eq!(date::unix_seconds("01 Jan 1970 00:00:00"), Some(0));
    for wrong in [
        "",
        "06 Nov 1994",
        "08:49:37 06 Nov",
        "32 Jan 2000 00:00:00",
        "29 Feb 2027 00:00:00",
        "01 Jan 1600 00:00:00",
        "01 Jan 2000 24:00:00",
        "01 Jan 2000 00:60:00",
        "1 Foo 2000 00:00:00",
    ] {
        assert_eq!(date::unix_seconds(wrong), None, "{wrong}");
    }
}

#[test]
fn lines_that_set_no_cookie_are_left_out() {
    for line in ["", "novalue", "=v", " = v", "k\0=v", "k=v\u{7f}"] {
        check(&[("http://h/", line)], "http://h/", "");
    }
    check(&[("http://h/", &format!("k={}", "v".repeat(COOKIE_BYTES_MAX)))], "http://h/", "");
    check(&[("http://h/", " k = v=w ; HttpOnly; SameSite=Strict; Unheard-Of")], "http://h/", "k=v=w");
    check(&[("http://h/", "k=")], "http://h/", "k=");
}

#[test]
fn the_plans_own_cookies_go_first_and_stand_against_the_jars() {
    let mut jar = Jar::default();
    for line in ["a=jar", "b=jar"] {
        jar.store(&url("http://h/"), line.as_bytes(), NOW_NS);
    }
    let with = |own: &str| String::from_utf8(jar.header(&url("http://h/"), own, NOW_NS)).unwrap();
    assert_eq!(with("c=own"), "c=own; a=jar; b=jar");
    assert_eq!(with("a=own"), "a=own; b=jar");
    assert_eq!(with("a=own; b=own"), "", "the plan's own line stands as it is");
    assert!(
        Jar::default().is_empty() && Jar::default().header(&url("http://h/"), "a=own", NOW_NS).is_empty()
    );
}

#[test]
fn of_too_many_the_oldest_goes_and_memory_is_bounded() {
    let mut jar = Jar::default();
    for n in 0..80 {
        jar.store(&url("http://h/"), format!("k{n}=v").as_bytes(), NOW_NS);
    }
    let sent = String::from_utf8(jar.header(&url("http://h/"), "", NOW_NS)).unwrap();
    assert_eq!(sent.split("; ").count(), PER_DOMAIN_MAX);
    assert!(sent.starts_with("k30=v; ") && sent.ends_with("k79=v"), "{sent}");
    for n in 0..1_000 {
        let line = format!("k{n}={}", "v".repeat(4_000));
        jar.store(&url(&format!("http://h{}/", n % 30)), line.as_bytes(), NOW_NS);
        assert!(jar.cookies.len() <= COOKIES_MAX && jar.bytes <= JAR_BYTES_MAX);
    }
    assert_eq!(jar.bytes, jar.cookies.iter().map(Cookie::bytes).sum::<usize>());
    assert!(jar.header(&url("http://h9/"), "", NOW_NS).starts_with(b"k"));
}

proptest! {
    #[test]
    fn any_lines_keep_the_bounds_and_give_one_clean_header(
        lines in prop::collection::vec((0..3_usize, prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[a-c]=[a-z;= ]{0,20}(; (path|domain|max-age|expires|secure)=[/a-z0-9. -]{0,12}){0,3}".prop_map(String::into_bytes),
        ]), 0..30),
    ) {
        let mut jar = Jar::default();
        let urls = ["http://a.example/x/y", "https://b.a.example/", "http://127.0.0.1/"].map(url);
        for (from, line) in &lines {
            jar.store(&urls[*from], line, NOW_NS);
        }
        for url in &urls {
            let sent = jar.header(url, "", NOW_NS);
            prop_assert!(!sent.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t'));
            prop_assert!(sent.is_empty() || http::HeaderValue::from_bytes(&sent).is_ok());
        }
        prop_assert_eq!(jar.bytes, jar.cookies.iter().map(Cookie::bytes).sum::<usize>());
    }
}
