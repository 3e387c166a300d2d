//! `SessionManager`: logging in and out.

use crate::soap::{Call, Repeat};
use crate::{MoRef, Secret};

/// `Login`. Twice means a session nobody uses, until it expires.
pub(crate) fn login(manager: &MoRef, user: &str, password: &Secret) -> Call {
    Call::new("Login", Repeat::Safe, manager, |w| {
        w.text("userName", user);
        w.text("password", password.expose());
    })
}

/// `AcquireLocalTicket`: a one-time password in a file that only local users of that name can read.
pub(crate) fn acquire_local_ticket(manager: &MoRef, user: &str) -> Call {
    Call::new("AcquireLocalTicket", Repeat::Safe, manager, |w| {
        w.text("userName", user);
    })
}

/// `Logout`.
pub(crate) fn logout(manager: &MoRef) -> Call {
    Call::new("Logout", Repeat::Safe, manager, |_| ())
}
