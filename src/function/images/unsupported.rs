//! Systems on which no function has a name.

use crate::function::{Checked, Part, Reference, UnknownCode, Words};

fn not_supported<T>() -> Result<T, UnknownCode> {
    Err(UnknownCode("to call a function in another process is not supported here".to_owned()))
}

pub(super) fn refer_to(_: usize, _: Part) -> Result<Reference, UnknownCode> {
    not_supported()
}

pub(super) fn address_of(_: Reference, _: Part) -> Result<usize, UnknownCode> {
    not_supported()
}

pub(super) fn has_image(_: Reference) -> bool {
    false
}

pub(super) fn constants(_: Reference) -> Result<Words, UnknownCode> {
    not_supported()
}

pub(super) fn check_beginning(_: Reference) -> Result<Checked, UnknownCode> {
    not_supported()
}

pub(super) fn name_of(_: usize) -> Result<String, UnknownCode> {
    not_supported()
}

pub(super) fn program_digest() -> Result<u64, UnknownCode> {
    not_supported()
}
