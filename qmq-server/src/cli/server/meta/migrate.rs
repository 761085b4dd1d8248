//! `qmq meta migrate`: the tables in MySQL or MariaDB.

use qmq_meta::{JdbcUrl, MigrateOptions, migrate, migration_sql};

use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::server::runtime;

/// Arguments of `qmq meta migrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The database, with a user who may make tables; not needed with --print-sql
    #[arg(
        long,
        value_name = "ADMIN_URL",
        env = "QMQ_ADMIN_URL",
        hide_env_values = true,
        required_unless_present = "print_sql"
    )]
    url: Option<String>,
    /// Print the statements instead of running them
    #[arg(long)]
    print_sql: bool,
    /// Make QMQ's nine tables too, where its init.sql has not run
    #[arg(long)]
    with_qmq_tables: bool,
}

const EXAMPLES: &str = "\
A running meta server has no right to make tables, and needs none: it looks whether they are there. Tables that are there stay
as they are, so this may be typed again.

Examples:
  qmq meta migrate --url 'mysql://root:PASSWORD@db:3306/qmq'
  qmq meta migrate --url 'mysql://root:PASSWORD@db:3306/qmq' --with-qmq-tables
  QMQ_ADMIN_URL='mysql://root:PASSWORD@db:3306/qmq' qmq meta migrate
  qmq meta migrate --print-sql | mysql -u root -p qmq";

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut out = Output::new();
    let Some(url) = args.url.as_ref().filter(|_| !args.print_sql) else {
        out.text(migration_sql(args.with_qmq_tables))?;
        return out.flush();
    };
    let url: JdbcUrl = url.parse().map_err(|error: qmq_meta::DatabaseError| {
        Failure::usage(
            error.to_string(),
            "write it as mysql://ADMIN:PASSWORD@HOST:3306/DATABASE",
        )
    })?;
    let options = MigrateOptions {
        with_qmq_tables: args.with_qmq_tables,
    };
    let report = runtime()?
        .block_on(migrate(&url, options))
        .map_err(|error| {
            Failure::of(
                "no tables were made",
                &error,
                "correct what it names, or run what --print-sql prints in another way",
            )
        })?;
    match report.created.is_empty() {
        true => out.line("all tables were there")?,
        false => out.line(format!("made {}", report.created.join(", ")))?,
    }
    out.line(format!("the tables of qmq have version {}", report.version))?;
    out.flush()
}
