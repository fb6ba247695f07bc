//! The provider of ciphers and key exchanges: for whoever reads keys, and for whoever greets clients with them.

use portico_config::TlsSettings;
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider};

use super::client::cipher_name;

/// That of all ciphers and key exchanges; of the ciphers those that the settings name.
pub(super) fn provider(settings: &TlsSettings) -> CryptoProvider {
    let mut provider = default_provider();
    if !settings.ciphers.is_empty() {
        provider.cipher_suites.retain(|suite| settings.ciphers.contains(&cipher_name(suite.suite())));
    }
    provider
}
