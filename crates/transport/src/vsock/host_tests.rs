use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use super::*;

/// A hypervisor's answers. Descriptors are ends of ordinary pairs.
#[derive(Debug, Default)]
struct Fake {
    /// Devices that are there, and the family each says.
    devices: Vec<(&'static str, Result<i32, Errno>)>,
    socket: Option<Errno>,
    bind: Option<Errno>,
    /// Connections: what accepting gives, then their port and VM.
    coming: Mutex<VecDeque<Result<(u32, i32), Errno>>>,
    last: Mutex<Option<(u32, i32)>>,
    cause: Option<i32>,
    log: Mutex<Vec<String>>,
}

impl Fake {
    fn say(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

fn descriptor() -> OwnedFd {
    UnixStream::pair().unwrap().0.into()
}

impl HostSockets for Fake {
    fn open(&self, device: &Path) -> Result<OwnedFd, Errno> {
        self.say(format!("open {}", device.display()));
        let there = |(name, _): &&(&str, _)| Path::new(name) == device;
        self.devices.iter().find(there).ok_or(Errno::ENOENT)?;
        Ok(descriptor())
    }

    fn ask(&self, _: BorrowedFd<'_>, asked: u32) -> Result<i32, Errno> {
        self.say(format!("ask {asked}"));
        match asked {
            request::FAMILY => {
                let opened = self.log.lock().unwrap();
                let last = opened.iter().rev().find_map(|l| l.strip_prefix("open "));
                let found = self.devices.iter().find(|(n, _)| Some(*n) == last);
                found.unwrap().1
            }
            request::VERSION => Ok(9),
            _ => Ok(2),
        }
    }

    fn socket(&self, family: i32) -> Result<OwnedFd, Errno> {
        self.say(format!("socket {family}"));
        self.socket.map_or_else(|| Ok(descriptor()), Err)
    }

    fn bind(&self, _: BorrowedFd<'_>, address: &SockaddrVm) -> Result<(), Errno> {
        self.say(format!("bind {address:?}"));
        self.bind.map_or(Ok(()), Err)
    }

    fn listen(&self, _: BorrowedFd<'_>, backlog: i32) -> Result<(), Errno> {
        self.say(format!("listen {backlog}"));
        Ok(())
    }

    fn wait(&self, _: BorrowedFd<'_>, _: Duration) -> Result<bool, Errno> {
        Ok(!self.coming.lock().unwrap().is_empty())
    }

    fn accept(&self, _: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let came = self.coming.lock().unwrap().pop_front().unwrap()?;
        *self.last.lock().unwrap() = Some(came);
        Ok(descriptor())
    }

    fn peer(&self, _: BorrowedFd<'_>) -> Result<SockaddrVm, Errno> {
        let (port, _) = self.last.lock().unwrap().unwrap();
        Ok(SockaddrVm::new(51, 4711, port))
    }

    fn option(&self, _: BorrowedFd<'_>, level: i32, option: i32) -> Result<i32, Errno> {
        self.say(format!("option {level} {option}"));
        match option {
            host_option::PEER_VM => match self.last.lock().unwrap().unwrap().1 {
                0 => Err(Errno::ENOPROTOOPT),
                vm => Ok(vm),
            },
            _ => self.cause.ok_or(Errno::ENOPROTOOPT),
        }
    }

    fn set_text(&self, _: BorrowedFd<'_>, _: i32, option: i32, text: &str) -> Result<(), Errno> {
        self.say(format!("label {option} {text}"));
        Err(Errno::ENOPROTOOPT)
    }
}

fn fake(devices: &[(&'static str, Result<i32, Errno>)]) -> Fake {
    Fake {
        devices: devices.to_vec(),
        ..Fake::default()
    }
}

#[test]
fn the_first_device_that_says_a_family_counts_and_stays_open() {
    let [linux, esx] = DEVICES;
    let family = find_family(&fake(&[(esx, Ok(51))]));
    assert_eq!(family.number(), 51);
    assert_eq!(family.by().to_string(), esx);
    assert!(family._device.is_some(), "its number is valid while it is");
    assert_eq!((family.version(), family.local_cid()), (Some(9), Some(2)));
    let both = fake(&[(linux, Err(Errno::ENOTTY)), (esx, Ok(51))]);
    assert_eq!(find_family(&both).number(), 51);
    let wrong = find_family(&fake(&[(linux, Ok(-1)), (esx, Ok(0))]));
    assert_eq!((wrong.number(), wrong.by()), (40, &FoundBy::Convention));
    assert_eq!(find_family(&Fake::default()).number(), 40);
}

#[test]
fn it_listens_for_every_context_on_the_family_that_was_found() {
    let system = Arc::new(fake(&[(DEVICES[1], Ok(51))]));
    let listener = HostListener::open(system.clone(), 1019, true).unwrap();
    assert_eq!(listener.family().number(), 51);
    let said = system.log.lock().unwrap().join("\n");
    let address = SockaddrVm::new(51, u32::MAX, 1019);
    for line in [
        "socket 51",
        &format!("bind {address:?}"),
        "listen 128",
        "label 4 vdvs",
    ] {
        assert!(said.contains(line), "no '{line}' in {said}");
    }
}

#[test]
fn what_keeps_it_from_listening_says_what_to_do() {
    let no_family = Fake {
        socket: Some(Errno::EAFNOSUPPORT),
        ..Fake::default()
    };
    let taken = Fake {
        bind: Some(Errno::EADDRINUSE),
        ..Fake::default()
    };
    let not_root = Fake {
        bind: Some(Errno::EACCES),
        ..Fake::default()
    };
    for (system, words) in [
        (no_family, "--probe"),
        (taken, "original"),
        (not_root, "root"),
    ] {
        let why = HostListener::open(Arc::new(system), 1019, true).unwrap_err();
        assert!(why.to_string().contains(words), "{why}");
    }
}

fn coming(connections: &[Result<(u32, i32), Errno>]) -> HostListener {
    let system = Fake {
        coming: Mutex::new(connections.iter().copied().collect()),
        ..Fake::default()
    };
    HostListener::open(Arc::new(system), 1019, true).unwrap()
}

#[test]
fn only_root_of_a_vm_that_the_system_names_is_admitted() {
    let listener = coming(&[
        Ok((1023, 2001)),
        Ok((1024, 2001)),
        Ok((1022, 0)),
        Ok((1021, -1)),
    ]);
    let next = || listener.next(Duration::ZERO).unwrap().map(|a| a.vm);
    assert_eq!(next(), Some(Ok(2001)));
    assert_eq!(next(), Some(Err(Refusal::Unprivileged { port: 1024 })));
    assert_eq!(next(), Some(Err(Refusal::Nameless(Errno::ENOPROTOOPT))));
    assert_eq!(next(), Some(Err(Refusal::NoVm(-1))));
    assert_eq!(next(), None);
}

#[test]
fn the_rule_of_ports_can_be_switched_off_and_the_vms_name_cannot() {
    let peer = |port| Ok(SockaddrVm::new(51, 7, port));
    assert_eq!(admit(true, peer(1023), Ok(1)), Ok(1));
    assert!(admit(true, peer(1024), Ok(1)).is_err());
    assert!(admit(true, peer(u32::MAX), Ok(1)).is_err());
    assert_eq!(admit(false, peer(40_000), Ok(1)), Ok(1));
    assert!(admit(false, peer(40_000), Err(Errno::EINVAL)).is_err());
    let nameless = Err(Errno::ENOTCONN);
    assert_eq!(
        admit(true, nameless, Ok(1)),
        Err(Refusal::Nameless(Errno::ENOTCONN))
    );
}

#[test]
fn a_failed_accept_is_the_systems_error() {
    let listener = coming(&[Err(Errno::ECONNABORTED), Err(Errno::EBADF)]);
    for expected in [Errno::ECONNABORTED, Errno::EBADF] {
        let why = listener.next(Duration::ZERO).unwrap_err();
        assert_eq!(why.raw_os_error(), Some(expected as i32));
    }
}

#[test]
fn a_departure_by_vmotion_is_told_from_an_end() {
    for (cause, expected) in [
        (Some(1), Some(true)),
        (Some(0), Some(false)),
        (Some(7), None),
        (None, None),
    ] {
        let system = Fake {
            cause,
            ..Fake::default()
        };
        let listener = HostListener::open(Arc::new(system), 1019, true).unwrap();
        assert_eq!(listener.departure().by_vmotion(descriptor()), expected);
    }
}
