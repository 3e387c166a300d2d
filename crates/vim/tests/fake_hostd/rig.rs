//! What the tests share.

use std::time::Duration;

use tokio::time::Instant;
use vdvs_vim::fake::Fake;
use vdvs_vim::{Client, Config, Credentials, Endpoint, FilePath, MoRef, Secret, Trust};

/// A deadline no sound answer comes near.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A deadline for an answer that never comes.
pub(crate) fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

pub(crate) fn config(fake: &Fake) -> Config {
    let endpoint = Endpoint::parse(&fake.url()).expect("it is an address");
    let user = Credentials::Password {
        user: "root".to_owned(),
        password: Secret::new("right".to_owned()),
    };
    Config::new(endpoint, Trust::Loopback, vec![user]).expect("it is sound")
}

pub(crate) fn client(fake: &Fake) -> Client {
    Client::new(config(fake))
}

pub(crate) fn vm() -> MoRef {
    MoRef::new("VirtualMachine", "7")
}

pub(crate) fn disk() -> FilePath {
    FilePath::new("[ds 1] dockvols/a & b/<v>.vmdk")
}

/// The answer of `RetrievePropertiesEx` for one object: names of properties and their `val` elements.
pub(crate) fn properties(object: &MoRef, values: &[(&str, &str)]) -> String {
    let sets: String = values
        .iter()
        .map(|(name, val)| format!("<propSet><name>{name}</name>{val}</propSet>"))
        .collect();
    format!(
        "<returnval><objects><obj type=\"{}\">{}</obj>{sets}</objects></returnval>",
        object.kind(),
        object.value()
    )
}

/// The answer about a task in this state.
pub(crate) fn task_in(state: &str, more: &[(&str, &str)]) -> String {
    let state = format!("<val xsi:type=\"TaskInfoState\">{state}</val>");
    let mut values = vec![("info.state", state.as_str())];
    values.extend(more);
    properties(&MoRef::new("Task", "haTask-1"), &values)
}

/// The reference to that task.
pub(crate) const TASK: &str = "<returnval type=\"Task\">haTask-1</returnval>";
