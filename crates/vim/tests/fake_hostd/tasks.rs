//! Waiting for tasks, whatever happens meanwhile.

use vdvs_vim::fake::{Fake, Reply};
use vdvs_vim::{Client, Effect, Error, FaultKind, Lost, Task};

use crate::rig::{TASK, client, disk, shortly, soon, task_in};

async fn begun(fake: &Fake) -> (Client, Task) {
    fake.always("DeleteVirtualDisk_Task", Reply::answer(TASK));
    let client = client(fake);
    let task = client
        .delete_virtual_disk(&disk(), soon())
        .await
        .expect("it begins");
    (client, task)
}

fn updates(version: &str, changes: &[(&str, &str)]) -> Reply {
    let sets: String = changes
        .iter()
        .map(|(name, val)| {
            format!("<changeSet><name>{name}</name><op>assign</op>{val}</changeSet>")
        })
        .collect();
    Reply::answer(format!(
        "<returnval><version>{version}</version><filterSet><filter type=\"PropertyFilter\">f</filter><objectSet>\
         <kind>modify</kind><obj type=\"Task\">haTask-1</obj>{sets}</objectSet></filterSet></returnval>"
    ))
}

fn state(state: &str) -> String {
    format!("<val xsi:type=\"TaskInfoState\">{state}</val>")
}

fn with_collector(fake: &Fake) {
    let collector = "<returnval type=\"PropertyCollector\">pc-1</returnval>";
    fake.always("CreatePropertyCollector", Reply::answer(collector));
    let filter = "<returnval type=\"PropertyFilter\">f-1</returnval>";
    fake.always("CreateFilter", Reply::answer(filter));
    fake.always("DestroyPropertyCollector", Reply::answer(""));
}

#[tokio::test]
async fn a_task_that_is_over_costs_one_question() {
    let fake = Fake::start().await;
    let (client, task) = begun(&fake).await;
    let result = "<val xsi:type=\"xsd:string\">done</val>";
    let over = task_in("success", &[("info.result", result)]);
    fake.always("RetrievePropertiesEx", Reply::answer(over));
    let done = client
        .finish(&task, |_| (), soon())
        .await
        .expect("it is over");
    assert_eq!(
        done.value.map(|v| v.text().to_owned()).as_deref(),
        Some("done")
    );
    assert_eq!(fake.count("RetrievePropertiesEx"), 1);
    assert_eq!(fake.count("CreateFilter"), 0);
}

#[tokio::test]
async fn a_long_task_is_waited_for_at_the_host_and_tells_how_far_it_is() {
    let fake = Fake::start().await;
    let (client, task) = begun(&fake).await;
    fake.will(
        "RetrievePropertiesEx",
        Reply::answer(task_in("queued", &[])),
    );
    with_collector(&fake);
    let half = "<val xsi:type=\"xsd:int\">50</val>";
    fake.will(
        "WaitForUpdatesEx",
        updates("1", &[("info.state", &state("running"))]),
    );
    fake.will("WaitForUpdatesEx", updates("2", &[("info.progress", half)]));
    fake.will("WaitForUpdatesEx", Reply::answer(""));
    fake.will(
        "WaitForUpdatesEx",
        updates("3", &[("info.state", &state("success"))]),
    );
    let mut heard = Vec::new();
    let done = client
        .finish(&task, |percent| heard.push(percent), soon())
        .await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(heard, [50]);
    let versions: Vec<_> = fake
        .seen()
        .iter()
        .filter(|s| s.call == "WaitForUpdatesEx")
        .map(|s| {
            s.body
                .split("version>")
                .nth(1)
                .unwrap_or_default()
                .replace("</", "")
        })
        .collect();
    assert_eq!(versions, ["", "1", "2", "2"]);
    assert_eq!(fake.count("DestroyPropertyCollector"), 1);
}

#[tokio::test]
async fn a_failed_task_is_a_refusal_with_its_fault() {
    let fake = Fake::start().await;
    let (client, task) = begun(&fake).await;
    let error = "<val xsi:type=\"LocalizedMethodFault\"><fault xsi:type=\"FileNotFound\"><file>[ds] a</file></fault>\
                 <localizedMessage>File [ds] a was not found</localizedMessage></val>";
    let failed = task_in("error", &[("info.error", error)]);
    fake.always("RetrievePropertiesEx", Reply::answer(failed));
    let failed = client.finish(&task, |_| (), soon()).await;
    let Err(Error::Refused { call, fault }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(call, "DeleteVirtualDisk_Task");
    let file = Some("[ds] a".to_owned());
    assert_eq!(fault.kind, FaultKind::FileNotFound { file });
    assert_eq!(fault.message, "File [ds] a was not found");
}

#[tokio::test]
async fn a_task_outlives_broken_connections_and_lost_sessions() {
    let mut fake = Fake::start().await;
    let (client, task) = begun(&fake).await;
    with_collector(&fake);
    let runs = || Reply::answer(task_in("running", &[]));
    for reply in [runs(), Reply::HangUp, runs(), runs()] {
        fake.will("RetrievePropertiesEx", reply);
    }
    fake.always(
        "RetrievePropertiesEx",
        Reply::answer(task_in("success", &[])),
    );
    fake.will("WaitForUpdatesEx", Reply::HangUp);
    fake.will("CreateFilter", Reply::fault("NotAuthenticated"));
    fake.will("WaitForUpdatesEx", Reply::Cut(String::new(), 20));
    fake.hang_up().await;
    let done = client.finish(&task, |_| (), soon()).await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(fake.count("DeleteVirtualDisk_Task"), 1);
    assert_eq!(fake.logins(), 2);
}

#[tokio::test]
async fn a_task_the_restarted_host_does_not_know_is_unknown() {
    let fake = Fake::start().await;
    let (client, task) = begun(&fake).await;
    let gone = "<obj type=\"Task\">haTask-1</obj>".to_owned();
    fake.always(
        "RetrievePropertiesEx",
        Reply::Fault("ManagedObjectNotFound", gone),
    );
    let lost = client.finish(&task, |_| (), soon()).await;
    let lost = lost.expect_err("nobody knows");
    assert_eq!(lost.effect(), Effect::Unknown);
    assert!(matches!(
        lost,
        Error::Unknown {
            why: Lost::TaskGone,
            ..
        }
    ));
}

#[tokio::test]
async fn a_task_beyond_its_deadline_is_unknown_and_never_unsent() {
    let mut fake = Fake::start().await;
    let (client, task) = begun(&fake).await;
    with_collector(&fake);
    fake.always(
        "RetrievePropertiesEx",
        Reply::answer(task_in("running", &[])),
    );
    fake.always("WaitForUpdatesEx", Reply::Silence);
    let late = client.finish(&task, |_| (), shortly()).await;
    assert_eq!(late.expect_err("it runs").effect(), Effect::Unknown);
    fake.stop().await;
    let late = client.finish(&task, |_| (), shortly()).await;
    assert_eq!(late.expect_err("nobody is there").effect(), Effect::Unknown);
}
