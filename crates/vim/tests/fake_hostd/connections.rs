//! Connections that break, hosts that are not there, answers that are none.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vdvs_vim::fake::{Fake, Reply};
use vdvs_vim::{Client, Effect, Error, Lost, NotSent};

use crate::rig::{TASK, client, config, disk, shortly, soon, vm};

const FOUND: &str = "<returnval type=\"VirtualMachine\">7</returnval>";

async fn logged_in(fake: &Fake) -> Client {
    fake.always("FindByUuid", Reply::answer(FOUND));
    fake.always("DeleteVirtualDisk_Task", Reply::answer(TASK));
    let client = client(fake);
    client.login(soon()).await.expect("it logs in");
    client
}

fn lost<T: Debug>(result: Result<T, Error>) -> Lost {
    match result {
        Err(Error::Unknown { why, .. }) => why,
        other => panic!("its effect is not unknown: {other:?}"),
    }
}

#[tokio::test]
async fn connections_that_the_host_closed_meanwhile_are_replaced_without_a_word() {
    let mut fake = Fake::start().await;
    let client = logged_in(&fake).await;
    for _ in 0..3 {
        fake.hang_up().await;
        assert_eq!(
            client.find_vm_by_uuid("u", true, soon()).await,
            Ok(Some(vm()))
        );
        fake.hang_up().await;
        assert!(client.delete_virtual_disk(&disk(), soon()).await.is_ok());
    }
    assert_eq!(fake.logins(), 1);
    assert_eq!(fake.count("DeleteVirtualDisk_Task"), 3);
}

#[tokio::test]
async fn a_used_connection_that_closes_unread_costs_a_question_nothing() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    fake.will("FindByUuid", Reply::HangUp);
    assert_eq!(
        client.find_vm_by_uuid("u", true, soon()).await,
        Ok(Some(vm()))
    );
    assert_eq!(fake.count("FindByUuid"), 2);
}

#[tokio::test]
async fn a_change_on_a_connection_that_closes_unread_is_unknown_and_sent_once() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    fake.will("DeleteVirtualDisk_Task", Reply::HangUp);
    let lost = lost(client.delete_virtual_disk(&disk(), soon()).await);
    assert!(matches!(lost, Lost::Connection(_)), "{lost}");
    assert_eq!(fake.count("DeleteVirtualDisk_Task"), 1);
}

#[tokio::test]
async fn a_question_is_repeated_once_and_not_for_ever() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    for _ in 0..9 {
        fake.will("FindByUuid", Reply::HangUp);
    }
    lost(client.find_vm_by_uuid("u", true, soon()).await);
    assert_eq!(fake.count("FindByUuid"), 2);
}

#[tokio::test]
async fn an_answer_that_is_cut_leaves_the_effect_unknown() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    for at in [0, 10, 300] {
        fake.will("DeleteVirtualDisk_Task", Reply::Cut(TASK.to_owned(), at));
        let lost = lost(client.delete_virtual_disk(&disk(), soon()).await);
        assert!(matches!(lost, Lost::Connection(_)), "{lost}");
    }
    assert_eq!(fake.count("DeleteVirtualDisk_Task"), 3);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_leaves_the_effect_unknown() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><a>&b;</a>";
    let other =
        "<soapenv:Envelope><soapenv:Body><LoginResponse/></soapenv:Body></soapenv:Envelope>";
    for bytes in [
        "",
        "<html>Service Unavailable</html>",
        "\u{0}\u{1}",
        bomb,
        other,
    ] {
        fake.will(
            "DeleteVirtualDisk_Task",
            Reply::Raw(bytes.as_bytes().to_vec()),
        );
        let lost = lost(client.delete_virtual_disk(&disk(), soon()).await);
        assert!(matches!(lost, Lost::Answer(_)), "{bytes}: {lost}");
    }
    fake.will("DeleteVirtualDisk_Task", Reply::Status(418));
    assert_eq!(
        lost(client.delete_virtual_disk(&disk(), soon()).await),
        Lost::Status(418)
    );
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_with_the_deadline_and_its_connection() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    fake.will("DeleteVirtualDisk_Task", Reply::Silence);
    let begun = Instant::now();
    let lost = lost(client.delete_virtual_disk(&disk(), shortly()).await);
    assert_eq!(lost, Lost::Deadline);
    assert!(begun.elapsed() < Duration::from_secs(10));
    // What comes later on that connection would be an answer to somebody else's question.
    assert!(client.find_vm_by_uuid("u", true, soon()).await.is_ok());
    let seen = fake.seen();
    let connection = |call| seen.iter().find(|s| s.call == call).map(|s| s.connection);
    assert_ne!(
        connection("DeleteVirtualDisk_Task"),
        connection("FindByUuid")
    );
}

#[tokio::test]
async fn a_host_that_is_down_is_tried_again_until_it_is_up() {
    let mut fake = Fake::start().await;
    let client = logged_in(&fake).await;
    fake.stop().await;
    let disk = disk();
    let (deleted, again) = tokio::join!(client.delete_virtual_disk(&disk, soon()), async {
        sleep(Duration::from_millis(300)).await;
        fake.start_again().await
    });
    again.expect("the port is free");
    // The first answer of the restarted host: it does not know the session.
    assert!(deleted.is_err_and(|why| why.is_session_lost()));
    assert!(client.delete_virtual_disk(&disk, soon()).await.is_ok());
    assert_eq!(client.generation(), 2);
}

#[tokio::test]
async fn a_host_that_stays_down_is_given_up_and_nothing_was_sent() {
    let mut fake = Fake::start().await;
    let patient = config(&fake).with_patience(Duration::from_millis(400));
    let client = Client::new(patient);
    fake.stop().await;
    for _ in 0..3 {
        let begun = Instant::now();
        let failed = client.delete_virtual_disk(&disk(), soon()).await;
        let failed = failed.expect_err("nobody is there");
        assert_eq!(failed.effect(), Effect::None);
        assert!(begun.elapsed() < Duration::from_secs(5), "{failed}");
    }
    // By now failures stand in a row, and callers are told at once.
    let failed = client.find_vm_by_uuid("u", true, shortly()).await;
    let Err(Error::NotSent { why, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert!(
        matches!(why, NotSent::NotListening(_) | NotSent::Resting { .. }),
        "{why}"
    );
}

#[tokio::test]
async fn questions_wait_out_a_service_that_is_not_available_yet() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    for _ in 0..3 {
        fake.will("FindByUuid", Reply::Status(503));
    }
    assert_eq!(
        client.find_vm_by_uuid("u", true, soon()).await,
        Ok(Some(vm()))
    );
    assert_eq!(fake.count("FindByUuid"), 4);
}

#[tokio::test]
async fn a_change_that_met_503_is_unknown_since_the_proxy_may_have_passed_it_on() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    fake.will("DeleteVirtualDisk_Task", Reply::Status(503));
    let lost = lost(client.delete_virtual_disk(&disk(), soon()).await);
    assert_eq!(lost, Lost::Status(503));
    assert_eq!(fake.count("DeleteVirtualDisk_Task"), 1);
}

#[tokio::test]
async fn calls_in_parallel_do_not_wait_for_a_silent_one() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    fake.will("DeleteVirtualDisk_Task", Reply::Silence);
    let disk = disk();
    let (silent, found) = tokio::join!(
        client.delete_virtual_disk(&disk, shortly()),
        client.find_vm_by_uuid("u", true, soon()),
    );
    assert_eq!(lost(silent), Lost::Deadline);
    assert_eq!(found, Ok(Some(vm())));
}

#[tokio::test]
async fn a_deadline_that_is_over_sends_nothing() {
    let fake = Fake::start().await;
    let client = logged_in(&fake).await;
    let over = Instant::now();
    let failed = client.delete_virtual_disk(&disk(), over).await;
    let failed = failed.expect_err("there is no time");
    assert!(failed.is_deadline());
    assert_eq!(failed.effect(), Effect::None);
    assert_eq!(fake.count("DeleteVirtualDisk_Task"), 0);
}
