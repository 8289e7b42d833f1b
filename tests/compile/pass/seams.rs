//! The seams can be boxed, so that a backend is a value and the pool one concrete type.

use process_pool::spawner::{Entry, Spawner, Worker};
use process_pool::transport::{Channel, Connector, Link, LinkEvents, Transport};

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}

fn main() {
    is_send::<Box<dyn Transport>>();
    is_sync::<Box<dyn Transport>>();
    is_send::<Box<dyn Link>>();
    is_sync::<Box<dyn Link>>();
    is_send::<std::sync::Arc<dyn LinkEvents>>();
    is_send::<Box<dyn Connector>>();
    is_sync::<Box<dyn Connector>>();
    is_send::<Box<dyn Channel>>();
    is_send::<Box<dyn Spawner>>();
    is_sync::<Box<dyn Spawner>>();
    is_send::<Box<dyn Worker>>();
    is_sync::<Box<dyn Worker>>();
    is_send::<Box<dyn Entry>>();
    is_sync::<Box<dyn Entry>>();
}
