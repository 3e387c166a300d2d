//! Watching for changes.

use std::time::Duration;

use vdvs_vim::fake::{Fake, Reply};
use vdvs_vim::{UpdateKind, Watch};

use crate::rig::{client, soon, vm};

const SECOND: Duration = Duration::from_secs(1);
const PATHS: &[&str] = &["runtime.powerState"];

fn with_view(fake: &Fake) {
    let view = "<returnval type=\"ContainerView\">v-1</returnval>";
    fake.always("CreateContainerView", Reply::answer(view));
    let filter = "<returnval type=\"PropertyFilter\">f-1</returnval>";
    fake.always("CreateFilter", Reply::answer(filter));
    fake.always("DestroyView", Reply::answer(""));
    fake.always("DestroyPropertyFilter", Reply::answer(""));
    fake.always("CancelWaitForUpdates", Reply::answer(""));
}

fn update(version: &str, kind: &str, power: &str, truncated: bool) -> Reply {
    Reply::answer(format!(
        "<returnval><version>{version}</version><filterSet><filter type=\"PropertyFilter\">f-1</filter><objectSet>\
         <kind>{kind}</kind><obj type=\"VirtualMachine\">7</obj><changeSet><name>runtime.powerState</name>\
         <op>assign</op><val xsi:type=\"VirtualMachinePowerState\">{power}</val></changeSet></objectSet></filterSet>\
         <truncated>{truncated}</truncated></returnval>"
    ))
}

#[tokio::test]
async fn everything_comes_first_and_then_what_changes() {
    let fake = Fake::start().await;
    with_view(&fake);
    let client = client(&fake);
    client.login(soon()).await.expect("it logs in");
    let mut watch = Watch::new(&client, "VirtualMachine", PATHS);
    fake.will("WaitForUpdatesEx", update("1", "enter", "poweredOn", true));
    fake.will("WaitForUpdatesEx", update("2", "enter", "poweredOn", false));
    fake.will("WaitForUpdatesEx", Reply::answer(""));
    fake.will(
        "WaitForUpdatesEx",
        update("3", "modify", "poweredOff", false),
    );
    fake.will("WaitForUpdatesEx", update("4", "leave", "", false));
    let first = watch
        .next(SECOND)
        .await
        .expect("it watches")
        .expect("everything");
    assert!(first.restarted && first.truncated);
    let rest = watch
        .next(SECOND)
        .await
        .expect("it watches")
        .expect("the rest");
    assert!(!rest.restarted && !rest.truncated);
    assert_eq!(watch.next(SECOND).await.expect("it watches"), None);
    let off = watch
        .next(SECOND)
        .await
        .expect("it watches")
        .expect("a change");
    let [object] = &off.objects[..] else {
        panic!("{off:?}");
    };
    assert_eq!((object.kind, &object.object), (UpdateKind::Modify, &vm()));
    let power = object.changes[0].value.as_ref().map(|v| v.text());
    assert_eq!(power, Some("poweredOff"));
    let gone = watch
        .next(SECOND)
        .await
        .expect("it watches")
        .expect("a change");
    assert_eq!(gone.objects[0].kind, UpdateKind::Leave);
    // Its own session: the client's is another.
    assert_eq!(fake.logins(), 2);
    watch.close(soon()).await.expect("it ends");
    assert_eq!(fake.count("DestroyPropertyFilter"), 1);
}

#[tokio::test]
async fn after_any_error_the_next_look_begins_anew_and_says_so() {
    let fake = Fake::start().await;
    with_view(&fake);
    let client = client(&fake);
    let mut watch = Watch::new(&client, "VirtualMachine", PATHS);
    let breaks = [
        Reply::HangUp,
        Reply::fault("NotAuthenticated"),
        Reply::fault("InvalidCollectorVersion"),
        Reply::Cut(String::new(), 9),
        Reply::Raw(b"nonsense".to_vec()),
    ];
    for reply in breaks {
        fake.will("WaitForUpdatesEx", update("1", "enter", "poweredOn", false));
        let all = watch
            .next(SECOND)
            .await
            .expect("it watches")
            .expect("everything");
        assert!(all.restarted, "{reply:?}");
        fake.will("WaitForUpdatesEx", reply);
        assert!(watch.next(SECOND).await.is_err());
    }
}

#[tokio::test]
async fn a_wait_can_be_ended_from_outside() {
    let fake = Fake::start().await;
    with_view(&fake);
    let client = client(&fake);
    let mut watch = Watch::new(&client, "VirtualMachine", PATHS);
    assert!(watch.canceller().is_none());
    fake.will("WaitForUpdatesEx", update("1", "enter", "poweredOn", false));
    watch.next(SECOND).await.expect("it watches");
    let canceller = watch.canceller().expect("it watches");
    canceller.cancel(soon()).await.expect("it is told");
    assert_eq!(fake.count("CancelWaitForUpdates"), 1);
}
