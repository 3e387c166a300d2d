use uuid::Uuid;

use super::*;
use crate::history::tests::{doing, free, owner};
use crate::options::GivenOptions;
use crate::ownership::Ownership;

fn group() -> GroupId {
    GroupId::new(Uuid::from_u128(77))
}

fn moving() -> Move {
    Move {
        from: GroupId::DEFAULT,
        to: group(),
        request: RequestId::new(Uuid::nil()),
        host: HostId::new(Uuid::nil()),
        started: Timestamp::default(),
        given_up: false,
        keep_name: false,
    }
}

fn claim() -> Claim {
    Claim {
        vm: owner("vm2").vm,
        host: HostId::new(Uuid::nil()),
        host_name: "esx02".to_owned(),
        request: RequestId::new(Uuid::nil()),
        mode: Failover::Wait,
        since: Timestamp::default(),
        deadline: Timestamp::default(),
        at_once: false,
    }
}

fn result(n: u128, answer: Answer) -> RequestResult {
    RequestResult {
        request: RequestId::new(Uuid::from_u128(n)),
        fingerprint: Fingerprint(String::new()),
        answer,
    }
}

#[test]
fn every_operation_has_its_verb() {
    let kinds = [
        (OperationKind::Create, "create"),
        (OperationKind::Attach, "attach"),
        (OperationKind::Detach, "detach"),
        (OperationKind::Release, "release"),
        (OperationKind::Fence, "fence"),
        (OperationKind::Delete, "delete"),
    ];
    for (kind, verb) in kinds {
        assert_eq!(kind.name(), verb);
    }
}

#[test]
fn only_a_volume_that_is_being_made_or_removed_does_not_exist() {
    assert!(free().exists());
    for kind in [OperationKind::Create, OperationKind::Delete] {
        assert!(!doing(free(), kind).exists(), "{kind:?}");
    }
    for kind in [
        OperationKind::Attach,
        OperationKind::Detach,
        OperationKind::Release,
        OperationKind::Fence,
    ] {
        assert!(doing(free(), kind).exists(), "{kind:?}");
    }
}

#[test]
fn a_flag_is_written_only_when_it_is_set() {
    let text = |moving: &Move| serde_json::to_string(moving).unwrap();
    let set = Move {
        given_up: true,
        ..moving()
    };
    assert!(!text(&moving()).contains("given_up"));
    assert!(text(&set).contains("\"given_up\":true"));
    let read: Move = serde_json::from_str(&text(&set)).unwrap();
    assert_eq!(read, set);
}

#[test]
fn a_work_says_how_far_it_is_as_soon_as_it_knows_of_how_much() {
    let at = |done, total| Making {
        source: None,
        done,
        total,
        seen: Timestamp::default(),
    };
    assert_eq!(at(5, 0).percent(), None);
    assert_eq!(at(429, 1000).percent(), Some(42));
}

#[test]
fn what_does_not_say_who_has_it_is_the_same_attachment_and_all_else_is_another() {
    let base = || {
        let mut record = free();
        record.ownership = Ownership::Attached {
            owner: owner("vm1"),
        };
        record
    };
    let mut beside: Vec<VolumeRecord> = (0..8).map(|_| base()).collect();
    beside[0].claim = Some(claim());
    beside[1].group = group();
    beside[2].folder = Some(group());
    beside[3].moving = Some(moving());
    beside[4].protected = true;
    beside[5].policy_version = Some(3);
    let fence = [("failover".to_owned(), "fence".to_owned())].into();
    beside[6].options = GivenOptions::parse(&fence).unwrap().resolve();
    beside[7].history.push(Happened {
        at: Timestamp::default(),
        host: "esx01".to_owned(),
        kind: "attached".to_owned(),
        vm: "vm1".to_owned(),
        epoch: Epoch::new(1),
    });
    assert!(base().same_attachment(&base()));
    for other in &beside {
        assert_ne!(*other, base());
        assert!(base().same_attachment(other), "{other:?}");
        assert!(other.same_attachment(&base()), "{other:?}");
    }
    let mut newer = base();
    newer.epoch = Epoch::new(2);
    let gone = VolumeRecord {
        ownership: Ownership::Free,
        ..base()
    };
    let begun = doing(base(), OperationKind::Detach);
    for other in [newer, gone, begun] {
        assert!(!base().same_attachment(&other), "{other:?}");
    }
}

#[test]
fn a_request_finds_its_own_last_answer_among_the_newest() {
    let mut record = free();
    record.remember(result(1, Answer::Created));
    record.remember(result(2, Answer::FormatFinished));
    record.remember(result(1, Answer::Detached));
    let of = |record: &VolumeRecord, n| {
        let found = record.recall(RequestId::new(Uuid::from_u128(n)));
        found.map(|r| r.answer.clone())
    };
    assert_eq!(record.results.len(), 2);
    assert_eq!(of(&record, 1), Some(Answer::Detached));
    assert_eq!(of(&record, 2), Some(Answer::FormatFinished));
    assert_eq!(of(&record, 3), None);
    let most = u128::try_from(MAX_RESULTS).unwrap();
    for n in 10..10 + most {
        record.remember(result(n, Answer::Created));
    }
    assert_eq!(record.results.len(), MAX_RESULTS);
    assert_eq!(
        (of(&record, 1), of(&record, 10)),
        (None, Some(Answer::Created))
    );
}

#[test]
fn files_lie_in_the_folder_they_were_made_in_and_a_disks_name_is_never_used_twice() {
    let mut record = free();
    assert_eq!(record.home(), GroupId::DEFAULT);
    record.group = group();
    assert_eq!(record.home(), group(), "made there");
    record.folder = Some(GroupId::DEFAULT);
    assert_eq!(record.home(), GroupId::DEFAULT, "moved since");
    assert_eq!(record.disk_file(), "v.00000001.vmdk");
}
