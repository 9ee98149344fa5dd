//! What no run may pass: its rate, its VUs, its length, its targets.
//!
//! Judged when a plan is stored, when a run starts (with as many copies as `load: per_agent` makes, and with the addresses that names have then),
//! when an agent joins, and when a level is changed. Agents judge every connection by lists of their own all the same.

use std::net::IpAddr;
use std::time::Duration;

use volcanion_common::net::allow::{AllowList, TargetPolicy};
use volcanion_common::net::host_and_port;
use volcanion_common::plan::request::join;
use volcanion_common::plan::{Level, Plan};
use volcanion_common::problem::Problem;
use volcanion_common::units::{Micros, Rate};

/// How long asking for a target's addresses may take; agents judge those that are not known by then.
const RESOLVE_MAX: Duration = Duration::from_secs(2);

/// See the module; what is absent has no bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Caps {
    /// Of the arrivals of all open loops together.
    pub rate: Option<Rate>,
    /// Of all scenarios together.
    pub vus: Option<u64>,
    /// From the run's start to the last iteration's.
    pub duration: Option<Micros>,
    /// What may be loaded; without a list all but link-local and metadata addresses.
    pub targets: Option<AllowList>,
}

impl Caps {
    /// What is wrong with so many copies of a plan; nothing is asked of the network.
    pub fn problems(&self, plan: &Plan, copies: u64) -> Vec<Problem> {
        let mut problems = Vec::new();
        let asked: u64 = plan
            .scenarios
            .iter()
            .filter_map(|scenario| scenario.executor.max_rate())
            .fold(0, |sum: u64, rate| sum.saturating_add(rate.micro_per_hour()));
        let asked = Rate::from_micro_per_hour(asked.saturating_mul(copies));
        if let Some(most) = self.rate.filter(|most| asked.micro_per_hour() > most.micro_per_hour()) {
            problems.push(Problem::new(
                "scenarios",
                format!(
                    "{}{asked} may be asked for, and this master allows {most} (--max-rate)",
                    together(copies)
                ),
            ));
        }
        let vus = plan.scenarios.iter().map(|scenario| scenario.executor.max_vus());
        let vus = vus.fold(0, u64::saturating_add).saturating_mul(copies);
        if let Some(most) = self.vus.filter(|most| vus > *most) {
            problems.push(Problem::new(
                "scenarios",
                format!(
                    "{}{vus} VUs may be there, and this master allows {most} (--max-vus)",
                    together(copies)
                ),
            ));
        }
        if let Some(most) = self.duration.filter(|most| plan.duration() > *most) {
            problems.push(Problem::new(
                "scenarios",
                format!("the plan takes {}, and this master allows {most} (--max-duration)", plan.duration()),
            ));
        }
        problems.extend(self.target_problems(plan));
        problems
    }

    /// How many copies of a plan there may be at most.
    pub fn copies_max(&self, plan: &Plan) -> u64 {
        let of = |asked: u64, most: Option<u64>| {
            most.map_or(u64::MAX, |most| most.checked_div(asked).unwrap_or(u64::MAX))
        };
        let rates = plan.scenarios.iter().filter_map(|scenario| scenario.executor.max_rate());
        let rate = rates.fold(0, |sum: u64, rate| sum.saturating_add(rate.micro_per_hour()));
        let vus =
            plan.scenarios.iter().map(|scenario| scenario.executor.max_vus()).fold(0, u64::saturating_add);
        of(rate, self.rate.map(|most| most.micro_per_hour())).min(of(vus, self.vus))
    }

    /// What is wrong with a level that a scenario of a run is to be set to, for so many copies of its plan.
    pub fn level_problem(&self, level: Level, copies: u64) -> Option<String> {
        match (level.times(copies), self.rate, self.vus) {
            (Level::Rate(rate), Some(most), _) if rate.micro_per_hour() > most.micro_per_hour() => {
                Some(format!("{rate} is more than the {most} that this master allows a run (--max-rate)"))
            }
            (Level::Vus(vus), _, Some(most)) if vus > most => {
                Some(format!("{vus} VUs are more than the {most} that this master allows a run (--max-vus)"))
            }
            _ => None,
        }
    }

    /// What is wrong with the addresses that the plan's targets have now.
    pub async fn address_problems(&self, plan: &Plan) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        for (path, host, port) in targets(plan) {
            if host.parse::<IpAddr>().is_ok() || given(plan, &host, port).next().is_some() {
                continue;
            }
            let asking = tokio::net::lookup_host((host.clone(), port));
            // A name that is not known here may be known to the agents, which judge it then.
            let Ok(Ok(found)) = tokio::time::timeout(RESOLVE_MAX, asking).await else { continue };
            let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            if !found.is_empty() && !found.iter().any(|ip| self.policy().permits(&host, *ip, port)) {
                problems.push(Problem::new(path, self.refusal(&format!("`{host}`, which is {},", found[0]))));
            }
        }
        problems
    }

    fn target_problems(&self, plan: &Plan) -> Vec<Problem> {
        let policy = self.policy();
        let mut problems = Vec::new();
        if let Some(path) = plan.http.unix_socket.as_deref().filter(|path| !policy.permits_unix(path)) {
            problems.push(Problem::new("http.unix_socket", self.refusal(&format!("`unix:{path}`"))));
        }
        for (path, host, port) in targets(plan) {
            let literal = host.parse::<IpAddr>().ok();
            let known: Vec<IpAddr> = literal.into_iter().chain(given(plan, &host, port)).collect();
            if !policy.may_permit(&host, port, &known) {
                problems.push(Problem::new(path, self.refusal(&format!("`{}`", host_and_port(&host, port)))));
            }
        }
        problems
    }

    /// Agents know whether loopback is theirs to load.
    fn policy(&self) -> TargetPolicy {
        TargetPolicy { allow: self.targets.clone(), loopback: true }
    }

    fn refusal(&self, what: &str) -> String {
        match &self.targets {
            Some(list) => {
                format!(
                    "{what} is not among what may be loaded: {list}; add it with --allow-target on master and agents"
                )
            }
            None => format!(
                "{what} is a link-local or metadata address, which is loaded only where --allow-target names it, on master and agents"
            ),
        }
    }
}

fn together(copies: u64) -> String {
    if copies > 1 { format!("on {copies} agents together ") } else { String::new() }
}

/// Where each step goes, with its path in the plan; each server once.
fn targets(plan: &Plan) -> Vec<(String, String, u16)> {
    let mut found: Vec<(String, String, u16)> = Vec::new();
    for step in plan.steps() {
        let text = step.step.request.url.render(&plan.variables);
        let Ok(url) = join(plan.target.as_deref(), &text) else { continue };
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else { continue };
        let host = match host {
            url::Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            url::Host::Ipv4(ip) => ip.to_string(),
            url::Host::Ipv6(ip) => ip.to_string(),
        };
        if !found.iter().any(|(_, known, at)| *known == host && *at == port) {
            found.push((format!("steps.{}.url", step.step.name), host, port));
        }
    }
    found
}

/// The addresses that the plan itself gives to a name.
fn given<'a>(plan: &'a Plan, host: &'a str, port: u16) -> impl Iterator<Item = IpAddr> + 'a {
    let rules = plan.http.dns.resolve.iter();
    rules
        .filter(move |rule| rule.port == port && rule.host.eq_ignore_ascii_case(host))
        .flat_map(|rule| rule.addresses.iter().copied())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use volcanion_common::plan::document;
    use volcanion_common::validate::ValidPlan;

    use super::*;

    fn plan(url: &str) -> ValidPlan {
        let document = json!({
            "name": "p", "target": url,
            "scenarios": {
                "a": { "executor": "ramping-arrival-rate", "start_rate": "10/s", "max_vus": 30,
                       "stages": [{ "duration": "10s", "target": "100/s" }, { "duration": "10s", "target": "0/s" }],
                       "steps": [{ "name": "a", "get": "/" }] },
                "b": { "executor": "constant-vus", "vus": 20, "duration": "5s", "steps": [{ "name": "b", "get": "/b" }] }
            }
        });
        document::from_json(&document).unwrap().plan
    }

    fn said(caps: &Caps, plan: &Plan, copies: u64) -> String {
        caps.problems(plan, copies).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn targets(rules: &[&str]) -> Caps {
        let list = AllowList(rules.iter().map(|rule| rule.parse().unwrap()).collect());
        Caps { targets: Some(list), ..Caps::default() }
    }

    #[test]
    fn what_passes_a_bound_is_named_with_its_flag() {
        let plan = plan("http://shop.example");
        let caps = |rate: Option<&str>, vus, duration| Caps {
            rate: rate.map(|rate| rate.parse().unwrap()),
            vus,
            duration,
            targets: None,
        };
        let exact = caps(Some("100/s"), Some(50), Some(Micros::from_secs(20)));
        assert_eq!(said(&exact, &plan, 1), "");
        assert_eq!(exact.copies_max(&plan), 1);
        assert!(said(&caps(Some("99/s"), None, None), &plan, 1).contains("--max-rate"));
        assert!(said(&caps(None, Some(49), None), &plan, 1).contains("--max-vus"));
        assert!(said(&caps(None, None, Some(Micros::from_secs(19))), &plan, 1).contains("--max-duration"));
        let twice = said(&exact, &plan, 2);
        assert!(twice.contains("on 2 agents together") && twice.contains("--max-rate"), "{twice}");
        assert_eq!(caps(Some("350/s"), None, None).copies_max(&plan), 3);
        let fast = Level::Rate("60/s".parse().unwrap());
        assert!(exact.level_problem(fast, 1).is_none());
        assert!(exact.level_problem(fast, 2).unwrap().contains("--max-rate"));
        assert!(exact.level_problem(Level::Vus(51), 1).unwrap().contains("--max-vus"));
    }

    #[test]
    fn metadata_addresses_are_refused_in_every_spelling_and_the_list_is_said() {
        let spellings = [
            "http://169.254.169.254/latest",
            "http://2852039166",
            "http://0xa9fea9fe",
            "http://0251.0376.0251.0376",
            "http://169.254.43518",
            "http://[::ffff:169.254.169.254]",
            "http://[::ffff:a9fe:a9fe]",
            "http://[64:ff9b::a9fe:a9fe]",
            "http://[fd00:ec2::254]",
            "http://169.254.1.1",
            "http://[fe80::1]",
            "http://100.100.100.200",
        ];
        for url in spellings {
            let text = said(&Caps::default(), &plan(url), 1);
            assert!(text.contains("--allow-target"), "{url}: {text}");
            // A name on the list does not open it, nor does a wide network that has it inside another address.
            let text = said(&targets(&["*.example", "::/0"]), &plan(url), 1);
            assert!(
                url.contains("fe80") || url.contains("fd00") || text.contains("*.example"),
                "{url}: {text}"
            );
        }
        assert_eq!(said(&targets(&["169.254.169.254"]), &plan("http://2852039166"), 1), "");
        assert_eq!(said(&targets(&["*.example:80"]), &plan("http://shop.example"), 1), "");
        assert_eq!(said(&targets(&["10.0.0.0/8"]), &plan("http://shop.example"), 1), "", "it may be there");
        assert_eq!(said(&Caps::default(), &plan("http://127.0.0.1"), 1), "", "agents judge loopback");
        let text = said(&targets(&["*.example:80", "10.0.0.0/8"]), &plan("http://192.0.2.1:81"), 1);
        assert!(text.contains("`192.0.2.1:81`") && text.contains("*.example:80, 10.0.0.0/8"), "{text}");
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_addresses() {
        let problems = targets(&["localhost:1"]).address_problems(&plan("http://localhost:1")).await;
        assert_eq!(problems, [], "loopback is the agents' to judge");
        let problems = targets(&["192.0.2.0/24"]).address_problems(&plan("http://localhost:1")).await;
        assert!(problems[0].to_string().contains("`localhost`, which is"), "{problems:?}");
    }
}
