//! OpenSSL's language of cipher lists, as far as there is something to choose.
//!
//! ```text
//! list = item *( ( ":" / "," / " " ) item )
//! item = [ "!" / "-" / "+" ] word *( "+" word ) / "@" strength
//! word = a cipher's name / a word for several of them
//! ```

use crate::error::ParseError;

/// A cipher and the words that it goes by.
struct Cipher {
    /// OpenSSL's name.
    name: &'static str,
    words: &'static [&'static str],
}

/// All that Portico has, the most preferred first. Those of TLS 1.3 are called by their names alone.
const CIPHERS: [Cipher; 9] = [
    Cipher { name: "TLS_AES_256_GCM_SHA384", words: &[] },
    Cipher { name: "TLS_AES_128_GCM_SHA256", words: &[] },
    Cipher { name: "TLS_CHACHA20_POLY1305_SHA256", words: &[] },
    Cipher {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        words: &["ECDSA", "aECDSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Cipher {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        words: &["ECDSA", "aECDSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
    Cipher { name: "ECDHE-ECDSA-CHACHA20-POLY1305", words: &["ECDSA", "aECDSA", "CHACHA20"] },
    Cipher {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        words: &["RSA", "aRSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Cipher {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        words: &["RSA", "aRSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
    Cipher { name: "ECDHE-RSA-CHACHA20-POLY1305", words: &["RSA", "aRSA", "CHACHA20"] },
];

/// Words for all those of TLS 1.2: none of them is weak.
const ALL: [&str; 10] = [
    "ALL",
    "COMPLEMENTOFDEFAULT",
    "DEFAULT",
    "HIGH",
    "ECDHE",
    "EECDH",
    "kECDHE",
    "kEECDH",
    "TLSv1.2",
    "AEAD",
];

/// The names of what `list` asks for. What OpenSSL might have and Portico has not is passed over, as OpenSSL does.
///
/// # Errors
/// It asks for nothing that Portico has.
pub(crate) fn ciphers(list: &str) -> Result<Vec<&'static str>, ParseError> {
    let (mut chosen, mut banned) = (Vec::new(), Vec::new());
    for item in list.split([':', ',', ' ', ';']).filter(|item| !item.is_empty()) {
        let of = |item: &str| -> Vec<&'static str> {
            CIPHERS.iter().filter(|cipher| cipher.goes_by(item)).map(|cipher| cipher.name).collect()
        };
        match item.split_at(1) {
            ("!", item) => banned.extend(of(item)),
            ("-", item) => {
                let gone = of(item);
                chosen.retain(|name| !gone.contains(name));
            }
            ("+" | "@", _) => {} // They only sort.
            _ => chosen.extend(of(item)),
        }
    }
    if !chosen.iter().any(|name| is_tls13(name)) {
        chosen.extend(CIPHERS.iter().map(|cipher| cipher.name).filter(|name| is_tls13(name)));
        if chosen.iter().all(|name| is_tls13(name) || banned.contains(name)) {
            let names: Vec<&str> =
                CIPHERS.iter().map(|cipher| cipher.name).filter(|name| !is_tls13(name)).collect();
            return Err(format!(
                "of {list:?} Portico has no cipher; it has {}, and those of TLS 1.3",
                names.join(", ")
            )
            .into());
        }
    }
    let in_force = |name: &&str| chosen.contains(name) && !banned.contains(name);
    Ok(CIPHERS.iter().map(|cipher| cipher.name).filter(in_force).collect())
}

fn is_tls13(name: &str) -> bool {
    name.starts_with("TLS_")
}

impl Cipher {
    fn goes_by(&self, item: &str) -> bool {
        if item == self.name {
            return true;
        }
        !is_tls13(self.name) && item.split('+').all(|word| ALL.contains(&word) || self.words.contains(&word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(list: &str) -> Vec<&'static str> {
        ciphers(list).unwrap().into_iter().filter(|name| !is_tls13(name)).collect()
    }

    #[test]
    fn lists_that_people_write() {
        let modern = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256";
        assert_eq!(old(modern), ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"]);
    }

    #[test]
    fn words_choose_and_ban() {
        assert_eq!(old("HIGH:!aNULL:!MD5").len(), 6);
        assert_eq!(
            old("EECDH+AESGCM:!ECDSA"),
            ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]
        );
        assert_eq!(old("ALL:-AES128:-CHACHA20:@STRENGTH:+RSA").len(), 2);
        assert_eq!(old("CHACHA20, AESGCM+AES128").len(), 4);
        assert_eq!(old("!AES:ALL"), ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"]);
    }

    #[test]
    fn those_of_tls_1_3_stay_unless_one_is_named() {
        assert_eq!(ciphers("ALL").unwrap().len(), 9);
        assert_eq!(ciphers("TLS_AES_128_GCM_SHA256").unwrap(), ["TLS_AES_128_GCM_SHA256"]);
        assert_eq!(ciphers("TLS_AES_128_GCM_SHA256:RSA").unwrap().len(), 4);
    }

    #[test]
    fn a_list_of_what_portico_has_not_is_refused() {
        for list in ["", "RC4-SHA", "ALL:!ECDHE", "AES128+CHACHA20", "nonsense", "DES-CBC3-SHA:AES128-SHA"] {
            assert!(ciphers(list).unwrap_err().to_string().contains("no cipher"), "{list:?}");
        }
    }
}
