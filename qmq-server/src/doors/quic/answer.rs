//! Answers in frames that the other end takes.

use bytes::{Bytes, BytesMut};
use qmq_wire::{Code, ControlResponse, Controlled, FRAME_HEADER_LEN, Produced, Refusal, Scheduled};

use crate::rooms::Taken;

/// Bytes of PRODUCED or SCHEDULED besides the outcomes: its number and two counts.
const PRODUCED_BEGIN: usize = 12;
/// Most bytes that the outcome of one message takes, if its refusal has no text: one that was scheduled.
const OUTCOME_BYTES: usize = 20;

/// Most messages whose outcomes fit into a payload of so many bytes, whatever becomes of them.
pub(super) fn outcomes_max(frame_bytes_max: u32) -> usize {
    (frame_bytes_max as usize).saturating_sub(PRODUCED_BEGIN) / OUTCOME_BYTES
}

/// What became of at most [`outcomes_max`] messages; without texts if these are too long.
pub(super) fn taken(mut taken: Taken, frame_bytes_max: u32) -> Bytes {
    let encode = |taken: &Taken, out: &mut BytesMut| match taken {
        Taken::Produced(produced) => produced.encode(out),
        Taken::Scheduled(scheduled) => scheduled.encode(out),
    };
    let mut out = BytesMut::new();
    encode(&taken, &mut out);
    if !fits(&out, frame_bytes_max) {
        out.clear();
        let (Taken::Produced(Produced { refused, .. })
        | Taken::Scheduled(Scheduled { refused, .. })) = &mut taken;
        for refused in refused {
            refused.text.clear();
        }
        encode(&taken, &mut out);
    }
    out.freeze()
}

/// What an operator has asked.
///
/// # Errors
/// A refusal if it does not fit into a payload of so many bytes.
pub(super) fn controlled(
    number: u32,
    response: ControlResponse,
    frame_bytes_max: u32,
) -> Result<Bytes, Refusal> {
    let refused = |text| Refusal::new(number, Code::TooLarge, text);
    let mut out = BytesMut::new();
    let answer = Controlled { number, response };
    answer
        .encode(&mut out)
        .map_err(|error| refused(error.to_string()))?;
    if !fits(&out, frame_bytes_max) {
        return Err(refused(format!(
            "the answer has {} bytes, and the frame_bytes_max of your HELLO is {frame_bytes_max}; raise it, or ask for less",
            out.len() - FRAME_HEADER_LEN
        )));
    }
    Ok(out.freeze())
}

fn fits(frame: &BytesMut, frame_bytes_max: u32) -> bool {
    frame.len() - FRAME_HEADER_LEN <= frame_bytes_max as usize
}

#[cfg(test)]
mod tests {
    use qmq_wire::{Accepted, AcceptedDelay, LEAST_FRAME_BYTES_MAX, Refused};

    use super::*;

    #[test]
    fn outcomes_of_as_many_messages_as_are_taken_fit_whatever_they_are() {
        let max = outcomes_max(LEAST_FRAME_BYTES_MAX) as u32;
        let accepted = (0..max).map(|index| Accepted {
            index,
            len: 1,
            sequence: u64::from(index) * 2,
        });
        let refused = (0..max).map(|index| Refused {
            index,
            code: Code::BadMessage,
            text: format!("{index}: a text that takes some room"),
        });
        let scheduled = (0..max).map(|index| AcceptedDelay { index, id: [7; 16] });
        let produced = |accepted, refused| {
            Taken::Produced(Produced {
                number: 1,
                accepted,
                refused,
            })
        };
        for taken_by_a_room in [
            produced(accepted.collect(), Vec::new()),
            produced(Vec::new(), refused.collect()),
            Taken::Scheduled(Scheduled {
                number: 1,
                accepted: scheduled.collect(),
                refused: Vec::new(),
            }),
        ] {
            let frame = taken(taken_by_a_room, LEAST_FRAME_BYTES_MAX);
            assert!(frame.len() - FRAME_HEADER_LEN <= LEAST_FRAME_BYTES_MAX as usize);
        }
    }
}
