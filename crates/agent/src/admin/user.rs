//! The name of the user behind a connection, for the audit.

use std::fs;

use vdvs_engine::api::LocalUser;

const ACCOUNTS: &str = "/etc/passwd";

/// The user with this number. Who has no account has no name.
pub(super) fn of(uid: Option<u32>) -> LocalUser {
    let name = match uid {
        None => None,
        Some(0) => Some("root".to_owned()),
        Some(uid) => fs::read_to_string(ACCOUNTS)
            .ok()
            .and_then(|accounts| name_in(&accounts, uid)),
    };
    LocalUser {
        name: name.unwrap_or_default(),
        uid,
    }
}

fn name_in(accounts: &str, uid: u32) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_host_names_it() {
        let accounts = "root:x:0:0::/:/bin/sh\n\nbroken\n:x:7:7\nann:x:7:7::/:/bin/sh\n";
        assert_eq!(name_in(accounts, 7).as_deref(), Some("ann"));
        assert_eq!(name_in(accounts, 8), None);
        assert_eq!(of(Some(0)).to_string(), "user root (uid 0)");
        let stranger = LocalUser {
            name: String::new(),
            uid: Some(8),
        };
        assert_eq!(stranger.to_string(), "user with uid 8");
        assert_eq!(of(None).to_string(), "local user");
    }
}
