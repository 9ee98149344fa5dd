use std::collections::BTreeMap;

use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId};
use volcanion_common::plan::template::Template;
use volcanion_common::plan::{
    Body, Header, HttpOptions, Request, RequestStep, Scenario as PlanScenario, Step as PlanStep,
};

use super::*;

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

pub(crate) fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: template(value) }
}

pub(crate) fn request(method: &str, url: &str, headers: Vec<Header>, body: Option<&str>) -> RequestStep {
    let body = body.map(|text| Body::Text(template(text)));
    let request = Request { method: method.to_owned(), url: template(url), headers, body };
    RequestStep { name: format!("{method} {url}"), request, timeout: None }
}

/// A plan of one scenario with these requests and a think between each two.
pub(crate) fn plan(target: Option<&str>, requests: Vec<RequestStep>) -> Plan {
    let think = PlanStep::Think { least: Micros(1), most: Micros(2) };
    let steps =
        requests.into_iter().flat_map(|step| [PlanStep::Request(Box::new(step)), think.clone()]).collect();
    Plan {
        name: "p".to_owned(),
        target: target.map(str::to_owned),
        timeout: Micros::from_secs(30),
        headers: Vec::new(),
        http: HttpOptions::default(),
        variables: BTreeMap::new(),
        agents: Default::default(),
        load: Default::default(),
        elastic: false,
        on_agent_loss: Default::default(),
        success_status: vec![(200, 399)],
        trace_sample: None,
        interval: Micros::from_secs(1),
        scenarios: vec![PlanScenario {
            name: "default".to_owned(),
            executor: Executor::ConstantVus { vus: 1, duration: Micros::from_secs(1) },
            start_time: Micros::ZERO,
            graceful_stop: Micros::from_secs(30),
            steps,
        }],
        thresholds: Vec::new(),
    }
}

pub(crate) fn shard(scenarios: usize) -> Shard {
    Shard {
        run: RunId::new(),
        epoch: Epoch(1),
        agent: AgentId::from("a"),
        incarnation: Incarnation(1),
        expires_unix_ms: 0,
        seed: 7,
        plan: serde_json::Value::Null,
        scenarios: vec![ScenarioShare { lanes: 1, owned: vec![0] }; scenarios],
        first_vu: 0,
        ready_for: Vec::new(),
        orphan_timeout: None,
        trace: None,
    }
}

fn compiled(plan: &Plan) -> Result<Program, PrepareError> {
    compile(&shard(plan.scenarios.len()), plan, &PrepareSettings::default())
}

fn text_of(plan: &Plan) -> String {
    String::from_utf8(compiled(plan).unwrap().steps[0].request.http1.clone()).unwrap()
}

const AGENT: &str = concat!("user-agent: volcanion/", env!("CARGO_PKG_VERSION"), "\r\naccept: */*\r\n");

#[test]
fn a_request_goes_out_in_origin_form_with_the_least_of_headers() {
    let plan = plan(Some("http://example.com"), vec![request("GET", "/a b?q=ü#part", vec![], None)]);
    assert_eq!(text_of(&plan), format!("GET /a%20b?q=%C3%BC HTTP/1.1\r\nhost: example.com\r\n{AGENT}\r\n"));
}

#[test]
fn a_step_joins_the_target_and_may_leave_it() {
    let check = |target: Option<&str>, url: &str, line: &str, host: &str| {
        let text = text_of(&plan(target, vec![request("GET", url, vec![], None)]));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(format!("GET {line} HTTP/1.1").as_str()), "{target:?} + {url}");
        assert_eq!(lines.next(), Some(format!("host: {host}").as_str()), "{target:?} + {url}");
    };
    check(Some("http://h/base/"), "/x", "/base/x", "h");
    check(Some("http://h/base?k=v"), "x?y=z", "/base/x?y=z", "h");
    check(Some("http://h:8080/a?k=v"), "", "/a?k=v", "h:8080");
    check(Some("http://h"), "?y=z", "/?y=z", "h");
    check(Some("http://h"), "//x", "//x", "h");
    check(Some("http://h"), "https://other:443/x", "/x", "other");
    check(None, "HTTP://[2001:DB8::1]:81", "/", "[2001:db8::1]:81");
    check(None, "http://bücher.example/", "/", "xn--bcher-kva.example");
}

#[test]
fn headers_of_the_step_replace_the_plans_and_keep_their_order() {
    let own = vec![header("X-A", "1"), header("Accept", "text/{{ kind }}"), header("X-A", "2")];
    let mut plan = plan(Some("http://h"), vec![request("POST", "/", own, Some("b={{ kind }}"))]);
    plan.headers = vec![header("x-a", "gone"), header("User-Agent", "mine"), header("Host", "virtual")];
    plan.variables.insert("kind".to_owned(), "html".to_owned());
    assert_eq!(
        text_of(&plan),
        "POST / HTTP/1.1\r\nUser-Agent: mine\r\nHost: virtual\r\nX-A: 1\r\nAccept: text/html\r\nX-A: 2\r\ncontent-length: 6\r\n\r\nb=html"
    );
}

#[test]
fn the_length_is_there_where_a_body_or_its_method_is_and_is_always_true() {
    let check = |method: &str, body: Option<&str>, given: Option<&str>, expected: Option<&str>| {
        let headers = given.map(|length| header("Content-Length", length)).into_iter().collect();
        let text = text_of(&plan(Some("http://h"), vec![request(method, "/", headers, body)]));
        let found: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{method} {body:?} {given:?}");
    };
    check("GET", None, None, None);
    check("GET", Some("ü"), None, Some("2"));
    check("DELETE", None, None, None);
    for method in ["POST", "PUT", "PATCH"] {
        check(method, None, None, Some("0"));
    }
    check("POST", Some("abc"), Some("99"), Some("3"));
}

#[test]
fn without_keep_alive_the_server_is_told() {
    let mut plan = plan(Some("http://h"), vec![request("GET", "/", vec![], None)]);
    plan.http.no_keep_alive = true;
    assert!(text_of(&plan).contains("\r\nconnection: close\r\n"));
    assert!(!compiled(&plan).unwrap().keep_alive);
}

#[test]
fn what_cannot_be_sent_is_refused_by_step() {
    let check = |step: RequestStep, word: &str| {
        let error = compiled(&plan(None, vec![step])).unwrap_err();
        assert_eq!(error.code, "plan");
        assert!(error.message.contains(word) && error.message.starts_with("step `"), "{error}");
    };
    check(request("GET", "/x", vec![], None), "no `target`");
    check(request("G T", "http://h/", vec![], None), "method");
    check(request("CONNECT", "http://h/", vec![], None), "tunnel");
    check(request("GET", "http://user:secret@h/", vec![], None), "authorization");
    check(request("GET", "http://h/", vec![header("a b", "1")], None), "header name");
    check(request("GET", "http://h/", vec![header("Transfer-Encoding", "chunked")], None), "length");
    let mut injected = plan(None, vec![request("GET", "http://h/", vec![header("a", "{{ v }}")], None)]);
    injected.variables.insert("v".to_owned(), "1\r\nx: y".to_owned());
    assert!(compiled(&injected).unwrap_err().message.contains("line break"));
    assert_eq!(compile(&shard(2), &injected, &PrepareSettings::default()).unwrap_err().code, "plan");
}

#[test]
fn steps_share_their_origins_and_items_name_them_across_scenarios() {
    let urls = ["http://a/1", "https://a/2", "http://a:80/3", "http://a:81/4"];
    let mut plan = plan(None, urls.iter().map(|url| request("GET", url, vec![], None)).collect());
    plan.scenarios.push(PlanScenario { name: "second".to_owned(), ..plan.scenarios[0].clone() });
    let program = compiled(&plan).unwrap();
    assert_eq!(
        program.steps.iter().map(|step| step.request.origin).collect::<Vec<_>>(),
        [0, 1, 0, 2, 0, 1, 0, 2]
    );
    assert_eq!(
        program.origins.iter().map(|o| (o.port, o.tls.is_some())).collect::<Vec<_>>(),
        [(80, false), (443, true), (81, false)]
    );
    assert!(program.tls.is_some());
    assert_eq!(program.scenarios[1].items[0], Item::Request(4));
    assert_eq!(program.scenarios[1].items[1], Item::Think { least: Micros(1), most: Micros(2) });
}

#[test]
fn methods_say_what_may_be_repeated_and_what_has_no_body() {
    let of = |method: &str| {
        let program = compiled(&plan(None, vec![request(method, "http://h/", vec![], None)])).unwrap();
        (program.steps[0].request.is_idempotent, program.steps[0].request.is_head)
    };
    assert_eq!(of("HEAD"), (true, true));
    assert_eq!(of("PUT"), (true, false));
    assert_eq!(of("POST"), (false, false));
    assert_eq!(of("PATCH"), (false, false));
    assert_eq!(of("QUERYISH"), (false, false));
}

#[test]
fn success_is_what_the_ranges_say() {
    let success = SuccessStatus::new(&[(200, 299), (404, 404), (1000, 65535)]);
    let held: Vec<u16> = (0..=u16::MAX).filter(|status| success.holds(*status)).collect();
    assert_eq!(held, (200..=299).chain([404]).chain(1000..=1023).collect::<Vec<_>>());
}

#[test]
fn a_body_file_is_read_or_opened_once_and_its_length_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small"), "abc").unwrap();
    std::fs::File::create(folder.path().join("large")).unwrap().set_len(5_000_000_000).unwrap();
    let step = |name: &str| {
        let mut step = request("POST", "http://h/", vec![], None);
        step.request.body = Some(Body::File(name.to_owned()));
        step
    };
    let plan = plan(None, vec![step("small"), step("large"), step("large")]);
    let settings = PrepareSettings { files: Some(folder.path().to_owned()), ..PrepareSettings::default() };
    let program = compile(&shard(1), &plan, &settings).unwrap();
    let [small, large, again] = [0, 1, 2].map(|step: usize| &program.steps[step].request);
    assert!(small.http1.ends_with(b"content-length: 3\r\n\r\nabc"));
    assert!(large.http1.ends_with(b"content-length: 5000000000\r\n\r\n"));
    let (message::Content::File(one), message::Content::File(other)) = (&large.content, &again.content)
    else {
        panic!("a large file is not read");
    };
    assert!(Arc::ptr_eq(one, other));
    let error = compiled(&plan).unwrap_err();
    assert_eq!(error.code, "files");
    assert!(error.message.starts_with("step `POST http://h/`: body_file: `small`"), "{error}");
}
