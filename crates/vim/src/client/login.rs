//! Opening a session: what the host is, which versions it speaks, who we are.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{Client, Credentials, Secret, not_sent};
use crate::calls::property::{Objects, filter_spec};
use crate::calls::session::{acquire_local_ticket, login};
use crate::soap::{Answer, ApiVersion, Call, Repeat, Versions, read, senseless};
use crate::xml::parse;
use crate::{Error, FaultKind, Limits, MoRef, NotSent, ServiceContent};

/// Longest ticket read. It is a password of some forty characters.
const LONGEST_TICKET: u64 = 4096;

/// Where a host lists the versions of its API.
const VERSIONS: &str = "/sdk/vimServiceVersions.xml";

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) content: Arc<ServiceContent>,
    pub(super) versions: Versions,
    pub(super) cookie: Option<String>,
    answered: Mutex<Instant>,
}

impl Session {
    fn new(content: ServiceContent, versions: Versions, cookie: Option<String>) -> Self {
        Self {
            content: Arc::new(content),
            versions,
            cookie,
            answered: Mutex::new(Instant::now()),
        }
    }

    /// The host has just answered in it.
    pub(super) fn touch(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Since when it has not.
    pub(super) fn silent_for(&self) -> Duration {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.elapsed()
    }
}

/// Asks the session manager who we are.
pub(super) fn who_am_i(content: &ServiceContent) -> Option<Call> {
    let manager = [content.session_manager.clone()?];
    let collector = &content.property_collector;
    let call = Call::new("RetrievePropertiesEx", Repeat::Safe, collector, |w| {
        let objects = Objects::Listed(&manager);
        w.element("specSet", |w| {
            filter_spec(w, "SessionManager", &["currentSession"], objects);
        });
        w.element("options", |_| ());
    });
    Some(call)
}

/// Whether the session manager does not know us.
pub(super) fn is_nobody(answer: &Answer) -> bool {
    let objects = answer.element.child("returnval");
    !objects
        .into_iter()
        .flat_map(|r| r.all("objects"))
        .any(|o| o.child("propSet").is_some())
}

impl Client {
    /// Opens a session with the first credentials that work.
    pub(super) async fn open_session(
        &self,
        name: &'static str,
        deadline: Instant,
    ) -> Result<Session, Error> {
        if let Some(why) = self.0.refusals.in_force() {
            return Err(not_sent(name, why));
        }
        let opened = self.try_open(deadline).await;
        // Whatever went wrong on the way in: the call itself was not sent.
        opened.map_err(|why| match why {
            Error::NotSent { why, .. } => not_sent(name, why),
            why if why.is_deadline() => not_sent(name, NotSent::Deadline),
            why => not_sent(
                name,
                NotSent::Login {
                    user: self.users(),
                    cause: why.to_string(),
                },
            ),
        })
    }

    async fn try_open(&self, deadline: Instant) -> Result<Session, Error> {
        let versions = self.versions(deadline).await?;
        let outside = Session::new(nothing_known(), versions, None);
        let call = Self::retrieve_service_content();
        let answer = self.send(&call, &outside, deadline).await?;
        let content = ServiceContent::read(answer.need("returnval")?)
            .ok_or_else(|| senseless(call.name, "it lacks what every host has"))?;
        let manager =
            ServiceContent::need(content.session_manager.as_ref(), "SessionManager", "Login")?;
        let mut causes = Vec::new();
        let mut by_password = false;
        for credentials in &self.0.config.credentials {
            match self.log_in(credentials, &manager, &outside, deadline).await {
                Ok(cookie) => {
                    self.0.refusals.forget();
                    tracing::debug!(user = credentials.user(), "logged in to hostd");
                    return Ok(Session::new(content, outside.versions, cookie));
                }
                // The next user may be let in; a host that does not answer lets nobody in.
                Err(
                    why @ (Error::Refused { .. }
                    | Error::NotSent {
                        why: NotSent::Login { .. },
                        ..
                    }),
                ) => {
                    by_password |= is_wrong_password(credentials, &why);
                    causes.push(format!("{}: {}", credentials.user(), explain(&why)));
                }
                Err(why) => return Err(why),
            }
        }
        let why = NotSent::Login {
            user: self.users(),
            cause: causes.join("; "),
        };
        if by_password {
            self.0.refusals.note(&why);
        }
        Err(not_sent("Login", why))
    }

    /// Logs in; the session's cookie.
    async fn log_in(
        &self,
        credentials: &Credentials,
        manager: &MoRef,
        outside: &Session,
        deadline: Instant,
    ) -> Result<Option<String>, Error> {
        let (user, password) = match credentials {
            Credentials::Password { user, password } => (user.clone(), password.clone()),
            Credentials::LocalTicket { user } => {
                let call = acquire_local_ticket(manager, user);
                let answer = self.send(&call, outside, deadline).await?;
                let ticket = answer.need("returnval")?;
                let file = ticket.text_of("passwordFilePath").unwrap_or_default();
                let password = read_ticket(file).map_err(|why| {
                    not_sent(
                        call.name,
                        NotSent::Login {
                            user: user.clone(),
                            cause: format!("its ticket cannot be read: {why}"),
                        },
                    )
                })?;
                let named = ticket.some_text_of("userName");
                (named.unwrap_or_else(|| user.clone()), password)
            }
        };
        let call = login(manager, &user, &password);
        let action = outside.versions.action(ApiVersion::BASE);
        let message = self.message(&call, action, None)?;
        let exchange = self.exchange(&message, deadline).await?;
        read(call.name, &exchange.body)?;
        Ok(exchange.cookie)
    }

    /// The versions the host lists; none for a host without a list.
    async fn versions(&self, deadline: Instant) -> Result<Versions, Error> {
        let message = super::exchange::Message {
            name: "vimServiceVersions",
            repeat: Repeat::Safe,
            method: Method::GET,
            path: VERSIONS,
            action: None,
            cookie: None,
            body: Bytes::new(),
        };
        let exchange = self.exchange(&message, deadline).await?;
        if exchange.status != StatusCode::OK {
            return Ok(Versions::default());
        }
        Ok(parse(&exchange.body, &Limits::ANSWER)
            .map(|list| Versions::read(&list))
            .unwrap_or_default())
    }

    fn users(&self) -> String {
        let users: Vec<_> = self
            .0
            .config
            .credentials
            .iter()
            .map(Credentials::user)
            .collect();
        users.join(", ")
    }
}

/// For calls that need no session.
fn nothing_known() -> ServiceContent {
    let nobody = MoRef::new("", "");
    ServiceContent {
        about: crate::About::default(),
        root_folder: nobody.clone(),
        property_collector: nobody,
        session_manager: None,
        view_manager: None,
        search_index: None,
        file_manager: None,
        virtual_disk_manager: None,
        datastore_namespace_manager: None,
    }
}

/// Whether the host counts this against the user.
fn is_wrong_password(credentials: &Credentials, why: &Error) -> bool {
    let wrong = why
        .fault()
        .is_some_and(|f| f.kind == FaultKind::InvalidLogin);
    wrong && matches!(credentials, Credentials::Password { .. })
}

/// A refusal to let us in, with what to do about it.
fn explain(why: &Error) -> String {
    let text = why.to_string();
    match why.fault().map(|f| &f.kind) {
        Some(FaultKind::NoPermission { .. } | FaultKind::RestrictedByAdministrator) => format!(
            "{text}; if the host is in lockdown mode, add this user to its lockdown exceptions or configure another"
        ),
        _ => text,
    }
}

/// The one-time password in the file hostd named. Small and local; a path we are told by the host we trust.
fn read_ticket(file: &str) -> io::Result<Secret> {
    let mut text = String::new();
    File::open(file)?
        .take(LONGEST_TICKET)
        .read_to_string(&mut text)?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok(Secret::new(text))
}
