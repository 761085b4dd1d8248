//! The keys of `client.properties`.

use super::super::key::{Key, Kind};
use super::make::{PATH, text, works};

/// The keys of `client.properties`.
pub const CLIENT: &[Key] = &[
    works(
        "meta.server.endpoint",
        Kind::Urls,
        "",
        "where the meta servers' HTTP says their addresses; they know the brokers of each subject",
    ),
    works(
        "meta.server.name",
        text(253),
        "",
        "name that the meta servers' certificates must have; empty: tls.server.name, or the host of the address that their HTTP says",
    ),
    works(
        "broker.address",
        Kind::HostPorts,
        "",
        "brokers and delay servers, as host:port with commas between them; counts where there is no meta.server.endpoint",
    ),
    works(
        "tls.ca",
        PATH,
        "",
        "certificates that sign those of the brokers, PEM",
    ),
    works("tls.cert", PATH, "", "certificate of this client, PEM"),
    works("tls.key", PATH, "", "its private key, PEM"),
    works(
        "tls.server.name",
        text(253),
        "",
        "name that the broker's certificate must have; empty: the host of broker.address",
    ),
    works(
        "token",
        Kind::Secret { bytes_max: 4096 },
        "",
        "token of this client; token.file names a file that has it",
    ),
    works(
        "consumer.id",
        text(255),
        "",
        "name of this consumer; empty: made from host and process",
    ),
];
