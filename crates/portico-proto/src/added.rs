//! The fields that the server adds to the head of a response.

use crate::date::HttpDate;
use crate::message::Fields;

/// The fields that say where a response comes from. The server decides which of them a response gets
/// ([`AddedFields::beside`]); the protocols write what they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedFields {
    /// The Date field's value (RFC 9110, section 6.6.1); `None` for no such field.
    pub date: Option<HttpDate>,
    /// The Server field's value (RFC 9110, section 10.2.4); empty for no such field.
    pub server: &'static str,
}

/// The Server field's value where no other is asked for.
pub const SERVER: &str = "portico";

impl AddedFields {
    /// None at all.
    pub const NONE: Self = Self { date: None, server: "" };

    /// This date, and the usual server.
    pub fn new(date: HttpDate) -> Self {
        Self { date: Some(date), server: SERVER }
    }

    /// What is left of these beside `fields`: those that the application has not set itself.
    #[inline]
    pub fn beside(&self, fields: &Fields) -> Self {
        Self {
            date: if fields.has_date() { None } else { self.date },
            server: if fields.has_server() { "" } else { self.server },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_application_has_set_is_not_added() {
        let added = AddedFields::new(HttpDate::from_unix(0));
        for (name, date, server) in
            [("date", false, true), ("SERVER", true, false), ("Dates", true, true), ("serve", true, true)]
        {
            let mut fields = Fields::new();
            fields.push(name.as_bytes(), b"x");
            let left = added.beside(&fields);
            assert_eq!((left.date.is_some(), !left.server.is_empty()), (date, server), "{name}");
            fields.clear();
            assert_eq!(added.beside(&fields), added, "{name} is forgotten");
        }
    }
}
