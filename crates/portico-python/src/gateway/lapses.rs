//! What applications do against PEP 3333 that can be put right, and how that is told: with one warning of each
//! kind in a worker.

use std::sync::atomic::{AtomicU32, Ordering};

/// A rule that an application has broken without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lapse {
    /// A status is three digits alone.
    StatusWithoutReason,
    /// The headers are no list.
    HeadersClass,
    /// A header is a list, not a tuple.
    HeaderClass,
    /// `Trailer`, which announces what WSGI cannot send.
    Trailer,
    /// `Connection`, with another option than `close`.
    Connection,
    /// `Keep-Alive`
    KeepAlive,
    /// `Proxy-Authenticate`, with another status than 407.
    ProxyAuthenticate,
    /// `Proxy-Authorization`
    ProxyAuthorization,
    /// `Proxy-Connection`
    ProxyConnection,
    /// `TE`
    Te,
    /// `Trailers`, the name by which RFC 2616 and PEP 3333's reference call `Trailer`.
    Trailers,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Upgrade`, with another status than 426.
    Upgrade,
}

/// A set of lapses, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct Lapses(u32);

const ALL: [Lapse; 13] = [
    Lapse::StatusWithoutReason,
    Lapse::HeadersClass,
    Lapse::HeaderClass,
    Lapse::Trailer,
    Lapse::Connection,
    Lapse::KeepAlive,
    Lapse::ProxyAuthenticate,
    Lapse::ProxyAuthorization,
    Lapse::ProxyConnection,
    Lapse::Te,
    Lapse::Trailers,
    Lapse::TransferEncoding,
    Lapse::Upgrade,
];

/// Those that this process has told of.
static TOLD: AtomicU32 = AtomicU32::new(0);

impl Lapses {
    /// Adds one.
    pub(crate) fn add(&mut self, lapse: Lapse) {
        self.0 |= lapse.bit();
    }

    /// Whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that have not been told of yet, which is to be done now.
    pub(crate) fn take_untold(self) -> impl Iterator<Item = Lapse> {
        let untold = self.0 & !TOLD.fetch_or(self.0, Ordering::Relaxed);
        ALL.into_iter().filter(move |lapse| untold & lapse.bit() != 0)
    }
}

impl Lapse {
    const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// What it is and what is done about it, for the log.
    pub(crate) fn warning(self) -> &'static str {
        match self {
            Self::StatusWithoutReason => "the status has no reason phrase: the standard one is sent",
            Self::HeadersClass => "the response headers are no list",
            Self::HeaderClass => "a response header is a list, not a tuple (name, value)",
            Self::Trailer => "the header Trailer announces fields that WSGI cannot send",
            Self::Connection => {
                "the header Connection is dropped (its option close is followed): it is the server's"
            }
            Self::KeepAlive => "the header Keep-Alive is dropped: it is the server's",
            Self::ProxyAuthenticate => {
                "the header Proxy-Authenticate is dropped: it goes with status 407 alone"
            }
            Self::ProxyAuthorization => "the header Proxy-Authorization is dropped: it is one of requests",
            Self::ProxyConnection => "the header Proxy-Connection is dropped: it is the server's",
            Self::Te => "the header TE is dropped: it is one of requests",
            Self::Trailers => "the header Trailers is dropped: it is the server's",
            Self::TransferEncoding => "the header Transfer-Encoding is dropped: it is the server's",
            Self::Upgrade => "the header Upgrade is dropped: it goes with status 426 alone",
        }
    }

    /// The rule that it breaks, for the exception that `--strict-wsgi` raises for a header.
    pub(crate) fn rule(self) -> &'static str {
        match self {
            Self::Trailer => "WSGI cannot send the fields that it announces",
            _ => "hop-by-hop headers are the server's, an application may not set them",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lapse_is_told_once_in_a_process() {
        let mut lapses = Lapses::default();
        assert!(lapses.is_empty());
        lapses.add(Lapse::Te);
        lapses.add(Lapse::KeepAlive);
        lapses.add(Lapse::Te);
        assert_eq!(lapses.take_untold().collect::<Vec<_>>(), [Lapse::KeepAlive, Lapse::Te]);
        let mut others = Lapses::default();
        others.add(Lapse::Te);
        others.add(Lapse::Upgrade);
        assert_eq!(others.take_untold().collect::<Vec<_>>(), [Lapse::Upgrade]);
    }

    #[test]
    fn each_lapse_has_its_bit() {
        let all = ALL.iter().fold(0, |all, lapse| all | lapse.bit());
        assert_eq!(all.count_ones() as usize, ALL.len());
    }
}
