//! What all kill loops share: the kill itself, and numbers that a seed decides.

use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;

/// The signal that cannot be handled.
const SIGKILL: i32 = 9;

/// Kills a process that must still be running.
pub(crate) fn kill(child: &mut Child) -> Result<(), Box<dyn Error>> {
    child.kill()?;
    let ended = child.wait()?;
    match ended.signal() {
        Some(SIGKILL) => Ok(()),
        _ => Err(format!("the process ended by itself: {ended}").into()),
    }
}

/// The `n`th number of one of a seed's streams.
pub(crate) fn random(seed: u64, n: u64, stream: u64) -> u64 {
    mix(mix(seed ^ stream.rotate_left(32)).wrapping_add(n))
}

/// One step of SplitMix64.
pub(crate) fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
