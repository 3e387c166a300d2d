//! Calls that are one step where a case asks for it: reading the record, and swapping it.
//!
//! [`crate::swap_case`] searches `swap` call by call, with three writers, and shows what it is for whoever uses it: its value
//! changes in one moment or not at all, and who reads gets what was acknowledged before. On this stand the larger cases
//! of ownership ([`super::Scene::whole`]): a listing with the slots read after it is one step, and so is a swap from the
//! slot's making to the removal of older ones. What `swap` lets through to its callers is chosen there all the same:
//!
//! * *conflict*: the record changed between reading and swapping, which are two steps;
//! * an agent that dies in the middle: before the slot, in the middle of writing it, or when it is written and older ones
//!   are not removed;
//! * *conflict* and *unknown* though nothing changed ([`super::Scene::strangers`]): a third writer makes the next slot in the
//!   middle of the swap, and is never heard of again.
//!
//! Which calls belong together is told by their order alone, which is that of the source of `swap`. A call that does not
//! fit ends the step, and is a step of its own: that is more orders, never fewer.

use super::call::{Answer, Op};
use crate::swap_case::swap::frame;

/// How far reading or swapping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The folder was listed, slots are read from the highest down.
    Listed,
    /// The slot was made.
    Made,
    /// The folder was listed for the second look.
    MadeListed,
    /// The second look found what was read.
    Looked,
    /// The slot was written.
    Wrote,
    /// The third look found it the last one; it is seen whether there are older ones.
    Passed,
    /// There are: the folder was listed for them.
    Sifts,
    /// They are removed.
    Removes,
}

impl Phase {
    /// Where it is after this call with this answer. None: it is over.
    pub(super) fn after(before: Option<Self>, op: &Op, said: &Answer) -> Option<Self> {
        match (before, op, said) {
            (None | Some(Self::Listed), Op::ReadDir(_), Answer::Entries(Ok(_))) => {
                Some(Self::Listed)
            }
            (Some(Self::Listed), Op::Read(_), Answer::Bytes(Ok(bytes))) => {
                (!frame::is_whole(bytes)).then_some(Self::Listed)
            }
            (Some(Self::Listed), Op::Read(_), Answer::Bytes(Err(_))) => Some(Self::Listed),
            (None, Op::Create(_), Answer::Unit(Ok(()))) => Some(Self::Made),
            (Some(Self::Made), Op::ReadUnless(..), Answer::Unless(Ok(Some(_)))) => {
                Some(Self::Looked)
            }
            (Some(Self::Made), Op::ReadDir(_), _) => Some(Self::MadeListed),
            (Some(Self::MadeListed), Op::Read(_), _) => Some(Self::MadeListed),
            (Some(Self::MadeListed | Self::Looked), Op::Write(..), Answer::Unit(Ok(()))) => {
                Some(Self::Wrote)
            }
            (Some(Self::Wrote), Op::ReadUnless(..), Answer::Unless(Ok(Some(_)))) => {
                Some(Self::Passed)
            }
            (Some(Self::Passed), Op::Read(_), _) => Some(Self::Passed),
            (Some(Self::Passed), Op::ReadDir(_), _) => Some(Self::Sifts),
            (Some(Self::Passed | Self::Sifts | Self::Removes), Op::Remove(_), _) => {
                Some(Self::Removes)
            }
            _ => None,
        }
    }

    /// Whether a call of the same agent that comes now goes on with it.
    pub(super) const fn goes_on_with(self, op: &Op) -> bool {
        match self {
            Self::Listed => matches!(op, Op::ReadDir(_) | Op::Read(_)),
            Self::Made => matches!(op, Op::ReadUnless(..) | Op::ReadDir(_)),
            Self::MadeListed => matches!(op, Op::Read(_) | Op::Write(..)),
            Self::Looked => matches!(op, Op::Write(..)),
            Self::Wrote => matches!(op, Op::ReadUnless(..)),
            Self::Passed => matches!(op, Op::Read(_) | Op::ReadDir(_) | Op::Remove(_)),
            Self::Sifts | Self::Removes => matches!(op, Op::Remove(_)),
        }
    }
}

/// Something happens in the middle of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amid {
    /// Its agent dies before half of the slot is written.
    Torn,
    /// Its agent dies when the slot is written.
    Written,
    /// A stranger makes the next slot before the second look.
    StrangerBefore,
    /// He does so before the third look.
    StrangerAfter,
}

impl Amid {
    /// Whether its moment is before this call.
    pub(super) const fn is_before(self, phase: Phase, op: &Op) -> bool {
        match self {
            Self::Torn => matches!(op, Op::Write(..)),
            Self::Written | Self::StrangerAfter => matches!(phase, Phase::Wrote),
            Self::StrangerBefore => matches!(phase, Phase::Made),
        }
    }
}
