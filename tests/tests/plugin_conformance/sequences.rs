//! The recorded sequences.

/// One sequence: what caused it, what is sent and answered, which calls the agent gets.
pub(crate) struct Sequence {
    pub(crate) what: &'static str,
    pub(crate) script: &'static str,
    pub(crate) agent: &'static str,
}

const fn seq(what: &'static str, script: &'static str, agent: &'static str) -> Sequence {
    Sequence {
        what,
        script,
        agent,
    }
}

/// dockerd 20.10 to 28.5.
pub(crate) const DOCKER: &[Sequence] = &[
    seq(
        "docker volume create as first use",
        "A
         Cap
         G vol1 no
         C vol1 size=1gb ok
         G vol1 ok",
        "get vol1, create vol1, get vol1",
    ),
    seq(
        "docker volume create again",
        "!exists vol1
         G vol1 ok",
        "get vol1",
    ),
    seq(
        "docker volume create without a name",
        "G 3f1c no
         C 3f1c - ok",
        "get 3f1c, create 3f1c",
    ),
    seq("docker volume ls as first use", "A\nL\nCap", ""),
    seq(
        "docker volume inspect nope; dockerd starts",
        "G nope no\nG '' no",
        "get nope",
    ),
    seq(
        "docker create -v vol1:/data: copy-up",
        "!exists vol1
         G vol1 ok
         G vol1 ok
         M vol1 aaaa ok
         !here vol1
         G vol1 ok
         U vol1 aaaa
         !gone vol1",
        "get vol1, get vol1, get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, get vol1, detach vol1",
    ),
    seq(
        "docker run --rm",
        "!exists vol1
         G vol1 ok
         G vol1 ok
         M vol1 aaaa ok
         U vol1 aaaa
         G vol1 ok
         M vol1 bbbb ok
         !uses vol1
         !leaves vol1
         G vol1 ok
         U vol1 bbbb
         !gone vol1",
        "get vol1, get vol1, get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1, get vol1, get vol1, attach vol1@vsanDatastore, get vol1, detach vol1",
    ),
    seq(
        "--mount with volume-opt",
        "G v2 no
         C v2 size=1gb ok
         G v2 ok
         M v2 aaaa ok
         U v2 aaaa",
        "get v2, create v2, get v2, get v2, attach v2@vsanDatastore, begin_format v2, finish_format v2, detach v2",
    ),
    seq(
        "anonymous volume, removed with its container",
        "G 9d no
         C 9d - ok
         M 9d aaaa ok
         U 9d aaaa
         G 9d ok
         G 9d ok
         R 9d ok
         G 9d no",
        "get 9d, create 9d, get 9d, attach 9d@vsanDatastore, begin_format 9d, finish_format 9d, detach 9d, get 9d, get 9d, get 9d, delete 9d@vsanDatastore, get 9d",
    ),
    seq(
        "a second container with copy-up on a volume in use",
        "!exists vol1
         M vol1 bbbb ok
         !uses vol1
         M vol1 cccc ok
         U vol1 cccc
         !here vol1
         M vol1 dddd ok
         U vol1 bbbb
         !here vol1
         !leaves vol1
         U vol1 dddd
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1",
    ),
    seq(
        "docker restart",
        "!exists vol1
         M vol1 bbbb ok
         G vol1 ok
         U vol1 bbbb
         G vol1 ok
         M vol1 cccc ok
         !here vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, get vol1, detach vol1, get vol1, get vol1, attach vol1@vsanDatastore",
    ),
    seq(
        "docker cp with a running container: the same ID nested",
        "!exists vol1
         M vol1 bbbb ok
         !uses vol1
         G vol1 ok
         M vol1 bbbb ok
         G vol1 ok
         U vol1 bbbb
         !here vol1
         !leaves vol1
         G vol1 ok
         U vol1 bbbb
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, get vol1, get vol1, get vol1, detach vol1",
    ),
    seq(
        "dockerd killed without live-restore: the old ID mounted again, one Unmount",
        "!exists vol1
         M vol1 bbbb ok
         !uses vol1
         A
         Cap
         G vol1 ok
         !leaves vol1
         G vol1 ok
         G vol1 ok
         M vol1 bbbb ok
         !uses vol1
         !leaves vol1
         U vol1 bbbb
         !here vol1
         !time 121
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, get vol1, get vol1, get vol1, detach vol1",
    ),
    seq(
        "dockerd killed with live-restore: Activate forgets nothing",
        "!exists vol1
         M vol1 bbbb ok
         !uses vol1
         A
         Cap
         G vol1 ok
         G '' no
         G vol1 ok
         !here vol1
         !leaves vol1
         U vol1 bbbb
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, get vol1, get vol1, detach vol1",
    ),
    seq(
        "live-restore and docker cp: no Unmount at all",
        "!exists vol1
         M vol1 bbbb ok
         !uses vol1
         !time 300
         !here vol1
         !leaves vol1
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1",
    ),
    seq(
        "the node reboots after a crash: no Unmount ever",
        "!exists vol1
         M vol1 bbbb ok
         !reboot
         A
         !gone vol1
         M vol1 cccc ok
         !here vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1, get vol1, attach vol1@vsanDatastore",
    ),
    seq(
        "the plugin restarts, dockerd does not: no new Activate",
        "!exists vol1
         M vol1 bbbb ok
         !uses vol1
         !plugin down
         !plugin up
         Gempty
         Gempty
         G vol1 ok
         M vol1 cccc ok
         U vol1 cccc
         !here vol1
         !leaves vol1
         U vol1 bbbb
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, get vol1, detach vol1",
    ),
    seq(
        "docker rm -f while the plugin is down: the Unmount is lost for ever",
        "!exists vol1
         M vol1 bbbb ok
         !uses vol1
         !plugin down
         !leaves vol1
         !plugin up
         !here vol1
         !time 121
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1",
    ),
    seq(
        "connection closed before the answer: retries with empty bodies",
        "!exists vol1
         Mempty
         Gempty
         M vol1 aaaa ok
         U vol1 aaaa",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1",
    ),
    seq(
        "docker volume rm, in use and free and unknown",
        "!exists vol1
         M vol1 aaaa ok
         G vol1 ok
         R vol1 no
         U vol1 aaaa
         G vol1 ok
         R vol1 ok
         G vol1 no
         R vol1 no",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, get vol1, detach vol1, get vol1, get vol1, delete vol1@vsanDatastore, get vol1, get vol1",
    ),
    seq(
        "swarm, a healed partition: a late foreign Unmount",
        "!exists vol1
         U vol1 ffff
         M vol1 aaaa ok
         U vol1 ffff
         !here vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1",
    ),
    seq(
        "the agent is away: what was seen is answered",
        "C vol1 - ok
         M vol1 aaaa ok
         !agent away
         G vol1 stale
         G vol1@vsanDatastore stale
         L
         M vol1 bbbb ok
         U vol1 bbbb
         !here vol1
         !agent back
         U vol1 aaaa
         !gone vol1
         G vol1 ok",
        "create vol1, get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1, get vol1",
    ),
    seq(
        "Path is answered without mounting",
        "!exists vol1
         P vol1",
        "get vol1",
    ),
];

/// podman 4.3.
pub(crate) const PODMAN: &[Sequence] = &[
    seq(
        "volume create",
        "A\nG vol1 no\nC vol1 size=1gb ok",
        "get vol1, create vol1",
    ),
    seq(
        "volume ls and reload",
        "!exists vol1\nA\nG vol1 ok\nA\nLempty",
        "get vol1",
    ),
    seq(
        "run --rm: no Get, one ID for all Mounts of a volume",
        "!exists vol1
         A
         M vol1 7777 ok
         !here vol1
         A
         U vol1 7777
         !gone vol1
         A
         M vol1 7777 ok
         A
         U vol1 7777
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1, get vol1, attach vol1@vsanDatastore, detach vol1",
    ),
    seq(
        "a Mount repeated after a crash has the same ID",
        "!exists vol1
         M vol1 7777 ok
         !reboot
         !gone vol1
         A
         M vol1 7777 ok
         A
         U vol1 7777
         !gone vol1",
        "get vol1, attach vol1@vsanDatastore, begin_format vol1, finish_format vol1, detach vol1, get vol1, attach vol1@vsanDatastore, detach vol1",
    ),
    seq(
        "volume rm",
        "!exists vol1\nA\nG vol1 ok\nR vol1 ok",
        "get vol1, get vol1, delete vol1@vsanDatastore",
    ),
];
