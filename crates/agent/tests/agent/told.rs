//! What an administrator is told through the socket: the agent's state, the hosts, a volume's story, the audit.

use nix::unistd::Uid;
use vdvs_api::v1;

use crate::process::{Vdvsd, attach, create, head, reason};

#[tokio::test]
async fn the_state_the_hosts_a_volumes_story_and_who_did_what() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (mut guest, mut admin) = (agent.guest("a"), agent.admin());
    guest.create_volume(create("v")).await.unwrap();
    guest.attach_volume(attach("v", 0)).await.unwrap();

    let status = admin
        .status(v1::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.hosts, status.port), (1, 1019));
    assert_eq!(status.config_mode, "SingleNode");
    assert!(status.open_to_all, "a fresh datastore works out of the box");
    assert!(status.lock_hint.contains("vdvs vmgroup rm --name=_DEFAULT"));
    assert!(
        status.log_file.ends_with("/vdvsd.log"),
        "{}",
        status.log_file
    );
    assert!(status.log_level.contains("info"), "{}", status.log_level);
    assert_eq!(status.warnings, Vec::<String>::new());

    let hosts = admin.list_hosts(v1::ListHostsRequest {}).await.unwrap();
    let hosts = hosts.into_inner().hosts;
    assert_eq!(hosts.len(), 1);
    let here = &hosts[0];
    assert!(here.local && here.name == "sim01" && here.program.starts_with("vdvsd "));
    assert_eq!(
        (here.vms, here.guests_connected, here.volumes_held),
        (2, 1, 1)
    );
    assert!(!here.config_id.is_empty() && here.told_at_unix_ms > 0);

    let address = "v".to_owned();
    let why = admin
        .why_volume(v1::WhyVolumeRequest { address })
        .await
        .unwrap();
    let why = why.into_inner();
    assert!(
        why.headline
            .starts_with("VM a on host sim01 holds v@vsanDatastore since")
    );
    let kinds: Vec<_> = why.events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["created", "attached"]);
    assert_eq!(why.volume.unwrap().volume.unwrap().name, "v");
    let address = "nothing".to_owned();
    let nothing = admin.why_volume(v1::WhyVolumeRequest { address }).await;
    assert_eq!(reason(nothing), "NOT_FOUND");

    let address = "gone".to_owned();
    guest.create_volume(create(&address)).await.unwrap();
    let remove = v1::RemoveVolumeRequest {
        head: head(),
        address,
    };
    admin.remove_volume(remove).await.unwrap();
    let ask = v1::ListAuditRequest {
        limit: 2,
        ..v1::ListAuditRequest::default()
    };
    let page = admin.list_audit(ask).await.unwrap().into_inner();
    assert!(page.more && page.host == "sim01");
    let [removed, made] = page.entries.as_slice() else {
        panic!("{page:?}");
    };
    let me = format!("(uid {})", Uid::current());
    assert!(
        removed.who.contains(&me) || removed.who.contains("with uid"),
        "{removed:?}"
    );
    assert_eq!(
        (removed.verb.as_str(), removed.outcome.as_str()),
        ("delete", "done")
    );
    assert!(
        made.who.ends_with(" a") && made.verb == "create",
        "{made:?}"
    );
    let older = v1::ListAuditRequest {
        before: made.number,
        ..v1::ListAuditRequest::default()
    };
    let rest = admin.list_audit(older).await.unwrap().into_inner();
    assert!(!rest.more && rest.entries.iter().all(|e| e.number < made.number));
    agent.assert_quiet();
}
