//! What opens a link on Unix: two pipes, and a page of claim words where there is such a thing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pool_core::transport::{Link, LinkEvents, Ticket};
use pool_link::claims::Board;
use pool_link::page::Page;
use pool_link::stream::Fds;
use pool_link::{LinkParts, Pipes};

use crate::ticket::WorkerEnd;

/// Opens links that share a reactor.
#[derive(Debug)]
pub(crate) struct Host(pool_link::Host);

impl Default for Host {
    fn default() -> Self {
        Self(pool_link::Host::new("pool-pipe"))
    }
}

impl Host {
    pub(crate) fn prepare(&self, spin: Duration) -> io::Result<()> {
        self.0.prepare(spin)
    }

    pub(crate) fn open(
        &self,
        frame_max: usize,
        spin: Duration,
        events: Arc<dyn LinkEvents>,
    ) -> io::Result<(Box<dyn Link>, Ticket)> {
        let Pipes { read, write, worker_read, worker_write } = Pipes::new()?;
        // Without a page the link works all the same, it only cannot revoke.
        let (page, page_fd) = Page::create().ok().unzip();
        let board = page.map(|page| Arc::new(page) as Arc<dyn Board>);
        let link = self.0.open(
            LinkParts { frame_max, read, write, stream: Arc::<Fds>::default(), board },
            spin,
            events,
        )?;
        let end = WorkerEnd { frame_max, read: worker_read, write: worker_write, page: page_fd };
        Ok((link, end.into_ticket()))
    }
}
