//! Models of the engine's protocols. `turns` and `wakeup` are the engine's own sources, built on loom's primitives; the others are
//! small copies of what their first lines name.

mod group_commit;
mod publish;
mod retirement;
mod sealing;
mod strong;
mod turns;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the file of the crate, of which the models use a part"
)]
pub(crate) mod wakeup;
mod waking;

/// Runs a model through its interleavings with at most `preemptions` switches away from a thread that could go on.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
