//! The phases of a pool's life, and which way they lead.
//!
//! ```text
//! Running ──shutdown──► Draining ──nothing unsettled──► Stopping ──no worker left──► Closed
//!    │                     │                               ▲                            ▲
//!    ├──terminate, kill────┴───────────────────────────────┘                            │
//!    └──a cause to give up─┴──────────────────► Broken ─────────────no worker left──────┘
//! ```

/// Where a pool is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Takes calls.
    Running,
    /// Takes no more calls, and finishes those it has; still replaces workers to do so.
    Draining,
    /// Workers are leaving.
    Stopping,
    /// Gave up: every call is settled, workers are being ended.
    Broken,
    /// No worker is left.
    Closed,
}

impl Phase {
    /// Whether calls are sent and workers started.
    pub(super) fn works(self) -> bool {
        matches!(self, Self::Running | Self::Draining)
    }
}
