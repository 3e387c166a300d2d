//! A new disk with the content of another one.
//!
//! Only what the source's file really holds is read: holes are found by `SEEK_DATA` and `SEEK_HOLE`. What is written
//! depends on the target. Into a thin disk go only blocks that hold something, so a thick source full of zeros gives
//! an empty thin clone; into a thick one go the data, and for `EagerZeroedThick` zeros wherever there are none.
//!
//! The blocks pass through this program, because a zero is only found by looking, and because a thick clone shall own
//! its blocks: `copy_file_range` may share them.
//!
//! The crash order is that of [`DiskFiles::create`]. The source is opened for reading only. Whoever calls keeps writers
//! away from it; a write that happens all the same is noticed by the file's times, and the clone is taken back.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::disk::{CHUNK, DiskFiles, Error, Progress, fault};
use crate::new::{NewDisk, Provisioning};

/// The unit in which zeros are left out: a page, and the block of every file system a datastore may be.
const BLOCK: usize = 4096;

/// What tells that a file was written to.
type Times = (u64, i64, i64, i64, i64);

impl DiskFiles {
    /// Makes this disk with the content of `source`, which must not be larger. `progress` is called on the way and
    /// may stop the work. The result is as of [`DiskFiles::create`].
    ///
    /// # Errors
    /// As [`DiskFiles::create`] about this disk, as [`DiskFiles::stat`] about the source;
    /// [`Error::SourceChanged`]. Nothing new is left in any case.
    pub fn clone_from(
        &self,
        source: &Self,
        disk: &NewDisk,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Provisioning, Error> {
        let stat = source.stat()?;
        let from = File::open(source.extent()).map_err(|e| fault("open", source.extent(), e))?;
        let before = times(&from).map_err(|e| fault("look at", source.extent(), e))?;
        let length = stat.capacity.bytes();
        if before.0 < length || length > disk.capacity.bytes() {
            return Err(Error::Unsupported {
                path: source.descriptor().to_owned(),
                what: format!(
                    "{} bytes of {length} cannot fill {}",
                    before.0,
                    disk.capacity.bytes()
                ),
            });
        }
        self.make(disk, |to, real| {
            let copy = Copy {
                source,
                target: self,
                disk,
                real,
            };
            copy.run(&from, to, length, progress)?;
            let after = times(&from).map_err(|e| fault("look at", source.extent(), e))?;
            if after == before {
                Ok(())
            } else {
                Err(Error::SourceChanged(source.descriptor().to_owned()))
            }
        })
    }
}

struct Copy<'a> {
    source: &'a DiskFiles,
    target: &'a DiskFiles,
    disk: &'a NewDisk,
    real: Provisioning,
}

impl Copy<'_> {
    fn run(
        &self,
        from: &File,
        to: &File,
        length: u64,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut buffer = vec![0u8; CHUNK];
        let mut at = 0;
        while at < length {
            let data = next_data(from, at, length)
                .map_err(|e| fault("find data in", self.source.extent(), e))?;
            self.blank(to, at..data.start, progress)?;
            self.copy(from, to, data.clone(), &mut buffer, progress)?;
            at = data.end;
        }
        self.blank(to, length..self.disk.capacity.bytes(), progress)
    }

    /// A part that holds nothing.
    fn blank(
        &self,
        to: &File,
        part: Range<u64>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if part.is_empty() {
            return Ok(());
        }
        match self.real {
            Provisioning::EagerZeroedThick => self.target.zero(to, part, self.disk, progress),
            Provisioning::Thin | Provisioning::ZeroedThick => {
                self.target.tell(part.end, self.disk, progress)
            }
        }
    }

    fn copy(
        &self,
        from: &File,
        to: &File,
        part: Range<u64>,
        buffer: &mut [u8],
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut at = part.start;
        while at < part.end {
            let left = usize::try_from(part.end - at).unwrap_or(CHUNK).min(CHUNK);
            let chunk = buffer.get_mut(..left).unwrap_or_default();
            from.read_exact_at(chunk, at)
                .map_err(|e| fault("copy", self.source.extent(), e))?;
            let write = match self.real {
                Provisioning::Thin => write_data(to, chunk, at),
                Provisioning::ZeroedThick | Provisioning::EagerZeroedThick => {
                    to.write_all_at(chunk, at)
                }
            };
            write.map_err(|e| fault("write", self.target.extent(), e))?;
            at = at.saturating_add(u64::try_from(left).unwrap_or(0));
            self.target.tell(at, self.disk, progress)?;
        }
        Ok(())
    }
}

/// Writes the blocks of `chunk` that hold something, neighbours together.
fn write_data(to: &File, chunk: &[u8], at: u64) -> io::Result<()> {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut run: Range<usize> = 0..0;
    let mut end = 0;
    for block in chunk.chunks(BLOCK) {
        let start = end;
        end += block.len();
        // Comparing slices of bytes is one call of the fastest routine there is.
        if ZEROS.get(..block.len()) == Some(block) {
            write_run(to, chunk, &run, at)?;
            run = end..end;
        } else {
            run = match run.is_empty() {
                true => start..end,
                false => run.start..end,
            };
        }
    }
    write_run(to, chunk, &run, at)
}

fn write_run(to: &File, chunk: &[u8], run: &Range<usize>, at: u64) -> io::Result<()> {
    match chunk.get(run.clone()) {
        None | Some([]) => Ok(()),
        Some(bytes) => {
            let start = u64::try_from(run.start).map_err(io::Error::other)?;
            to.write_all_at(bytes, at + start)
        }
    }
}

/// The next part of `file` that may hold data, cut to `end`; empty at `end` when there is none. A file system that
/// cannot tell has data everywhere.
fn next_data(file: &File, at: u64, end: u64) -> io::Result<Range<u64>> {
    let seek = |at: u64, whence| {
        let offset = i64::try_from(at).map_err(io::Error::other)?;
        match lseek(file, offset, whence) {
            Ok(found) => u64::try_from(found).map(Some).map_err(io::Error::other),
            Err(Errno::ENXIO) => Ok(None),
            Err(e) => Err(io::Error::from(e)),
        }
    };
    let start = match seek(at, Whence::SeekData) {
        Ok(Some(start)) => start.clamp(at, end),
        Ok(None) => end,
        Err(e) if e.kind() == ErrorKind::InvalidInput => return Ok(at..end),
        Err(e) => return Err(e),
    };
    if start >= end {
        return Ok(end..end);
    }
    let stop = seek(start, Whence::SeekHole)?.unwrap_or(end);
    Ok(start..stop.clamp(start + 1, end))
}

fn times(file: &File) -> io::Result<Times> {
    let m = file.metadata()?;
    Ok((
        m.len(),
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::{OpenOptions, read};
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tempfile::TempDir;
    use vdvs_domain::Capacity;

    use super::*;
    use crate::new::{Adapter, DiskUuid};

    const MIB: u64 = 1 << 20;

    fn disk(bytes: u64, provisioning: Provisioning, id: u8) -> NewDisk {
        NewDisk {
            capacity: Capacity::from_bytes(bytes).unwrap(),
            provisioning,
            adapter: Adapter::LsiLogic,
            uuid: DiskUuid::from_random([id; 16]),
            content_id: u128::from(id),
        }
    }

    fn go_on(_: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn source(dir: &Path, bytes: u64, provisioning: Provisioning) -> DiskFiles {
        let files = DiskFiles::new(&dir.join("src.11111111.vmdk")).unwrap();
        files
            .create(&disk(bytes, provisioning, 1), &mut go_on)
            .unwrap();
        files
    }

    fn target(dir: &Path) -> DiskFiles {
        DiskFiles::new(&dir.join("new.22222222.vmdk")).unwrap()
    }

    fn write(files: &DiskFiles, at: u64, bytes: &[u8]) {
        let extent = OpenOptions::new().write(true).open(files.extent()).unwrap();
        extent.write_all_at(bytes, at).unwrap();
        extent.sync_all().unwrap();
    }

    fn content(files: &DiskFiles) -> Vec<u8> {
        read(files.extent()).unwrap()
    }

    #[test]
    fn a_thin_clone_has_the_same_bytes_and_the_same_holes() {
        let dir = TempDir::new().unwrap();
        let from = source(dir.path(), 512 * MIB, Provisioning::Thin);
        write(&from, 3 * MIB + 5, b"hello");
        write(&from, 512 * MIB - 7, b"the end");
        let to = target(dir.path());
        let mut last = 0;
        let new = disk(512 * MIB, Provisioning::Thin, 2);
        to.clone_from(&from, &new, &mut |p| {
            assert!(p.done >= last && p.total == 512 * MIB);
            last = p.done;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(last, 512 * MIB);
        assert!(content(&to) == content(&from));
        assert!(to.stat().unwrap().allocated <= MIB, "holes stay holes");
        assert_ne!(to.stat().unwrap().uuid, from.stat().unwrap().uuid);
        assert_eq!(to.check().unwrap(), []);
    }

    #[test]
    fn zeros_of_a_thick_source_take_no_room_in_a_thin_clone() {
        let dir = TempDir::new().unwrap();
        let from = source(dir.path(), 8 * MIB, Provisioning::EagerZeroedThick);
        write(&from, 4 * MIB, &[7; 100]);
        let to = target(dir.path());
        to.clone_from(&from, &disk(8 * MIB, Provisioning::Thin, 2), &mut go_on)
            .unwrap();
        assert!(content(&to) == content(&from));
        assert!(to.stat().unwrap().allocated <= MIB / 2);
    }

    #[test]
    fn thick_clones_own_all_their_blocks() {
        let dir = TempDir::new().unwrap();
        let from = source(dir.path(), 8 * MIB, Provisioning::Thin);
        write(&from, MIB, &[7; 5000]);
        for thick in [Provisioning::ZeroedThick, Provisioning::EagerZeroedThick] {
            let to = target(dir.path());
            let real = to
                .clone_from(&from, &disk(8 * MIB, thick, 2), &mut go_on)
                .unwrap();
            assert_eq!(real, thick);
            assert!(to.stat().unwrap().allocated >= 8 * MIB, "{thick}");
            assert!(!to.stat().unwrap().thin);
            assert!(content(&to) == content(&from));
            to.delete().unwrap();
        }
    }

    #[test]
    fn a_clone_may_be_larger_and_its_end_is_blank() {
        let dir = TempDir::new().unwrap();
        let from = source(dir.path(), 2 * MIB, Provisioning::Thin);
        write(&from, 2 * MIB - 1, b"x");
        let to = target(dir.path());
        to.clone_from(&from, &disk(4 * MIB, Provisioning::Thin, 2), &mut go_on)
            .unwrap();
        let mut wanted = content(&from);
        wanted.resize(usize::try_from(4 * MIB).unwrap(), 0);
        assert!(content(&to) == wanted);
        to.delete().unwrap();
        let smaller = to.clone_from(&from, &disk(MIB, Provisioning::Thin, 2), &mut go_on);
        assert!(matches!(smaller, Err(Error::Unsupported { .. })));
        assert!(!to.extent().exists());
    }

    #[test]
    fn a_write_to_the_source_meanwhile_takes_the_clone_back() {
        let dir = TempDir::new().unwrap();
        let from = source(dir.path(), 4 * MIB, Provisioning::EagerZeroedThick);
        let to = target(dir.path());
        let torn = to.clone_from(&from, &disk(4 * MIB, Provisioning::Thin, 2), &mut |_| {
            write(&from, 0, b"late");
            ControlFlow::Continue(())
        });
        assert!(matches!(torn, Err(Error::SourceChanged(_))), "{torn:?}");
        assert!(!to.extent().exists() && !to.descriptor().exists());
    }

    #[test]
    fn a_cancelled_clone_leaves_nothing_and_its_source_alone() {
        let dir = TempDir::new().unwrap();
        let from = source(dir.path(), 4 * MIB, Provisioning::EagerZeroedThick);
        let to = target(dir.path());
        let stopped = to.clone_from(
            &from,
            &disk(4 * MIB, Provisioning::Thin, 2),
            &mut |p| match p.done {
                0..=MIB => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            },
        );
        assert!(matches!(stopped, Err(Error::Cancelled(_))));
        assert!(!to.extent().exists());
        assert_eq!(from.check().unwrap(), []);
        from.delete().unwrap();
        let gone = to.clone_from(&from, &disk(4 * MIB, Provisioning::Thin, 2), &mut go_on);
        assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_pattern_of_data_and_zeros_is_copied(
            writes in vec((0u64..2 * MIB, 1usize..20_000, any::<u8>()), 0..12),
            thin in any::<bool>(),
        ) {
            let dir = TempDir::new().unwrap();
            let from = source(dir.path(), 2 * MIB, Provisioning::Thin);
            for (at, length, byte) in writes {
                let length = length.min(usize::try_from(2 * MIB - at).unwrap());
                write(&from, at, &vec![byte & 1; length]);
            }
            let to = target(dir.path());
            let kind = if thin { Provisioning::Thin } else { Provisioning::ZeroedThick };
            to.clone_from(&from, &disk(2 * MIB, kind, 2), &mut go_on).unwrap();
            prop_assert!(content(&to) == content(&from));
        }
    }
}
