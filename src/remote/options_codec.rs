//! Options of a call that a worker submits, behind the call's values. Appended in the worker, split off in
//! the pool's process.
//!
//! ```text
//! flags 1 (which of the others there are), retries 4, timeout 8, queue_timeout 8 (nanoseconds),
//! label (UTF-8), length of all of it 4
//! ```
//!
//! Little endian. A call without options has nothing there, as its frame says by [`HAS_OPTIONS`].

use std::time::Duration;

use crate::core::Options;

/// Set in the frame's slot, beside the kind of the task, if the values end with options.
pub(crate) const HAS_OPTIONS: u16 = 1 << 8;

/// The length of what comes before the label.
const FIXED: usize = 1 + 4 + 8 + 8;

/// Maximum length of a label, in bytes; a longer one is cut. A worker that was wrecked by its task can't have
/// the pool take memory by it.
const LONGEST_LABEL: usize = 1 << 16;

const TIMEOUT: u8 = 1;
const QUEUE_TIMEOUT: u8 = 2;
const LABEL: u8 = 4;

/// Appends the options, if there are any. `false`: there are none.
pub(crate) fn append(options: &Options, body: &mut Vec<u8>) -> bool {
    let Options { label, timeout, queue_timeout, retries } = options;
    let flag = |is_there, flag| if is_there { flag } else { 0 };
    let flags = flag(timeout.is_some(), TIMEOUT)
        | flag(queue_timeout.is_some(), QUEUE_TIMEOUT)
        | flag(label.is_some(), LABEL);
    if flags == 0 && *retries == 0 {
        return false;
    }
    let nanos = |limit: &Option<Duration>| {
        let nanos = limit.unwrap_or_default().as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX).to_le_bytes()
    };
    let label = label.as_deref().unwrap_or_default();
    let is_end = |at: &usize| label.is_char_boundary(*at);
    let end = (0..=label.len().min(LONGEST_LABEL)).rev().find(is_end).unwrap_or(0);
    let label = &label[..end];
    body.push(flags);
    body.extend_from_slice(&retries.to_le_bytes());
    body.extend_from_slice(&nanos(timeout));
    body.extend_from_slice(&nanos(queue_timeout));
    body.extend_from_slice(label.as_bytes());
    body.extend_from_slice(&((FIXED + label.len() + 4) as u32).to_le_bytes());
    true
}

/// Takes the options off the end of a call's values. `None`: there are none, although the frame says so.
pub(crate) fn split_off(body: &mut Vec<u8>) -> Option<Options> {
    let (rest, length) = body.split_last_chunk::<4>()?;
    let start = body.len().checked_sub(u32::from_le_bytes(*length) as usize)?;
    let tail = rest.get(start..)?;
    let (flags, tail) = tail.split_first()?;
    let (retries, tail) = tail.split_first_chunk::<4>()?;
    let (timeout, tail) = tail.split_first_chunk::<8>()?;
    let (queue_timeout, label) = tail.split_first_chunk::<8>()?;
    let limit = |flag, nanos: &[u8; 8]| {
        (flags & flag != 0).then(|| Duration::from_nanos(u64::from_le_bytes(*nanos)))
    };
    let label = std::str::from_utf8(label).ok().filter(|label| label.len() <= LONGEST_LABEL)?;
    let options = Options {
        label: (flags & LABEL != 0).then(|| label.to_owned().into()),
        timeout: limit(TIMEOUT, timeout),
        queue_timeout: limit(QUEUE_TIMEOUT, queue_timeout),
        retries: u32::from_le_bytes(*retries),
    };
    body.truncate(start);
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> [Option<Duration>; 3] {
        [None, Some(Duration::ZERO), Some(Duration::from_millis(7))]
    }

    #[test]
    fn options_arrive_as_they_were_given() {
        for label in [None, Some(""), Some("thumb ä")] {
            for (timeout, queue_timeout) in limits().into_iter().zip(limits().into_iter().rev()) {
                for retries in [0, u32::MAX] {
                    let given =
                        Options { label: label.map(Into::into), timeout, queue_timeout, retries };
                    let mut body = vec![1, 2, 3];
                    assert!(append(&given, &mut body));
                    let arrived = split_off(&mut body).unwrap();
                    assert_eq!(body, [1, 2, 3]);
                    assert_eq!(
                        (arrived.label, arrived.timeout, arrived.queue_timeout, arrived.retries),
                        (given.label, timeout, queue_timeout, retries)
                    );
                }
            }
        }
        let mut body = vec![1];
        assert!(!append(&Options::default(), &mut body));
        assert_eq!(body, [1]);
    }

    #[test]
    fn a_long_label_is_cut_between_two_characters() {
        let long: crate::label::Label = format!("{}ä", "x".repeat(LONGEST_LABEL - 1)).into();
        let mut body = Vec::new();
        append(&Options { label: Some(long.clone()), ..Options::default() }, &mut body);
        let label = split_off(&mut body).unwrap().label.unwrap();
        assert_eq!(label, long[..LONGEST_LABEL - 1]);
        // A worker that sends a longer one is not believed.
        append(&Options { label: Some(label), ..Options::default() }, &mut body);
        let at = body.len() - 4;
        body.splice(at.., [b'x'; 2]);
        body.extend_from_slice(&((FIXED + LONGEST_LABEL + 1 + 4) as u32).to_le_bytes());
        assert!(split_off(&mut body).is_none());
    }

    #[test]
    fn what_is_no_options_is_refused() {
        let mut whole = Vec::new();
        append(&Options { label: Some("ä".into()), ..Options::default() }, &mut whole);
        for cut in 0..whole.len() {
            assert!(split_off(&mut whole[cut + 1..].to_vec()).is_none(), "without the first {cut}");
            assert!(split_off(&mut whole[..cut].to_vec()).is_none(), "the first {cut}");
        }
        let mut no_text = whole.clone();
        no_text[FIXED] = 0xff;
        assert!(split_off(&mut no_text).is_none());
        for length in [0, 4, FIXED as u32 + 3, u32::MAX] {
            let mut wrong = whole.clone();
            let at = wrong.len() - 4;
            wrong[at..].copy_from_slice(&length.to_le_bytes());
            assert!(split_off(&mut wrong).is_none(), "{length}");
        }
    }
}
