use std::path::Path;
use std::slice;

use super::*;

const DISK: &str = "/ds/a-flat.vmdk";

fn device(number: u32, size: u64, written: u64) -> Loop {
    Loop {
        binding: Binding {
            number,
            generation: u64::from(number) * 100,
        },
        file: DISK.into(),
        size,
        offset: 0,
        size_limit: 0,
        read_only: false,
        autoclear: false,
        written,
        in_flight: 0,
    }
}

fn node(pid: u32, devices: &[u32]) -> Seen {
    Seen {
        node: Node {
            name: format!("vm{pid}"),
            pid,
            start_time: 1,
        },
        mounts: Vec::new(),
        devices: devices.iter().copied().collect(),
    }
}

struct Story {
    judge: Judge,
    now: Duration,
    changed: Duration,
}

impl Story {
    fn new() -> Self {
        Self {
            judge: Judge::default(),
            now: Duration::ZERO,
            changed: Duration::ZERO,
        }
    }

    /// The same picture for two seconds, in looks 50 ms apart; the kinds found.
    fn goes_on(&mut self, loops: &[Loop], nodes: &[Seen]) -> Vec<&'static str> {
        (0..40).flat_map(|_| self.look(loops, nodes)).collect()
    }

    fn look(&mut self, loops: &[Loop], nodes: &[Seen]) -> Vec<&'static str> {
        self.now += Duration::from_millis(50);
        let look = Look {
            at: self.now,
            loops: loops.to_vec(),
            nodes: nodes.to_vec(),
            changes: [(PathBuf::from(DISK), self.changed)].into(),
        };
        self.judge
            .look(&look)
            .into_iter()
            .map(|finding| finding.kind)
            .collect()
    }
}

#[test]
fn a_disk_that_goes_from_node_to_node_is_fine() {
    let mut story = Story::new();
    let (a, b) = (node(1, &[4]), node(2, &[5]));
    assert!(
        story
            .goes_on(&[device(4, 9, 1)], &[a.clone(), node(2, &[])])
            .is_empty()
    );
    assert!(story.goes_on(&[], &[node(1, &[]), node(2, &[])]).is_empty());
    story.changed += Duration::from_secs(1);
    assert!(
        story.look(&[], &[node(1, &[])]).is_empty(),
        "a change just before the next binding"
    );
    assert!(story.goes_on(&[device(5, 9, 1)], &[b]).is_empty());
    assert_eq!(story.judge.counts().loops, 2);
}

#[test]
fn two_live_bindings_in_two_looks_are_two_writers_and_are_named_once() {
    let mut story = Story::new();
    let both = [device(4, 9, 1), device(5, 9, 1)];
    let nodes = [node(1, &[4]), node(2, &[5])];
    assert!(story.look(&both, &nodes).is_empty());
    assert!(story.judge.in_doubt());
    assert_eq!(story.look(&both, &nodes), ["two-writers"]);
    assert!(!story.judge.in_doubt());
    assert!(story.goes_on(&both, &nodes).is_empty());
}

#[test]
fn a_hand_over_within_one_look_is_no_second_writer() {
    let mut story = Story::new();
    let nodes = [node(1, &[4]), node(2, &[5])];
    assert!(story.look(&[device(4, 9, 1)], &nodes).is_empty());
    // loop4 was read before it was fenced, loop5 after it was bound.
    assert!(
        story
            .look(&[device(4, 9, 1), device(5, 9, 0)], &nodes)
            .is_empty()
    );
    assert!(
        story
            .look(&[device(4, 0, 1), device(5, 9, 0)], &nodes)
            .is_empty()
    );
    assert!(
        story
            .goes_on(&[device(4, 0, 1), device(5, 9, 7)], &nodes)
            .is_empty()
    );
    assert_eq!(story.judge.counts().fenced, 1);
}

#[test]
fn a_binding_no_node_sees_is_a_writer_only_when_it_stays() {
    let mut story = Story::new();
    let nodes = [node(1, &[4])];
    let both = [device(4, 9, 1), device(5, 9, 0)];
    assert!(story.look(&both, &nodes).is_empty());
    assert!(story.look(&both, &nodes).is_empty());
    assert!(story.look(&[device(4, 9, 1)], &nodes).is_empty());
    assert_eq!(story.goes_on(&both, &nodes), ["two-writers"]);
}

#[test]
fn readers_and_other_disks_are_no_writers() {
    let mut story = Story::new();
    let nodes = [node(1, &[4]), node(2, &[5, 6])];
    let mut reader = device(5, 9, 0);
    reader.read_only = true;
    let mut other = device(6, 9, 0);
    other.file = Path::new("/ds/b-flat.vmdk").into();
    assert!(
        story
            .goes_on(&[device(4, 9, 1), reader, other], &nodes)
            .is_empty()
    );
}

#[test]
fn a_dead_nodes_binding_is_no_writer_until_it_writes_behind_its_successor() {
    let mut story = Story::new();
    assert!(
        story
            .goes_on(&[device(4, 9, 1)], &[node(1, &[4])])
            .is_empty()
    );
    assert!(
        story.goes_on(&[device(4, 9, 5)], &[]).is_empty(),
        "it flushes while nobody else has it"
    );
    let heir = [node(2, &[5])];
    assert!(
        story
            .goes_on(&[device(4, 9, 5), device(5, 9, 0)], &heir)
            .is_empty()
    );
    assert_eq!(
        story.goes_on(&[device(4, 9, 6), device(5, 9, 0)], &heir),
        ["superseded-write"]
    );
}

#[test]
fn a_fenced_device_may_settle_and_then_writes_nothing() {
    let mut story = Story::new();
    let nodes = [node(1, &[4])];
    assert!(story.goes_on(&[device(4, 9, 1)], &nodes).is_empty());
    assert!(story.look(&[device(4, 0, 1)], &nodes).is_empty());
    assert!(story.goes_on(&[device(4, 0, 3)], &nodes).is_empty());
    assert_eq!(
        story.goes_on(&[device(4, 0, 4)], &nodes),
        ["superseded-write"]
    );
}

#[test]
fn what_is_under_way_at_the_fence_may_take_longer_to_settle() {
    let mut story = Story::new();
    let nodes = [node(1, &[4])];
    assert!(story.goes_on(&[device(4, 9, 1)], &nodes).is_empty());
    let mut busy = device(4, 0, 1);
    busy.in_flight = 1;
    assert!(story.goes_on(&[busy.clone()], &nodes).is_empty());
    busy.written += 8;
    assert!(story.goes_on(&[busy.clone()], &nodes).is_empty());
    busy.in_flight = 0;
    assert!(story.goes_on(&[busy.clone()], &nodes).is_empty());
    busy.written += 8;
    assert_eq!(story.goes_on(&[busy], &nodes), ["superseded-write"]);
}

#[test]
fn capacity_comes_back_to_a_device_only_while_nobody_else_had_the_disk() {
    let mut story = Story::new();
    let nodes = [node(1, &[4]), node(2, &[5])];
    let (cut, whole) = (device(4, 0, 1), device(4, 9, 1));
    for _ in 0..2 {
        assert!(story.goes_on(slice::from_ref(&whole), &nodes).is_empty());
        assert!(story.goes_on(slice::from_ref(&cut), &nodes).is_empty());
    }
    assert!(
        story
            .goes_on(&[cut.clone(), device(5, 9, 1)], &nodes)
            .is_empty()
    );
    assert!(story.goes_on(&[cut], &nodes).is_empty());
    assert_eq!(story.goes_on(&[whole], &nodes), ["superseded-write"]);
    let mut again = device(4, 9, 0);
    again.binding.generation += 1;
    assert!(
        story.goes_on(&[again], &nodes).is_empty(),
        "another binding of the number"
    );
}

#[test]
fn a_device_that_is_just_being_bound_is_not_fenced() {
    let mut story = Story::new();
    let nodes = [node(1, &[4])];
    assert!(story.look(&[device(4, 0, 0)], &nodes).is_empty());
    assert!(story.goes_on(&[device(4, 9, 1)], &nodes).is_empty());
    assert_eq!(story.judge.counts().fenced, 0);
}

#[test]
fn a_file_nobody_has_bound_stays_as_it_is() {
    let mut story = Story::new();
    let nodes = [node(1, &[4])];
    assert!(story.goes_on(&[device(4, 9, 1)], &nodes).is_empty());
    assert!(story.look(&[], &nodes).is_empty());
    story.changed += Duration::from_secs(1);
    assert!(story.goes_on(&[], &nodes).is_empty(), "what was under way");
    story.changed += Duration::from_secs(1);
    assert_eq!(story.goes_on(&[], &nodes), ["superseded-write"]);
    assert!(story.goes_on(&[], &nodes).is_empty());
}
