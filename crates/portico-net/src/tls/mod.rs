//! TLS as far as no client is concerned: certificates and keys, the files that they come from, session tickets,
//! and how each worker gets what it needs of them.
//!
//! One process reads the files, the one that started the server, and it alone needs permission to: it lays what it
//! has read into a [`SharedCertificates`](shared::SharedCertificates), memory that all its workers share, and
//! looks every second whether the files have changed. Workers make of it what rustls works with, anew when there
//! is something new in it. The keys of session tickets are made in the same place, so that a session begun with
//! one worker goes on with any.

mod acceptor;
mod client;
mod encoding;
mod material;
mod names;
mod provider;
mod reloader;
mod resolver;
mod shared;
mod source;
mod tickets;

pub use acceptor::Acceptor;
pub use client::TlsClient;
pub use reloader::{CertificateExpiry, CertificateReloader};
pub(crate) use resolver::{ShownCertificate, take_shown};
pub(crate) use source::CertificateSource;
