//! The users of a file in htpasswd's form: `name:hash`, one on each line.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::BasicCredentials;
use super::password::PasswordHash;

/// Who may come in with which password.
#[derive(Clone, Debug)]
pub struct Users {
    by_name: HashMap<String, usize>,
    /// At least one.
    hashes: Vec<PasswordHash>,
    decoys: RandomState,
}

/// More people than that have a database.
const USERS_MAX: usize = 10_000;

impl Users {
    /// Reads the file `name`, whose content is `text`. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// One line with the file and the line, without the hash: what is wrong, and what to do.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut users = Self { by_name: HashMap::new(), hashes: Vec::new(), decoys: RandomState::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let error = |problem: &str| format!("{name}:{}: {problem}", index + 1);
            let (user, hash) =
                line.split_once(':').ok_or_else(|| error("a line is NAME:HASH; write it so"))?;
            if user.is_empty() || user.chars().any(char::is_control) {
                return Err(error("the name of the user is empty or has control characters"));
            }
            let hash = PasswordHash::parse(hash).map_err(error)?;
            if users.hashes.len() == USERS_MAX {
                return Err(error(&format!("a file has at most {USERS_MAX} users")));
            }
            if users.by_name.insert(user.to_owned(), users.hashes.len()).is_some() {
                return Err(error(&format!("{user:?} is there twice; remove one of them")));
            }
            users.hashes.push(hash);
        }
        if users.hashes.is_empty() {
            return Err(format!("{name}: it has no user, so nobody could come in; add one"));
        }
        Ok(users)
    }

    /// Whether this user has this password. It takes as long for a name that is not there, so that the time does
    /// not tell which names are: such a name is given the hash of some user, always the same.
    pub fn verify(&self, credentials: &BasicCredentials) -> bool {
        let (hash, is_known) = self.hash_of(credentials.user());
        hash.verify(credentials.password()) && is_known
    }

    /// The hash that a user's password is compared with, and whether it is the user's.
    fn hash_of(&self, user: &str) -> (&PasswordHash, bool) {
        let known = self.by_name.get(user).copied();
        let decoy = || (self.decoys.hash_one(user) % self.hashes.len() as u64) as usize;
        (&self.hashes[known.unwrap_or_else(decoy)], known.is_some())
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::bcrypt;

    fn credentials(user: &str, password: &str) -> BasicCredentials {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        BasicCredentials::parse(format!("Basic {encoded}").as_bytes()).unwrap()
    }

    fn line(user: &str, password: &str, cost: u32) -> String {
        format!("{user}:{}\n", bcrypt::encode(cost, [3; 16], password.as_bytes()))
    }

    #[test]
    fn users_come_in_with_their_own_passwords() {
        let text = format!("# staff\n\n{}{}", line("bob", "secret", 4), line("eve", "other", 4));
        let users = Users::parse("users", &text).unwrap();
        assert_eq!(users.len(), 2);
        for (user, password, expected) in [
            ("bob", "secret", true),
            ("eve", "other", true),
            ("bob", "other", false),
            ("Bob", "secret", false),
            ("mallory", "secret", false),
            ("mallory", "other", false),
            ("bob", "", false),
        ] {
            assert_eq!(users.verify(&credentials(user, password)), expected, "{user}:{password}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_without_the_hash() {
        let bob = line("bob", "secret", 4);
        for (text, expected) in [
            ("bob".to_owned(), "users:1: a line is NAME:HASH"),
            (":x".to_owned(), "users:1: the name of the user is empty"),
            (format!("{bob}eve:plain"), "users:2: this is no hash"),
            (format!("{bob}{bob}"), "users:2: \"bob\" is there twice"),
            ("# nobody".to_owned(), "users: it has no user"),
        ] {
            let problem = Users::parse("users", &text).unwrap_err();
            assert!(problem.starts_with(expected) && !problem.contains("plain"), "{problem}");
        }
    }

    #[test]
    fn a_file_may_have_so_many_users_and_no_more() {
        let hash = bcrypt::encode(4, [3; 16], b"x");
        let text = |number: usize| (0..number).map(|n| format!("u{n}:{hash}\n")).collect::<String>();
        assert_eq!(Users::parse("users", &text(USERS_MAX)).unwrap().len(), USERS_MAX);
        assert!(Users::parse("users", &text(USERS_MAX + 1)).unwrap_err().contains("at most 10000 users"));
    }

    /// So its time is that of a user, whatever the machine does beside; what is compared costs nothing.
    #[test]
    fn a_name_that_is_not_there_is_verified_against_the_hash_of_some_user() {
        let text: String = (0..4).map(|n| line(&format!("u{n}"), &n.to_string(), 4)).collect();
        let users = Users::parse("users", &text).unwrap();
        assert_eq!(users.hash_of("u2"), (&users.hashes[2], true));
        let mut used = Vec::new();
        for number in 0..100 {
            let name = format!("mallory{number}");
            let (hash, is_known) = users.hash_of(&name);
            assert!(!is_known && users.hash_of(&name).0 == hash, "always the same one");
            used.extend(users.hashes.iter().position(|other| other == hash));
        }
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, [0, 1, 2, 3], "users with expensive hashes are not told by theirs");
    }
}
