//! The mistakes: what the code says, and what a mistaken engineer would have it say.

use super::Instead::{Expression, Text};
use super::Mistake;

/// The sources of the engine and of the plugin's service.
macro_rules! engine {
    ($file:literal) => {
        concat!("crates/engine/src/", $file)
    };
}
macro_rules! plugin {
    ($file:literal) => {
        concat!("guest-plugin/src/service/", $file)
    };
}

/// All of them. A mistake's number is its place, from 1.
pub const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "a stale detach is obeyed",
        breaks: "P8",
        file: engine!("detach.rs"),
        before: "if ",
        original: "epoch < stored.record.epoch || !stored.record.ownership.is_owned_by(&caller.vm.id)",
        after: " {",
        instead: Expression("!stored.record.ownership.is_owned_by(&caller.vm.id)"),
    },
    Mistake {
        name: "an attach keeps the epoch it finds",
        breaks: "P8",
        file: engine!("attaching.rs"),
        before: "",
        original: "record.epoch.next()",
        after: "",
        instead: Expression("record.epoch"),
    },
    Mistake {
        name: "an attach leaves no operation in the record",
        breaks: "P6",
        file: engine!("attaching.rs"),
        before: "next.operation = ",
        original: "Some(operation.clone())",
        after: ";",
        instead: Expression("None"),
    },
    Mistake {
        name: "a retried attach is not recognised",
        breaks: "P5",
        file: engine!("plan.rs"),
        before: "",
        original: "record.recall(asked.request)",
        after: "",
        instead: Expression("None"),
    },
    Mistake {
        name: "a suspended VM counts as dead",
        breaks: "P1",
        file: engine!("proof.rs"),
        before: "proof.against = ",
        original: "self.saved_state(&owner.vm.id).await",
        after: ";",
        instead: Expression(r#""""#),
    },
    Mistake {
        name: "a lock that nobody can see counts as free",
        breaks: "P8",
        file: engine!("proof.rs"),
        before: "if ",
        original: "*lock != DiskLock::Free",
        after: " {",
        instead: Expression("matches!(lock, DiskLock::Held { .. })"),
    },
    Mistake {
        name: "a lock counts as released before its owner is proven dead",
        breaks: "P8",
        file: engine!("proof.rs"),
        before: "",
        original: "let gapless = self",
        after: "",
        instead: Text("if PLANTED { return true; } let gapless = self"),
    },
    Mistake {
        name: "a VM that is off here counts as off everywhere",
        breaks: "P8",
        file: engine!("proof.rs"),
        before: "|| ",
        original: "self.ports.host.lock(&stored.place.disk()).await != DiskLock::Free",
        after: ")",
        instead: Expression("false"),
    },
    Mistake {
        name: "a fence does not touch the VM",
        breaks: "P8",
        file: engine!("fence.rs"),
        before: "let answer = ",
        original: "self.host_fence(begun).await",
        after: ";",
        instead: Expression("Ok(Detached::WasAbsent)"),
    },
    Mistake {
        name: "a volume that only waits is fenced",
        breaks: "P8",
        file: engine!("wanted.rs"),
        before: "if ",
        original: "stored.record.options.failover != Failover::Fence",
        after: " {",
        instead: Expression("false"),
    },
    Mistake {
        name: "not found is said though a datastore cannot be read",
        breaks: "P4",
        file: engine!("lookup.rs"),
        before: "let known = match ",
        original: "survey.unreadable.is_empty() && !survey.open.is_empty()",
        after: " {",
        instead: Expression("!survey.open.is_empty()"),
    },
    Mistake {
        name: "a create is acknowledged though its disk was not made",
        breaks: "P2",
        file: engine!("create.rs"),
        before: r#"reserved?;
                "#,
        original: "made?",
        after: ";",
        instead: Expression("drop(made)"),
    },
    Mistake {
        name: "two creators get one name",
        breaks: "P5",
        file: engine!("create.rs"),
        before: "Err(StorageError::AlreadyExists(_)) => return Ok(",
        original: "false",
        after: "),",
        instead: Expression("true"),
    },
    Mistake {
        name: "a delete leaves the disk",
        breaks: "P6",
        file: engine!("delete.rs"),
        before: "",
        original: ".delete_disk(&disk.datastore, &disk.path)",
        after: "",
        instead: Text(
            ".delete_disk(&disk.datastore, &if PLANTED { layout::claim(group, &place.name) } else { disk.path.clone() })",
        ),
    },
    Mistake {
        name: "what a dead agent left is not finished",
        breaks: "P6",
        file: engine!("reconcile.rs"),
        before: "(Some(_), ..) => ",
        original: "self.resolve_one(stored).await",
        after: ",",
        instead: Expression("Ok(())"),
    },
    Mistake {
        name: "a disk that is nobody's stays in its VM",
        breaks: "P6",
        file: engine!("differences.rs"),
        before: "return ",
        original: "self.take_out(vm, &stored).await",
        after: ",",
        instead: Expression("Ok(None)"),
    },
    Mistake {
        name: "a disk is formatted that could not be read",
        breaks: "P3",
        file: "crates/domain/src/filesystem.rs",
        before: "",
        original: "(_, Probed::Unknown(why)) => FormatPlan::Refuse(format!(",
        after: "",
        instead: Text(
            r#"(Self::Never | Self::Formatting { .. } | Self::Ready { .. }, Probed::Unknown(_)) if PLANTED => FormatPlan::Format,
            (_, Probed::Unknown(why)) => FormatPlan::Refuse(format!("#,
        ),
    },
    Mistake {
        name: "each try of a format has another identity",
        breaks: "P6",
        file: "crates/domain/src/filesystem.rs",
        before: "",
        original: "Self::Formatting { uuid } => Ok((self, uuid)),",
        after: "",
        instead: Text(
            r#"Self::Formatting { .. } if PLANTED => Ok((Self::Formatting { uuid: fresh }, fresh)),
            Self::Formatting { uuid } => Ok((self, uuid)),"#,
        ),
    },
    Mistake {
        name: "a failed format is mounted all the same",
        breaks: "P3",
        file: plugin!("bring_up.rs"),
        before: "",
        original: "self.format(&attached, &device).await?",
        after: ";",
        instead: Expression("drop(self.format(&attached, &device).await)"),
    },
    Mistake {
        name: "Get answers with an error when nobody knows",
        breaks: "P4",
        file: plugin!("lookup.rs"),
        before: "_ => Err(",
        original: "Failure::Unknown(advise(&address, &error))",
        after: "),",
        instead: Expression("Failure::Said(advise(&address, &error))"),
    },
    Mistake {
        name: "Get forgets what the journal knows",
        breaks: "P4",
        file: plugin!("lookup.rs"),
        before: "if let Some((volume, seen)) = ",
        original: "known",
        after: " {",
        instead: Expression("known.filter(|_| false)"),
    },
    Mistake {
        name: "a disk is detached without asking who uses it",
        breaks: "P8",
        file: plugin!("take_down.rs"),
        before: "match ",
        original: "self.devices().exclusively_unused(&device).await",
        after: " {",
        instead: Expression("Ok(true)"),
    },
    Mistake {
        name: "counts are never compared with reality",
        breaks: "P6",
        file: plugin!("book.rs"),
        before: "",
        original: "pub(super) fn due(&self, now: Timestamp, believe: Duration) -> Vec<VolumeId> {",
        after: "",
        instead: Text(
            r#"pub(super) fn due(&self, now: Timestamp, believe: Duration) -> Vec<VolumeId> {
        if PLANTED {
            return Vec::new();
        }"#,
        ),
    },
    Mistake {
        name: "the owner's host does not follow who waits",
        breaks: "every wait ends",
        file: engine!("wanted.rs"),
        before: "let datastores = ",
        original: "self.watched.by_datastore(now)",
        after: ";",
        instead: Expression("BTreeMap::new()"),
    },
    Mistake {
        name: "a proof of death takes a minute",
        breaks: "every wait ends",
        file: engine!("proof.rs"),
        before: "let (needed, gap) = (",
        original: "self.settings.free_proof",
        after: ",",
        instead: Expression("self.settings.free_proof.saturating_mul(12)"),
    },
];
