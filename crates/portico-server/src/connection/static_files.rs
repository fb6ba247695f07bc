//! Files of routes, as responses: from memory at once, else when the thread for blocking work has found them.
//!
//! What a response for a file says is decided in portico-edge, how files are found and kept in portico-static.
//! Here is when which of it is asked, and how the bytes leave: those in memory in one write with the head, others
//! as parts of an opened file.

mod asked;
mod served;

use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use portico_config::Fallback;
use portico_edge::files::{
    AcceptedCodings, ContentCoding, FileBody, FileQuery, FileResponse, Sidecar, choose_sidecar,
    directory_location, wants_page,
};
use portico_edge::path::RequestPath;
use portico_proto::{Fields, ResponseHead};
use portico_static::{FileSite, FileVariant, Found, KeptFile, Patience, Reopened, StoredFile};

use self::asked::{AskedFields, JoinedLists};
use self::served::FilePurpose;
pub(super) use self::served::{FILE_METHODS, FileDecision, FileRequest, ServedFiles};
use super::response_rules::is_relayed;
use super::{Block, Connection, EngineContext, Flow, Phase, Reply, ResponsePart, Step};
use crate::blocking_work::{Effort, JobFate, JobOwner};
use crate::client::RequestContext;

/// The bytes of a response: which file they are in, if they are not in memory.
struct BytesSource<'s> {
    variant: &'s FileVariant,
    opened: Option<File>,
}

impl Connection {
    /// Responds with a file, or with what there is in its place, to the request that has come.
    pub(super) fn serve_file(&mut self, request: FileRequest, context: &mut EngineContext) -> Step {
        let now = context.now;
        let Some(files) = context.routes.as_mut().map(|routes| &mut routes.files) else { return Step::Close };
        let index = request.site as usize;
        match files.cache.find(index, &request.path, now) {
            KeptFile::Fresh(file) => return self.send_stored(&file, request, context),
            KeptFile::Stale(file) if files.sites[index].is_unchanged(&file, now) => {
                files.cache.note_checked(index, &request.path, now);
                return self.send_stored(&file, request, context);
            }
            KeptFile::Stale(_) => files.cache.drop_path(index, &request.path),
            KeptFile::Nothing if files.sites[index].is_missing(&request.path, now) => {
                return self.miss_file(request, context);
            }
            KeptFile::Nothing => {}
        }
        let site = Arc::clone(&files.sites[index]);
        self.load_file(site, request, context)
    }

    /// Has the file be found off the engine. What is found is kept also if its client has left, or others would
    /// have the same done again.
    fn load_file(&mut self, site: Arc<FileSite>, request: FileRequest, context: &mut EngineContext) -> Step {
        let (share, owner) = (context.sharer(), self.job_owner(context));
        let job = move || -> super::work::Resume {
            let found = site.load(&request.path);
            if let Found::File(file) = &found
                && !file.awaits_tags()
            {
                share(keeping(&request, file, owner));
            }
            Box::new(move |connection, context| connection.take_found(found, request, context))
        };
        self.await_work(Effort::Disk, Box::new(job), context)
    }

    /// Goes on with what has been found.
    fn take_found(&mut self, found: Found, request: FileRequest, context: &mut EngineContext) -> Step {
        let reply = match found {
            Found::File(file) if file.awaits_tags() => return self.hash_file(file, request, context),
            Found::File(file) => return self.send_stored(&file, request, context),
            Found::Missing => return self.miss_file(request, context),
            Found::Folder => match request.purpose {
                FilePurpose::Asked => self.folder_redirect(),
                FilePurpose::Fallback | FilePurpose::Internal(_) => Reply::NoFile(404),
            },
            Found::Listing(page) => match request.purpose {
                FilePurpose::Asked => Reply::Listing(page.into()),
                FilePurpose::Fallback | FilePurpose::Internal(_) => Reply::NoFile(404),
            },
            Found::Denied => Reply::NoFile(403),
            Found::Failed => Reply::Busy,
        };
        self.respond(ResponsePart::Own(reply), false, context)
    }

    /// Has the tags of a file be made of its contents, behind all that wait for a disk alone.
    fn hash_file(
        &mut self,
        file: Arc<StoredFile>,
        request: FileRequest,
        context: &mut EngineContext,
    ) -> Step {
        let Some(site) = context.site_of(&request).map(Arc::clone) else { return Step::Close };
        let (share, owner) = (context.sharer(), self.job_owner(context));
        let job = move || -> super::work::Resume {
            let hashed = site.hash(&file).map(Arc::new);
            if let Some(hashed) = &hashed {
                share(keeping(&request, hashed, owner));
            }
            // One that has changed is found once more when it is opened.
            let file = hashed.unwrap_or(file);
            Box::new(move |connection, context| connection.send_stored(&file, request, context))
        };
        self.await_work(Effort::Compute, Box::new(job), context)
    }

    /// To the same with a slash at its end, relative to what was asked for.
    fn folder_redirect(&self) -> Reply {
        let location = self.request().map(|request| {
            let head = &request.head;
            let query = Some(head.query()).filter(|query| !query.is_empty());
            match RequestPath::parse(head.path()) {
                Ok(path) => directory_location(path.normal(), query),
                Err(_) => directory_location(head.path(), query),
            }
        });
        Reply::Moved { status: 302, location: location.unwrap_or_default() }
    }

    /// Nothing is there: what the route has in its place.
    fn miss_file(&mut self, request: FileRequest, context: &mut EngineContext) -> Step {
        let route = context.site_of(&request).map(|site| Arc::clone(site.route()));
        let fallback = route.as_ref().map(|route| &route.files.fallback);
        match (fallback, &request.purpose) {
            (Some(Fallback::Application), FilePurpose::Asked) => self.await_thread_instead(context),
            (Some(Fallback::File(path)), FilePurpose::Asked) if self.wants_page() => {
                let path = path.as_bytes().to_vec();
                self.serve_file(FileRequest { path, purpose: FilePurpose::Fallback, ..request }, context)
            }
            _ => self.respond(ResponsePart::Own(Reply::NoFile(404)), false, context),
        }
    }

    /// Whether the request is a browser's that goes to a page.
    fn wants_page(&self) -> bool {
        self.request().is_some_and(|request| {
            let head = &request.head;
            // A name that is written otherwise has the same meaning.
            RequestPath::parse(head.path())
                .is_ok_and(|path| wants_page(head.method(), head.field(b"accept"), path.normal()))
        })
    }

    /// Responds with `file`.
    fn send_stored(
        &mut self,
        file: &Arc<StoredFile>,
        request: FileRequest,
        context: &mut EngineContext,
    ) -> Step {
        let Some(asking) = self.request().cloned() else { return Step::Close };
        let mut asked = AskedFields::of(&asking.head);
        let lists = asked.has_divided_list.then(|| JoinedLists::of(&asking.head));
        if let Some(lists) = &lists {
            asked = asked.with_lists(lists);
        }
        let Some(index) = choose_variant(file, asked.accept_encoding, &asking) else {
            let reply = Reply::Refused(406, "it is in no coding that the request takes".into());
            return self.respond(ResponsePart::Own(reply), false, context);
        };
        let variant = &file.variants()[index];
        // Of an application's order any method may be.
        let is_get = asking.head.method() != b"HEAD";
        if let FilePurpose::Internal(_) = request.purpose {
            // The general case, below.
        } else if !asked.is_special {
            if let Some(bytes) = variant.bytes() {
                let body = if is_get { bytes } else { &Bytes::new() };
                return self.send_memory(&variant.whole, body, context);
            }
        } else if asked.is_only_tag(&variant.not_modified) {
            return self.send_memory(&variant.not_modified, &Bytes::new(), context);
        }
        let response = file_response(variant, &asked, is_get, &request.purpose, context);
        if variant.bytes().is_some() || response.body == FileBody::Empty {
            return self.send_response(&BytesSource { variant, opened: None }, response, &request, context);
        }
        let Some(site) = context.site_of(&request) else { return Step::Close };
        match site.open(file, variant, context.now, Patience::Memory) {
            Reopened::Cold => {
                let (site, file) = (Arc::clone(site), Arc::clone(file));
                let job = move || -> super::work::Resume {
                    let reopened = site.open(&file, &file.variants()[index], Instant::now(), Patience::Disk);
                    Box::new(move |connection, context| {
                        connection.send_opened(reopened, (&file, index), response, request, context)
                    })
                };
                self.await_work(Effort::Disk, Box::new(job), context)
            }
            reopened => self.send_opened(reopened, (file, index), response, request, context),
        }
    }

    /// Responds with a file that is not in memory.
    fn send_opened(
        &mut self,
        reopened: Reopened,
        (file, index): (&Arc<StoredFile>, usize),
        response: FileResponse,
        request: FileRequest,
        context: &mut EngineContext,
    ) -> Step {
        if let Reopened::Same(opened) = reopened {
            let source = BytesSource { variant: &file.variants()[index], opened: Some(opened) };
            return self.send_response(&source, response, &request, context);
        }
        // It has changed since it was looked at.
        let Some(files) = context.routes.as_mut().map(|routes| &mut routes.files) else { return Step::Close };
        files.cache.drop_path(request.site as usize, &request.path);
        if request.was_changed {
            return self.respond(ResponsePart::Own(Reply::Busy), false, context);
        }
        let site = Arc::clone(&files.sites[request.site as usize]);
        self.load_file(site, FileRequest { was_changed: true, ..request }, context)
    }

    /// Responds from memory, with a head that was made before.
    #[inline]
    fn send_memory(&mut self, head: &ResponseHead, body: &Bytes, context: &mut EngineContext) -> Step {
        let body = match body.len() {
            // It is copied into one buffer with the head.
            0..SHARED_BYTES_MIN => Block::Borrowed(body),
            _ => Block::Shared(Box::new(body.clone())),
        };
        self.respond(ResponsePart::Whole { head: Cow::Borrowed(head), body }, false, context)
    }

    /// Sends `response`, whose bytes are in `source`.
    fn send_response(
        &mut self,
        source: &BytesSource<'_>,
        response: FileResponse,
        request: &FileRequest,
        context: &mut EngineContext,
    ) -> Step {
        let head = match &request.purpose {
            FilePurpose::Internal(application) => application.head_of(&response, source.variant),
            FilePurpose::Asked | FilePurpose::Fallback => plain_head(&response),
        };
        match (response.body, source.variant.bytes(), &source.opened) {
            (FileBody::Empty, ..) => self.send_memory(&head, &Bytes::new(), context),
            (FileBody::Range(first, last), Some(bytes), _) => {
                self.send_memory(&head, &slice(bytes, first, last), context)
            }
            (FileBody::Multipart { parts, end }, Some(bytes), _) => {
                let mut body = Vec::new();
                for part in parts {
                    body.extend_from_slice(part.head.as_bytes());
                    body.extend_from_slice(&slice(bytes, part.range.0, part.range.1));
                }
                body.extend_from_slice(end.as_bytes());
                self.send_memory(&head, &Bytes::from(body), context)
            }
            (FileBody::Range(first, last), None, Some(opened)) => {
                let parts = vec![(String::new(), (first, last))];
                self.send_parts(head, opened, parts, String::new(), context)
            }
            (FileBody::Multipart { parts, end }, None, Some(opened)) => {
                let parts = parts.into_iter().map(|part| (part.head, part.range)).collect();
                self.send_parts(head, opened, parts, end, context)
            }
            (_, None, None) => self.respond(ResponsePart::Own(Reply::Busy), false, context),
        }
    }

    /// Sends parts of an opened file, each behind its text.
    fn send_parts(
        &mut self,
        head: ResponseHead,
        opened: &File,
        parts: Vec<(String, (u64, u64))>,
        end: String,
        context: &mut EngineContext,
    ) -> Step {
        let Ok(file) = opened.try_clone().map(Arc::new) else {
            return self.respond(ResponsePart::Own(Reply::Busy), false, context);
        };
        let flow = Arc::<Flow>::default();
        let block = Block::Borrowed(b"");
        // What is held back comes to nothing by itself.
        self.respond(ResponsePart::Start { head: Cow::Owned(head), block, flow }, true, context);
        for (text, (first, last)) in parts {
            if !text.is_empty() {
                self.respond(ResponsePart::Block(Block::Owned(text.into_bytes())), true, context);
            }
            let part =
                ResponsePart::File { file: Arc::clone(&file), offset: first, length: last - first + 1 };
            self.respond(part, true, context);
        }
        if !end.is_empty() {
            self.respond(ResponsePart::Block(Block::Owned(end.into_bytes())), true, context);
        }
        self.respond(ResponsePart::Finish, false, context)
    }

    /// The application responds after all: the request waits for a thread.
    fn await_thread_instead(&mut self, context: &mut EngineContext) -> Step {
        self.phase = Phase::Receiving;
        self.await_thread(context);
        Step::Ready
    }
}

impl EngineContext {
    fn site_of(&self, request: &FileRequest) -> Option<&Arc<FileSite>> {
        self.routes.as_ref().and_then(|routes| routes.files.sites.get(request.site as usize))
    }

    /// Keeps `file`, and has it compressed if that is worth it, at the cost of who has asked for it.
    fn keep_file(&mut self, index: usize, path: Vec<u8>, file: &Arc<StoredFile>, owner: JobOwner) {
        let now = self.now;
        let Some(files) = self.routes.as_mut().map(|routes| &mut routes.files) else { return };
        files.cache.keep(index, &path, file, now);
        if !files.keeps || !file.is_compressible() {
            return;
        }
        let Some(site) = files.sites.get(index).map(Arc::clone) else { return };
        let (plain, kept_path) = (Arc::clone(file), path.clone());
        let compress = move |fate| -> super::work::Change {
            let newer = (fate == JobFate::Run).then(|| site.compress(&plain).map(Arc::new));
            Box::new(move |context| match (newer, &mut context.routes) {
                (Some(Some(newer)), Some(routes)) => {
                    routes.files.cache.complete(index, &kept_path, &plain, &newer);
                }
                (None, Some(routes)) => routes.files.cache.drop_path(index, &kept_path),
                _ => {}
            })
        };
        if self.submit_for_all(Effort::Compute, owner, compress).is_err()
            && let Some(routes) = &mut self.routes
        {
            // The next one who asks for it has it tried again, as where its place goes to another.
            routes.files.cache.drop_path(index, &path);
        }
    }
}

/// Keeps `file`, which has been found for `request`.
fn keeping(request: &FileRequest, file: &Arc<StoredFile>, owner: JobOwner) -> super::work::Change {
    let (index, path, file) = (request.site as usize, request.path.clone(), Arc::clone(file));
    Box::new(move |context| context.keep_file(index, path, &file, owner))
}

/// A body from this size on is written from where it lies.
const SHARED_BYTES_MIN: usize = 4096;

/// The number of the variant that the client of `asking` gets; `None` if it takes none of them.
fn choose_variant(
    file: &StoredFile,
    accept_encoding: Option<&[u8]>,
    asking: &RequestContext,
) -> Option<usize> {
    let variants = file.variants();
    // `;q=0` alone can refuse the content as it is.
    let says_nothing = accept_encoding.is_none_or(|value| memchr::memchr(b';', value).is_none());
    if variants.len() == 1 && says_nothing {
        return Some(0);
    }
    let accepted = AcceptedCodings::parse(accept_encoding);
    // What stands in front compresses itself, once for all that stands behind it.
    let takes_made = accept_encoding.is_some() && !is_relayed(asking);
    let may_be = |variant: &&FileVariant| takes_made || !variant.is_made;
    let number = |coding: ContentCoding| {
        variants.iter().position(|variant| variant.coding == Some(coding) && may_be(&variant))
    };
    let sidecars: Vec<Sidecar> = variants
        .iter()
        .filter(may_be)
        .filter_map(|variant| {
            Some(Sidecar { coding: variant.coding?, size: variant.size, modified: UNIX_EPOCH })
        })
        .collect();
    let chosen = choose_sidecar(&accepted, variants[0].size, UNIX_EPOCH, &sidecars);
    match chosen.map(|sidecar| sidecar.coding) {
        Some(coding) => number(coding),
        None if accepted.takes_identity() => Some(0),
        // Whatever there is that it takes, however large.
        None => accepted.wanted().find_map(number),
    }
}

/// The response for `variant`, but for its bytes.
fn file_response(
    variant: &FileVariant,
    asked: &AskedFields<'_>,
    with_content: bool,
    purpose: &FilePurpose,
    context: &mut EngineContext,
) -> FileResponse {
    let mut query = FileQuery {
        with_content,
        conditions: asked.conditions,
        range: asked.range,
        now: UNIX_EPOCH + Duration::from_secs(context.moment().second),
        boundary: 0,
    };
    if query.range.is_some_and(|range| memchr::memchr(b',', range).is_some()) {
        query.boundary = random();
    }
    match purpose {
        FilePurpose::Internal(head) => head.respond(variant, &query),
        FilePurpose::Asked | FilePurpose::Fallback => variant.respond(&query),
    }
}

/// For a boundary that nobody can have put into a file.
fn random() -> u128 {
    let mut bytes = [0; 16];
    // It blocks at the boot of the machine alone, and no number is as good as one that is not random.
    _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u128::from_ne_bytes(bytes)
}

fn slice(bytes: &Bytes, first: u64, last: u64) -> Bytes {
    // Both are in it.
    bytes.slice(first as usize..=last as usize)
}

/// The head of `response`.
pub(super) fn plain_head(response: &FileResponse) -> ResponseHead {
    let mut fields = Fields::new();
    for (name, value) in &response.fields {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    ResponseHead { status: response.status, fields, length: response.length, ..ResponseHead::default() }
}

#[cfg(test)]
mod tests;
