//! Where the servers of `dev` listen.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use super::DevOptions;
use crate::config::{ClientConfig, Sources};

/// The broker's usual port: with it the others have theirs as well.
const USUAL_BROKER: u16 = 20881;
const USUAL_META: u16 = 20880;
const USUAL_DELAY: u16 = 20801;
const USUAL_META_HTTP: u16 = 8080;

/// Where each server listens.
pub(super) struct Ports {
    pub(super) meta: SocketAddr,
    pub(super) meta_http: SocketAddr,
    /// Entered at the meta server before the broker starts, so never 0.
    pub(super) broker: SocketAddr,
    /// Likewise.
    pub(super) delay: SocketAddr,
}

/// The ports asked for, else those that clients may know, else the usual ones, else any. What is taken by somebody else is passed over.
///
/// # Errors
/// What the system says.
pub(super) fn choose(options: &DevOptions, client_file: &Path) -> io::Result<Ports> {
    let usual = options.port == USUAL_BROKER;
    let of_usual = |port: u16| usual.then_some(port);
    let meta_http = match options.meta_port {
        Some(port) => port,
        None => [known(client_file), of_usual(USUAL_META_HTTP)]
            .into_iter()
            .flatten()
            .find(|&port| TcpListener::bind(on_loopback(port)).is_ok())
            .unwrap_or(0),
    };
    let usual_or_any = |port| of_usual(port).filter(|&port| is_free(port)).unwrap_or(0);
    Ok(Ports {
        meta: on_loopback(usual_or_any(USUAL_META)),
        meta_http: on_loopback(meta_http),
        broker: named(options.port)?,
        delay: named(usual_or_any(USUAL_DELAY))?,
    })
}

fn is_free(port: u16) -> bool {
    UdpSocket::bind(on_loopback(port)).is_ok()
}

/// This port, or one that is free at the moment.
fn named(port: u16) -> io::Result<SocketAddr> {
    match port {
        0 => UdpSocket::bind(on_loopback(0))?.local_addr(),
        port => Ok(on_loopback(port)),
    }
}

/// The port of HTTP that clients of this folder have been told.
fn known(client_file: &Path) -> Option<u16> {
    if !client_file.is_file() {
        return None;
    }
    let (config, _) = ClientConfig::load(&Sources::of_file(client_file)).ok()?;
    let endpoint = config.meta_endpoints.first()?;
    let address = endpoint.strip_prefix("http://")?.split('/').next()?;
    address.parse::<SocketAddr>().ok().map(|known| known.port())
}

fn on_loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
