//! Logging in, losing a session, getting another.

use std::time::Duration;

use tempfile::tempdir;
use tokio::time::{advance, pause, resume};
use vdvs_vim::fake::{Fake, Reply};
use vdvs_vim::{
    Client, Config, Credentials, Effect, Endpoint, Error, FaultKind, MoRef, NotSent, Secret, Trust,
};

use crate::rig::{TASK, client, disk, properties, soon, vm};

const FOUND: &str = "<returnval type=\"VirtualMachine\">7</returnval>";

#[tokio::test]
async fn the_first_call_logs_in_and_the_next_ones_use_the_session() {
    let fake = Fake::start().await;
    fake.always("FindByUuid", Reply::answer(FOUND));
    let client = client(&fake);
    for _ in 0..3 {
        let found = client.find_vm_by_uuid("u", true, soon()).await;
        assert_eq!(found, Ok(Some(vm())));
    }
    assert_eq!((fake.logins(), client.generation()), (1, 1));
    let connections = fake.seen().iter().map(|s| s.connection).max();
    assert_eq!(connections, Some(0), "one connection is enough");
}

#[tokio::test]
async fn callers_that_come_together_share_one_login() {
    let fake = Fake::start().await;
    fake.always("FindByUuid", Reply::answer(FOUND));
    let client = client(&fake);
    let (a, b, c) = tokio::join!(
        client.find_vm_by_uuid("a", true, soon()),
        client.find_vm_by_uuid("b", true, soon()),
        client.find_vm_by_uuid("c", true, soon()),
    );
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(fake.logins(), 1);
}

#[tokio::test]
async fn a_call_that_may_be_repeated_survives_the_loss_of_its_session() {
    let fake = Fake::start().await;
    fake.always("FindByUuid", Reply::answer(FOUND));
    let client = client(&fake);
    client.login(soon()).await.expect("it logs in");
    fake.forget_sessions();
    let found = client.find_vm_by_uuid("u", true, soon()).await;
    assert_eq!(found, Ok(Some(vm())));
    assert_eq!((fake.logins(), client.generation()), (2, 2));
}

#[tokio::test]
async fn a_change_is_not_repeated_after_the_loss_of_its_session_but_the_next_one_works() {
    let fake = Fake::start().await;
    fake.always("DeleteVirtualDisk_Task", Reply::answer(TASK));
    let client = client(&fake);
    client.login(soon()).await.expect("it logs in");
    fake.forget_sessions();
    let refused = client.delete_virtual_disk(&disk(), soon()).await;
    let refused = refused.expect_err("the session is gone");
    assert!(refused.is_session_lost());
    assert_eq!(refused.effect(), Effect::None);
    assert_eq!(fake.count("DeleteVirtualDisk_Task"), 1);
    assert!(client.delete_virtual_disk(&disk(), soon()).await.is_ok());
    assert_eq!(fake.logins(), 2);
}

#[tokio::test]
async fn a_host_that_never_knows_us_is_asked_twice_and_no_more() {
    let fake = Fake::start().await;
    let client = client(&fake);
    for _ in 0..9 {
        fake.will("FindByUuid", Reply::fault("NotAuthenticated"));
    }
    let refused = client.find_vm_by_uuid("u", true, soon()).await;
    assert!(refused.is_err_and(|why| why.is_session_lost()));
    assert_eq!(fake.count("FindByUuid"), 2);
}

#[tokio::test]
async fn properties_hidden_from_a_stranger_are_asked_for_again_after_a_login() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let hidden = "<returnval><objects><obj type=\"VirtualMachine\">7</obj><missingSet><path>name</path><fault>\
                  <fault xsi:type=\"NotAuthenticated\"/></fault></missingSet></objects></returnval>";
    fake.will("RetrievePropertiesEx", Reply::answer(hidden));
    let shown = properties(&vm(), &[("name", "<val xsi:type=\"xsd:string\">web</val>")]);
    fake.always("RetrievePropertiesEx", Reply::answer(shown));
    let found = client
        .properties(&vm(), &["name"], soon())
        .await
        .expect("it is shown");
    assert_eq!(found.text("name"), Some("web"));
    assert_eq!(fake.logins(), 2);
}

#[tokio::test]
async fn a_local_ticket_is_a_password() {
    let folder = tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.leave_tickets_in(folder.path());
    let endpoint = Endpoint::parse(&fake.url()).expect("it is an address");
    let users = ["nobody", "dcui"].map(|user| Credentials::LocalTicket {
        user: user.to_owned(),
    });
    fake.will("AcquireLocalTicket", Reply::fault("NoPermission"));
    let config = Config::new(endpoint, Trust::Loopback, users.into()).expect("it is sound");
    let client = Client::new(config);
    client.login(soon()).await.expect("the second user gets in");
    assert_eq!((fake.count("AcquireLocalTicket"), fake.logins()), (2, 1));
}

#[tokio::test]
async fn who_is_not_let_in_hears_of_every_user_and_of_lockdown() {
    let fake = Fake::start().await;
    let endpoint = Endpoint::parse(&fake.url()).expect("it is an address");
    let users = vec![
        Credentials::Password {
            user: "agent".to_owned(),
            password: Secret::new("wrong".to_owned()),
        },
        Credentials::LocalTicket {
            user: "dcui".to_owned(),
        },
    ];
    fake.will("AcquireLocalTicket", Reply::fault("NoPermission"));
    let client = Client::new(Config::new(endpoint, Trust::Loopback, users).expect("it is sound"));
    let failed = client.delete_virtual_disk(&disk(), soon()).await;
    let failed = failed.expect_err("nobody is let in");
    assert_eq!(failed.effect(), Effect::None);
    let text = failed.to_string();
    for part in ["agent: ", "InvalidLogin", "dcui: ", "lockdown"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("wrong"), "{text}");
    // Whoever comes next, through this client or one beside it, hears the same without another try: hosts lock users out.
    let again = client.separate().login(soon()).await;
    assert!(again.is_err_and(|why| why.to_string().contains("InvalidLogin")));
    assert_eq!(fake.count("Login"), 1);
}

#[tokio::test]
async fn after_a_logout_the_session_is_gone_at_the_host_too() {
    let fake = Fake::start().await;
    fake.always("FindByUuid", Reply::answer(FOUND));
    let client = client(&fake);
    client.login(soon()).await.expect("it logs in");
    client.logout(soon()).await.expect("it logs out");
    client.logout(soon()).await.expect("twice is nothing");
    assert!(client.find_vm_by_uuid("u", true, soon()).await.is_ok());
    assert_eq!((fake.count("Logout"), fake.logins()), (1, 2));
}

#[tokio::test]
async fn faults_are_told_apart_and_unknown_ones_keep_their_names() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let gone = "<obj type=\"VirtualMachine\">7</obj>";
    fake.will(
        "FindByUuid",
        Reply::Fault("ManagedObjectNotFound", gone.to_owned()),
    );
    fake.will("FindByUuid", Reply::fault("SomethingOfTomorrow"));
    let lock = "<faultMessage><key>msg.fileio.lock</key><message>Failed to lock the file</message></faultMessage>";
    fake.will(
        "FindByUuid",
        Reply::Fault("GenericVmConfigFault", lock.to_owned()),
    );
    let mut faults = Vec::new();
    for _ in 0..3 {
        match client.find_vm_by_uuid("u", true, soon()).await {
            Err(Error::Refused { fault, .. }) => faults.push(*fault),
            other => panic!("{other:?}"),
        }
    }
    let [gone, tomorrow, locked] = &faults[..] else {
        panic!("{faults:?}");
    };
    assert_eq!(
        gone.kind,
        FaultKind::ManagedObjectNotFound { object: Some(vm()) }
    );
    assert_eq!(tomorrow.name(), "SomethingOfTomorrow");
    assert!(locked.says_locked() && !tomorrow.says_locked());
    assert!(
        locked.to_string().contains("Failed to lock the file"),
        "{locked}"
    );
}

#[tokio::test]
async fn an_argument_that_xml_cannot_carry_is_not_sent() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let failed = client.find_vm_by_uuid("a\u{1}b", true, soon()).await;
    assert!(matches!(
        failed,
        Err(Error::NotSent {
            why: NotSent::Argument(_),
            ..
        })
    ));
    assert_eq!(fake.count("FindByUuid"), 0);
}

#[tokio::test]
async fn a_session_silent_for_long_is_asked_about_before_a_change_is_risked_on_it() {
    let fake = Fake::start().await;
    fake.always("DeleteVirtualDisk_Task", Reply::answer(TASK));
    let me = "<val xsi:type=\"UserSession\"><key>k</key></val>";
    let manager = MoRef::new("SessionManager", "ha-sessionmgr");
    fake.always(
        "RetrievePropertiesEx",
        Reply::answer(properties(&manager, &[("currentSession", me)])),
    );
    let client = client(&fake);
    client.login(soon()).await.expect("it logs in");
    fake.forget_sessions();
    pause();
    advance(Duration::from_secs(61)).await;
    resume();
    assert!(client.delete_virtual_disk(&disk(), soon()).await.is_ok());
    assert_eq!(fake.count("DeleteVirtualDisk_Task"), 1);
    assert_eq!(fake.logins(), 2);
}
