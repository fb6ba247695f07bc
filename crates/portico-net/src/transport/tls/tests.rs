//! Bytes that come while others are being read.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

use portico_config::{Config, Parsed, parse};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::tls::CertificateReloader;

/// A server's side that answers to `example.org`, and the certificate that its client trusts.
static SERVER: LazyLock<(Arc<Acceptor>, CertificateDer<'static>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["example.org".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (certificate_file, key_file) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let arguments = ["-b", "127.0.0.1:0", "--certfile"].map(OsString::from).into_iter();
    let arguments = arguments.chain([certificate_file.into(), "--keyfile".into(), key_file.into()]);
    let config: Config = match parse(arguments, &|_| None) {
        Ok(Parsed::Run(resolved)) => resolved.config,
        other => panic!("{other:?}"),
    };
    let reloader = CertificateReloader::open(&config, &[], None).unwrap().unwrap();
    (Arc::new(Acceptor::new(reloader.shared().into(), &config)), certificate.der().clone())
});

/// Both sides after their handshake.
fn connect() -> (Tls, ClientConnection, UnixStream) {
    let mut roots = RootCertStore::empty();
    roots.add(SERVER.1.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), "example.org".try_into().unwrap()).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut tls = Tls::new(ours.into(), Arc::clone(&SERVER.0));
    while tls.client().is_none() {
        client.write_tls(&mut theirs).unwrap();
        assert_eq!(tls.read(&mut [0; 64]), Progress::Blocked);
        let mut bytes = Vec::new();
        let _ = theirs.read_to_end(&mut bytes); // Until it would block.
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    (tls, client, theirs)
}

/// What happens next.
#[derive(Clone, Debug)]
enum Turn {
    /// The client sends as many bytes, sealed, as there are left.
    Send(usize),
    /// The server reads once, if it has been told to.
    Read,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    prop::collection::vec(prop_oneof![(1..70_000usize).prop_map(Turn::Send), Just(Turn::Read)], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// An edge tells of bytes once: whoever has been told reads until nothing is left, wherever more come.
    #[test]
    fn what_comes_between_two_reads_is_read(
        record in 1..40_000usize,
        room in 1..70_000usize,
        turns in turns(),
    ) {
        let (mut tls, mut client, mut theirs) = connect();
        let (mut sent, mut received, mut readable) = (0, 0, false);
        let mut sealed = Vec::new();
        let mut buffer = vec![0; room];
        let mut read = |tls: &mut Tls, readable: &mut bool| match tls.read(&mut buffer) {
            Progress::Bytes(count) => {
                *readable = !(count < buffer.len() && tls.is_drained());
                received += count;
            }
            stopped => {
                assert_eq!(stopped, Progress::Blocked);
                *readable = false;
            }
        };
        for turn in turns {
            match turn {
                Turn::Send(count) => {
                    while sealed.len() < count {
                        client.writer().write_all(&vec![65; record]).unwrap();
                        sent += record;
                        while client.wants_write() {
                            client.write_tls(&mut sealed).unwrap();
                        }
                    }
                    // What the socket does not take now comes later.
                    let count = theirs.write(&sealed[..count]).unwrap_or(0);
                    sealed.drain(..count);
                    readable |= count > 0;
                }
                Turn::Read if readable => read(&mut tls, &mut readable),
                Turn::Read => {}
            }
        }
        loop {
            while readable {
                read(&mut tls, &mut readable);
            }
            if sealed.is_empty() {
                break;
            }
            let count = theirs.write(&sealed).unwrap();
            sealed.drain(..count);
            readable = true;
        }
        prop_assert_eq!(received, sent);
    }
}
