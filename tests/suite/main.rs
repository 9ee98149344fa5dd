//! A module a promise. Everything here uses real processes; what the target counted is held against the report.
#![allow(clippy::unwrap_used, reason = "a test that does not find what it looks for has failed")]

#[path = "../harness/mod.rs"]
mod harness;

mod adjusted;
mod agent_loss;
mod bad_input;
mod calibrate;
mod command_line;
mod cut_wires;
mod dependencies;
mod deploy_files;
mod elastic;
mod etcd_gone;
mod exact_split;
mod executors;
mod fail_over;
mod forged_orders;
mod frozen;
mod guard_rails;
mod histogram_bytes;
mod house_rules;
mod keys;
mod kill;
mod kubernetes;
mod layers;
mod log_lines;
mod loopback_only;
mod many_vus;
mod memory;
mod messages;
mod monitoring;
mod mutual_tls;
mod no_count_lost;
mod oidc;
mod open_loop;
mod orphaned;
mod prometheus;
mod readme;
mod registered_agents;
mod rest_document;
mod rest_limits;
mod rest_tls;
mod restart;
mod scale;
mod secrets;
mod signals;
mod slow_readers;
mod start_skew;
mod stop_at_once;
mod store_gone;
mod traces;
mod two_masters;
mod validity;
