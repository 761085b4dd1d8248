//! The command line: what can be asked, and how an answer becomes an exit code.

mod bench;
mod client;
mod config;
mod delay;
mod demo;
mod duration;
mod failure;
mod files;
mod latency;
mod lines;
mod moves;
mod output;
mod progress;
mod repl;
mod server;
mod store;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  qmq demo                                          everything, on a week of real flights
  qmq dev                                           a broker here; then, in another window:
  echo hello | qmq produce greetings
  qmq consume greetings --group me --count 1
  qmq status
  seq 1000 | qmq store append --dir data --subject numbers
  qmq store read --dir data --subject numbers --from 990
  qmq store verify --dir data
  printf '+90s\\tdrink water\\n' | qmq delay schedule --dir later --subject reminder
  qmq delay run --dir later --until-empty
  qmq repl diff --dir master --dir slave
  qmq bench store --messages 100000 --size 1024

Exit codes: 0 done, 1 failed, 2 the command line was wrong.";

/// A message store that keeps what it acknowledged.
#[derive(Debug, Parser)]
#[command(name = "qmq", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a cluster here: meta server, broker and delay server in one process on loopback
    Dev(server::dev::Args),
    /// Run the real-time broker
    Broker(server::broker::Args),
    /// Send messages to a broker: lines in
    Produce(client::produce::Args),
    /// Receive messages from a broker: lines out
    Consume(client::consume::Args),
    /// Show how brokers and groups are
    Status(client::status::Args),
    /// Move or delete a consumer group
    #[command(subcommand, after_help = client::group::EXAMPLES)]
    Group(client::group::Command),
    /// Check configuration files, and show what they say
    #[command(subcommand, after_help = config::EXAMPLES)]
    Config(config::Command),
    /// Certificates for an installation
    #[command(subcommand, after_help = server::tls::EXAMPLES)]
    Tls(server::tls::Command),
    /// Stream real flights through a broker, kill it again and again, and check every message
    Demo(demo::Args),
    /// Run a meta server: who serves which subject, who lives; or look after its database and groups
    Meta(server::meta::Args),
    /// What tools.sh of QMQ does: brokers, groups and subjects of a cluster
    #[command(subcommand, after_help = tools::EXAMPLES)]
    Tools(tools::Command),
    /// Write to, read from and look after a store's folder
    #[command(subcommand, after_help = store::EXAMPLES)]
    Store(store::Command),
    /// Run the delay server; or schedule messages in a folder, and hand them out when their time has come
    #[command(after_help = delay::EXAMPLES)]
    Delay(delay::Args),
    /// Look after messages that wait in delay servers
    #[command(subcommand, after_help = client::delayed::EXAMPLES)]
    Delayed(client::delayed::Command),
    /// Compare what masters and slaves have
    #[command(subcommand, after_help = repl::EXAMPLES)]
    Repl(repl::Command),
    /// Measure, beside the limits of this machine measured in the same run
    #[command(subcommand, after_help = bench::EXAMPLES)]
    Bench(bench::Command),
    /// The consumers of the demo that get lost; `qmq demo` starts it
    #[command(hide = true)]
    DemoWorker(demo::WorkerArgs),
    /// The other end of `qmq bench cluster --bare`
    #[command(hide = true)]
    BenchRelay,
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Dev(args) => server::dev::run(&args),
        Command::Broker(args) => server::broker::run(&args),
        Command::Produce(args) => client::produce::run(&args),
        Command::Consume(args) => client::consume::run(&args),
        Command::Status(args) => client::status::run(&args),
        Command::Group(command) => client::group::run(&command),
        Command::Config(command) => config::run(&command),
        Command::Tls(command) => server::tls::run(&command),
        Command::Demo(args) => demo::run(&args),
        Command::Meta(args) => server::meta::run(&args),
        Command::Tools(command) => tools::run(&command),
        Command::Store(command) => store::run(&command),
        Command::Delay(args) => delay::run(&args),
        Command::Delayed(command) => client::delayed::run(&command),
        Command::Repl(command) => repl::run(&command),
        Command::Bench(command) => bench::run(&command),
        Command::BenchRelay => bench::run_relay(),
        Command::DemoWorker(args) => demo::run_worker(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
