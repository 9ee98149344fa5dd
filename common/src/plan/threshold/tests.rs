//! Rules as users write them.

use super::*;

#[test]
fn rules_are_read_and_printed_canonically() {
    let check =
        |text: &str, expr: &str, metric: Metric, step: Option<&str>, comparison: Comparison, bound: f64| {
            let rule = Threshold::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rule.expr, expr);
            assert_eq!(
                (rule.metric, rule.step.as_deref(), rule.comparison, rule.bound),
                (metric, step, comparison, bound),
                "{text}"
            );
            assert_eq!(Threshold::parse(&rule.expr), Ok(rule), "{text}");
        };
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    check("p(95) < 300ms", "p(95) < 300ms", Metric::Percentile(95.0), None, Less, 300_000.0);
    check("p95<300ms", "p(95) < 300ms", Metric::Percentile(95.0), None, Less, 300_000.0);
    check(" p99.9  <=  1.5s ", "p(99.9) <= 1.5s", Metric::Percentile(99.9), None, LessOrEqual, 1_500_000.0);
    check("med<10us", "med < 10us", Metric::Percentile(50.0), None, Less, 10.0);
    check(
        "error_rate{step=login} < 1%",
        "error_rate{step=login} < 1%",
        Metric::ErrorRate,
        Some("login"),
        Less,
        0.01,
    );
    check("error_rate <0.01", "error_rate < 0.01", Metric::ErrorRate, None, Less, 0.01);
    check("rps>100/s", "rps > 100/s", Metric::Rps, None, Greater, 100.0);
    check("rps >= 6000/m", "rps >= 6000/m", Metric::Rps, None, GreaterOrEqual, 100.0);
    check("dropped==0", "dropped == 0", Metric::Dropped, None, Equal, 0.0);
    check("failed != 3", "failed != 3", Metric::Failed, None, NotEqual, 3.0);
    check(
        "requests { step = GET /a b } > 5",
        "requests{step=GET /a b} > 5",
        Metric::Requests,
        Some("GET /a b"),
        Greater,
        5.0,
    );
    check("max{step=\"a}\\\"\"}<1s", "max{step=\"a}\\\"\"} < 1s", Metric::Max, Some("a}\""), Less, 1e6);
}

#[test]
fn what_is_no_rule_says_what_would_be() {
    let check = |text: &str, part: &str| {
        let error = Threshold::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    };
    check("", "p(95) < 300ms");
    check("p95 < 300", "write 300ms");
    check("p(101) < 1s", "from p(0) to p(100)");
    check("error_rate < 5", "5%");
    check("error_rate < 101%", "share");
    check("eror_rate < 5%", "did you mean `error_rate`?");
    check("rps = 5", "no comparison");
    check("rps", "no comparison");
    check("rps > fast", "not a rate");
    check("failed < 0.5", "whole number");
    check("failed < -1", "whole number");
    check("p95{url=x} < 1s", "step=NAME");
    check("p95{step=} < 1s", "step=NAME");
    check("dropped{step=a} == 0", "leave `{step=…}` out");
    check("checks > 99%", "not available in this version");
    check(&"x".repeat(2_000), "at most");
}
