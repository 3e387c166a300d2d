//! The client for programs without a runtime: the lab's runner and tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    ClientError, LINE_LIMIT, decode, encode, expect_attached, expect_detached, expect_devices,
    expect_generation, expect_lock, expect_powered_off, expect_powered_on, expect_resumed,
    expect_suspended, expect_vms,
};
use crate::protocol::{Answer, Call, Device, Disk, LockState, VmState};

/// Longer than any call but a wait takes.
const LIMIT: Duration = Duration::from_secs(30);

/// The blocking client.
#[derive(Debug, Clone)]
pub struct BlockingClient {
    socket: PathBuf,
}

impl BlockingClient {
    /// A client of the labhv that listens on this socket, now or later.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Asks and waits for the answer, at most `limit`.
    ///
    /// # Errors
    /// [`ClientError`], as all calls.
    pub fn call(&self, call: Call, limit: Duration) -> Result<Answer, ClientError> {
        let line = encode(call)?;
        let stream = UnixStream::connect(&self.socket)
            .map_err(|e| ClientError::Unreachable(self.socket.clone(), e))?;
        let exchange = || {
            stream.set_read_timeout(Some(limit))?;
            stream.set_write_timeout(Some(limit))?;
            (&stream).write_all(&line)?;
            let mut reply = Vec::new();
            BufReader::new((&stream).take(LINE_LIMIT)).read_until(b'\n', &mut reply)?;
            Ok::<_, io::Error>(reply)
        };
        decode(&exchange().map_err(ClientError::broken)?)
    }

    /// All VMs of the host.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn vms(&self) -> Result<Vec<VmState>, ClientError> {
        expect_vms(self.call(Call::ListVms, LIMIT)?)
    }

    /// The disks of a VM.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn devices(&self, vm: &str) -> Result<Vec<Device>, ClientError> {
        expect_devices(self.call(Call::ListDevices { vm: vm.to_owned() }, LIMIT)?)
    }

    /// Hot-adds a disk; with the device, whether it was new.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn attach(
        &self,
        vm: &str,
        disk: &Disk,
        read_only: bool,
    ) -> Result<(Device, bool), ClientError> {
        let call = Call::Attach {
            vm: vm.to_owned(),
            disk: disk.clone(),
            read_only,
        };
        expect_attached(self.call(call, LIMIT)?)
    }

    /// Removes a disk that the guest does not use; whether it was there.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn detach(&self, vm: &str, disk: &Disk) -> Result<bool, ClientError> {
        self.remove(vm, disk, false)
    }

    /// Removes a disk also while the guest uses it; whether it was there.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn fence(&self, vm: &str, disk: &Disk) -> Result<bool, ClientError> {
        self.remove(vm, disk, true)
    }

    fn remove(&self, vm: &str, disk: &Disk, force: bool) -> Result<bool, ClientError> {
        let call = Call::Detach {
            vm: vm.to_owned(),
            disk: disk.clone(),
            force,
        };
        expect_detached(self.call(call, LIMIT)?)
    }

    /// The lock on a disk, with its holder where known.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn lock(&self, disk: &Disk) -> Result<(LockState, Option<String>), ClientError> {
        expect_lock(self.call(Call::Lock { disk: disk.clone() }, LIMIT)?)
    }

    /// The VM's init runs.
    ///
    /// # Errors
    /// [`ClientError`]; the VM is off then.
    pub fn power_on(&self, vm: &str, pid: i32, start_time: u64) -> Result<(), ClientError> {
        expect_powered_on(self.call(
            Call::PowerOn {
                vm: vm.to_owned(),
                pid,
                start_time,
            },
            LIMIT,
        )?)
    }

    /// Kills the VM.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn power_off(&self, vm: &str) -> Result<(), ClientError> {
        expect_powered_off(self.call(Call::PowerOff { vm: vm.to_owned() }, LIMIT)?)
    }

    /// Suspends a VM.
    ///
    /// # Errors
    /// [`ClientError`]; the VM runs on then.
    pub fn suspend(&self, vm: &str) -> Result<(), ClientError> {
        expect_suspended(self.call(Call::Suspend { vm: vm.to_owned() }, LIMIT)?)
    }

    /// Resumes a VM.
    ///
    /// # Errors
    /// [`ClientError`]; the VM stays suspended then.
    pub fn resume(&self, vm: &str) -> Result<(), ClientError> {
        expect_resumed(self.call(Call::Resume { vm: vm.to_owned() }, LIMIT)?)
    }

    /// Waits for a change, at most `limit`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn wait_change(&self, since: u64, limit: Duration) -> Result<u64, ClientError> {
        let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let call = Call::WaitChange { since, timeout_ms };
        expect_generation(self.call(call, limit.saturating_add(LIMIT))?)
    }
}
