//! A file as it is served: what is known of it, in each of its codings, as finished responses.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use portico_edge::files::{
    ContentCoding, EntityTag, FileBody, FileFacts, FileQuery, FileResponse, Preconditions, respond,
};
use portico_proto::{Fields, ResponseHead};

use crate::served_file::OpenedFacts;

/// A file that was found, with the files beside it that hold its content in a coding.
#[derive(Clone, Debug)]
pub struct StoredFile {
    /// Which of the site's folders has it, and its path below that: of an index, that of the file.
    pub(crate) folder: usize,
    pub(crate) path: Vec<u8>,
    pub(crate) original: OpenedFacts,
    /// The files beside it, good or not, in the order of [`ContentCoding::ALL`].
    pub(crate) sidecars: [Option<OpenedFacts>; 3],
    pub(crate) description: Arc<FileDescription>,
    /// The content as it is, then in its codings.
    pub(crate) variants: Vec<FileVariant>,
    /// What was read of it is what it will be: no change could go unnoticed.
    pub(crate) is_lasting: bool,
    /// Compressing it is still to be tried.
    pub(crate) is_compressible: bool,
}

/// What all variants of a file have in common.
#[derive(Debug)]
pub(crate) struct FileDescription {
    pub content_type: String,
    pub cache_control: String,
    /// The route itself says how long clients may keep it: by its `max_age`, or as `immutable`.
    pub says_caching: bool,
    pub modified: Option<SystemTime>,
    pub varies: bool,
}

/// A file's content in one coding, or as it is.
#[derive(Clone, Debug)]
pub struct FileVariant {
    /// `None`: as it is.
    pub coding: Option<ContentCoding>,
    /// The server has compressed it: there is no file of it.
    pub is_made: bool,
    /// Its length in bytes.
    pub size: u64,
    /// Its tag.
    pub tag: Option<EntityTag>,
    pub(crate) content: FileContent,
    /// The head of the whole response.
    pub whole: Arc<ResponseHead>,
    /// That of the response to a client that has it already.
    pub not_modified: Arc<ResponseHead>,
    pub(crate) description: Arc<FileDescription>,
}

/// Where a content is.
#[derive(Clone, Debug)]
pub(crate) enum FileContent {
    /// In memory.
    Memory(Bytes),
    /// In a file that is opened for each request.
    Disk(OpenedFacts),
}

/// Files up to this size are kept in memory.
pub(crate) const MEMORY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Of a file that was changed within this time a further change may have the same time (the racy rule of git).
const RACY: Duration = Duration::from_secs(2);

/// Memory that a variant takes beside its content: two heads, its tag.
const VARIANT_BYTES: usize = 1200;

/// Memory that a file takes beside its variants, with its place in the cache.
const FILE_BYTES: usize = 512;

impl StoredFile {
    /// The variants: as it is, then in its codings.
    pub fn variants(&self) -> &[FileVariant] {
        &self.variants
    }

    /// Whether a change of it cannot go unnoticed, so that it may be kept.
    pub fn is_lasting(&self) -> bool {
        self.is_lasting
    }

    /// Whether its content, or that of a file beside it, is still to be read for its tag. What may change
    /// unnoticed has none.
    pub fn awaits_tags(&self) -> bool {
        self.is_lasting && self.variants.iter().any(|variant| variant.tag.is_none())
    }

    /// Whether it is worth compressing, which nobody has done yet.
    pub fn is_compressible(&self) -> bool {
        self.is_compressible
    }

    /// Memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        let contents = self.variants.iter().map(|variant| match &variant.content {
            FileContent::Memory(bytes) => bytes.len(),
            FileContent::Disk(_) => 0,
        });
        FILE_BYTES + self.path.len() + self.variants.len() * VARIANT_BYTES + contents.sum::<usize>()
    }
}

impl FileVariant {
    /// Its content, where that is in memory.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.content {
            FileContent::Memory(bytes) => Some(bytes),
            FileContent::Disk(_) => None,
        }
    }

    /// Whether its route itself says how long clients may keep it, rather than the default.
    pub fn says_caching(&self) -> bool {
        self.description.says_caching
    }

    pub(crate) fn new(
        coding: Option<ContentCoding>,
        is_made: bool,
        (content, tag): (FileContent, Option<EntityTag>),
        description: &Arc<FileDescription>,
    ) -> Self {
        let size = match &content {
            FileContent::Memory(bytes) => bytes.len() as u64,
            FileContent::Disk(facts) => facts.length,
        };
        let (whole, not_modified) = <(Arc<ResponseHead>, Arc<ResponseHead>)>::default();
        let description = Arc::clone(description);
        let mut variant = Self { coding, is_made, size, tag, content, whole, not_modified, description };
        let query = FileQuery {
            with_content: true,
            conditions: Preconditions::default(),
            range: None,
            now: UNIX_EPOCH,
            boundary: 0,
        };
        let whole = variant.respond(&query);
        let shared = |name: &str| matches!(name, "Cache-Control" | "ETag" | "Last-Modified" | "Vary");
        // RFC 9110, section 15.4.5.
        let kept = whole.fields.iter().filter(|(name, _)| shared(name)).cloned().collect();
        let not_modified = FileResponse { status: 304, fields: kept, length: None, body: FileBody::Empty };
        variant.not_modified = Arc::new(head(&not_modified));
        variant.whole = Arc::new(head(&whole));
        variant
    }

    /// The response to `query`, but for its bytes.
    pub fn respond(&self, query: &FileQuery<'_>) -> FileResponse {
        let FileDescription { content_type, cache_control, modified, varies, .. } = &*self.description;
        let facts = FileFacts {
            size: self.size,
            modified: *modified,
            tag: self.tag.clone(),
            content_type,
            coding: self.coding,
            varies: *varies,
            cache_control,
        };
        // What is made again is made of other bytes, perhaps, and nobody wants a part of that.
        let range = query.range.filter(|_| !self.is_made);
        let mut response = respond(&facts, &FileQuery { range, ..*query });
        if self.is_made {
            response.fields.retain(|(name, _)| *name != "Accept-Ranges");
        }
        response
    }
}

/// The head of `response`.
pub(crate) fn head(response: &FileResponse) -> ResponseHead {
    let mut fields = Fields::new();
    for (name, value) in &response.fields {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    ResponseHead { status: response.status, fields, length: response.length, ..ResponseHead::default() }
}

/// Whether a change at `now` could leave `facts` as they are.
pub(crate) fn is_racy(facts: &OpenedFacts, now: SystemTime) -> bool {
    let changed = UNIX_EPOCH + Duration::from_nanos(facts.changed_nanos);
    match now.duration_since(changed) {
        Ok(age) => age < RACY,
        // The clock of a file server is ahead.
        Err(ahead) => ahead.duration() < RACY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(is_made: bool) -> FileVariant {
        let description = Arc::new(FileDescription {
            content_type: "text/css; charset=utf-8".to_owned(),
            cache_control: "max-age=60, public".to_owned(),
            says_caching: false,
            modified: Some(UNIX_EPOCH + Duration::from_secs(60)),
            varies: true,
        });
        let content = FileContent::Memory(Bytes::from_static(b"content"));
        FileVariant::new(None, is_made, (content, Some(EntityTag::of_content(b"content"))), &description)
    }

    fn names(head: &ResponseHead) -> Vec<String> {
        head.fields.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn heads_are_made_once() {
        let file = variant(false);
        assert_eq!((file.whole.status, file.whole.length), (200, Some(7)));
        assert_eq!(file.whole.fields.get(b"accept-ranges"), Some(&b"bytes"[..]));
        assert_eq!((file.not_modified.status, file.not_modified.length), (304, None));
        assert_eq!(names(&file.not_modified), ["Cache-Control", "ETag", "Last-Modified", "Vary"]);
        assert_eq!(file.whole.fields.get(b"etag"), file.not_modified.fields.get(b"etag"));
    }

    #[test]
    fn of_what_the_server_compresses_no_part_is_sent() {
        let range = Some(&b"bytes=0-1"[..]);
        let query = FileQuery {
            with_content: true,
            conditions: Preconditions::default(),
            range,
            now: UNIX_EPOCH,
            boundary: 0,
        };
        assert_eq!(variant(false).respond(&query).status, 206);
        assert_eq!(variant(true).respond(&query).status, 200);
        assert!(!names(&variant(true).whole).contains(&"Accept-Ranges".to_owned()));
    }

    #[test]
    fn what_has_just_changed_may_change_again_unnoticed() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let facts = |seconds: u64| OpenedFacts {
            length: 1,
            modified_nanos: 0,
            changed_nanos: seconds * 1_000_000_000,
            identity: (0, 0),
        };
        for (seconds, expected) in [(990, false), (998, false), (999, true), (1001, true), (1002, false)] {
            assert_eq!(is_racy(&facts(seconds), now), expected, "{seconds}");
        }
    }
}

/// What other tests need of files.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    /// A file of so many bytes.
    pub(crate) fn stored(size: usize, is_lasting: bool) -> StoredFile {
        let description = Arc::new(FileDescription {
            content_type: "text/plain".to_owned(),
            cache_control: "no-cache".to_owned(),
            says_caching: false,
            modified: None,
            varies: false,
        });
        let content = FileContent::Memory(vec![0; size].into());
        let facts =
            OpenedFacts { length: size as u64, modified_nanos: 0, changed_nanos: 0, identity: (0, 0) };
        StoredFile {
            folder: 0,
            path: b"a".to_vec(),
            original: facts,
            sidecars: [None; 3],
            variants: vec![FileVariant::new(None, false, (content, None), &description)],
            description,
            is_lasting,
            is_compressible: false,
        }
    }
}
