//! Where calls wait until they are let go, so that a measurement knows that they run.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::Result;

/// Two FIFOs in a folder of their own: calls say something on one, and wait for a byte on the other. (Not for its
/// end: forked workers have copies of both ends.)
pub(crate) struct Gate {
    folder: PathBuf,
    arrive: File,
    leave: File,
}

impl Gate {
    pub(crate) fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("pool-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        // To read and write: so the opening does not wait for the other side.
        let fifo = |name| -> Result<File> {
            let path = folder.join(name);
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU)?;
            Ok(OpenOptions::new().read(true).write(true).open(path)?)
        };
        let (arrive, leave) = (fifo("arrive")?, fifo("leave")?);
        Ok(Self { folder, arrive, leave })
    }

    /// What a call takes as its argument.
    pub(crate) fn folder(&self) -> Result<String> {
        Ok(self.folder.to_str().ok_or("a path that is no text")?.to_owned())
    }

    /// Waits until so many calls of `hold` run.
    pub(crate) fn arrivals(&self, count: usize) -> Result<()> {
        Ok((&self.arrive).read_exact(&mut vec![0; count])?)
    }

    /// Waits until a call of `busy` runs; returns its process id.
    pub(crate) fn pid(&self) -> Result<u32> {
        let mut pid = [0; 4];
        (&self.arrive).read_exact(&mut pid)?;
        Ok(u32::from_ne_bytes(pid))
    }

    /// Lets so many calls of `hold` go.
    pub(crate) fn open(&self, count: usize) -> Result<()> {
        Ok((&self.leave).write_all(&vec![1; count])?)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It is a folder for temporary files; what cannot be removed there is not missed.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A call: says a byte on one FIFO of a gate's folder, and waits for one on the other.
pub(crate) fn hold(folder: String) -> u64 {
    let folder = Path::new(&folder);
    let mut arrive = OpenOptions::new().write(true).open(folder.join("arrive")).expect("a FIFO");
    let mut leave = File::open(folder.join("leave")).expect("a FIFO");
    arrive.write_all(&[1]).expect("its reader is there");
    leave.read_exact(&mut [0]).expect("a byte for each");
    0
}

/// A call: says its process id on a FIFO of a gate's folder, and never returns.
pub(crate) fn busy(folder: String) -> u64 {
    let mut arrive = OpenOptions::new().write(true).open(Path::new(&folder).join("arrive")).expect("a FIFO");
    arrive.write_all(&std::process::id().to_ne_bytes()).expect("its reader is there");
    loop {
        std::hint::spin_loop();
    }
}
