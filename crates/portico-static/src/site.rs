//! The files of one route: found, read and described.
//!
//! What [`FileSite::load`] does may wait for a disk. On the engine only what the kernel has in memory is asked for
//! ([`FileSite::is_unchanged`], [`FileSite::open`], [`FileSite::is_missing`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use portico_edge::FlatRoute;
use portico_edge::files::{
    ContentCoding, EntityTag, ImmutableNames, ListedEntry, cache_control, content_type, is_served,
    listing_page,
};

use crate::compression;
use crate::folder::{OpenFault, Patience, ServedFolder};
use crate::served_file::{OpenedFacts, ServedFile};
use crate::stored_file::{
    FileContent, FileDescription, FileVariant, MEMORY_FILE_BYTES_MAX, StoredFile, is_racy,
};

/// The folders of one route, and what the route says of their files.
#[derive(Debug)]
pub struct FileSite {
    route: Arc<FlatRoute>,
    folders: Vec<SiteFolder>,
    immutable: ImmutableNames,
    /// The time that all files of a reproducible build have (`SOURCE_DATE_EPOCH`), in seconds.
    build_time: Option<u64>,
    /// It has been said that a link leads out of a folder.
    has_told_of_link: AtomicBool,
    /// The clock on the wall.
    clock: fn() -> SystemTime,
}

/// A folder that is opened again now and then, for its name may be another one's by now.
#[derive(Debug)]
struct SiteFolder {
    path: PathBuf,
    state: Mutex<FolderState>,
}

#[derive(Debug)]
struct FolderState {
    /// `None` while there is none.
    folder: Option<Arc<ServedFolder>>,
    looked: Option<Instant>,
}

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// A file.
    File(Arc<StoredFile>),
    /// A folder, which was asked for without the slash at its end.
    Folder,
    /// A folder that is listed: the page.
    Listing(String),
    /// Nothing that is served.
    Missing,
    /// A file that the process may not read.
    Denied,
    /// The disk is broken, or descriptors have run out.
    Failed,
}

/// What has come of opening a file once more.
#[derive(Debug)]
pub enum Reopened {
    /// It is the one that was described.
    Same(File),
    /// It is another one by now, or gone.
    Changed,
    /// The disk would have to be asked.
    Cold,
}

/// How often a folder is opened again at most.
const REOPENED_EVERY: Duration = Duration::from_secs(1);

/// Entries of a folder that are read for a listing: of more the page says how many there are.
const LISTED_MAX: usize = 100_000;

/// How often a file is read again that changes meanwhile.
const READS_MAX: usize = 3;

/// What is read of a large file at once, for its tag.
const PIECE_BYTES: usize = 256 * 1024;

/// Files up to this size are read for their tag, where their time says nothing. That takes some 50 ms, a fraction
/// of what other jobs compute for; a larger file would hold up all that wait behind it.
const HASHED_BYTES_MAX: u64 = 16 * 1024 * 1024;

const NANOS: u64 = 1_000_000_000;

impl FileSite {
    /// The files of `route` in these folders, in which relative paths begin at `base`; `immutable` has the names
    /// that change with their content. A folder that is not there yet may come.
    pub fn new(route: Arc<FlatRoute>, folders: &[PathBuf], base: &Path, immutable: ImmutableNames) -> Self {
        let folder = |path: &PathBuf| SiteFolder {
            path: base.join(path),
            state: Mutex::new(FolderState { folder: None, looked: None }),
        };
        let build_time = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
        Self {
            route,
            folders: folders.iter().map(folder).collect(),
            immutable,
            build_time,
            has_told_of_link: AtomicBool::new(false),
            clock: SystemTime::now,
        }
    }

    /// Its route.
    pub fn route(&self) -> &Arc<FlatRoute> {
        &self.route
    }

    /// Its folders.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(|folder| &*folder.path)
    }

    /// Finds what is at `path`, which is in its normal form and begins with `/`, and reads a small file. May wait
    /// for a disk.
    pub fn load(&self, path: &[u8]) -> Found {
        let Some(relative) = path.strip_prefix(b"/").filter(|_| is_served(path)) else {
            // The mount itself, without its slash.
            return if path.is_empty() { Found::Folder } else { Found::Missing };
        };
        for index in 0..self.folders.len() {
            match self.load_from(index, relative) {
                Ok(Found::Missing) => {}
                Ok(found) => return found,
                Err(fault) => match self.note_fault(fault, path) {
                    Found::Missing => {}
                    found => return found,
                },
            }
        }
        Found::Missing
    }

    /// Whether there is nothing at `path` in any folder, as far as the kernel knows without a disk; of what may be
    /// a folder it does not tell.
    pub fn is_missing(&self, path: &[u8], now: Instant) -> bool {
        let Some(relative) = path.strip_prefix(b"/").filter(|rest| !rest.ends_with(b"/")) else {
            return false;
        };
        !relative.is_empty()
            && (0..self.folders.len()).all(|index| {
                let folder = self.folders[index].at(now, Patience::Memory, &self.route);
                let found = folder.map(|folder| folder.find(relative, Patience::Memory));
                matches!(found, Ok(Err(OpenFault::Missing)) | Err(OpenFault::Missing))
            })
    }

    /// Whether `file` is what would be found again, if that can be told without a disk.
    pub fn is_unchanged(&self, file: &StoredFile, now: Instant) -> bool {
        let facts = |index: usize, suffix: &str| -> Result<Option<OpenedFacts>, OpenFault> {
            let folder = match self.folders[index].at(now, Patience::Memory, &self.route) {
                Err(OpenFault::Missing) => return Ok(None),
                folder => folder?,
            };
            match folder.find(&[&file.path, suffix.as_bytes()].concat(), Patience::Memory) {
                Ok(ServedFile::File(_, facts)) => Ok(Some(facts)),
                Ok(ServedFile::Folder(_)) | Err(OpenFault::Missing | OpenFault::Outside) => Ok(None),
                Err(fault) => Err(fault),
            }
        };
        let is = |index, suffix, expected: Option<OpenedFacts>| {
            facts(index, suffix).is_ok_and(|facts| facts == expected)
        };
        (0..file.folder).all(|before| is(before, "", None))
            && is(file.folder, "", Some(file.original))
            && ContentCoding::ALL
                .iter()
                .zip(file.sidecars)
                .all(|(coding, sidecar)| is(file.folder, coding.suffix(), sidecar))
    }

    /// Opens the file in which `variant` of `file` is.
    pub fn open(
        &self,
        file: &StoredFile,
        variant: &FileVariant,
        now: Instant,
        patience: Patience,
    ) -> Reopened {
        let FileContent::Disk(expected) = &variant.content else { return Reopened::Changed };
        let suffix = variant.coding.map_or("", ContentCoding::suffix);
        let path = [&file.path, suffix.as_bytes()].concat();
        let found = self.folders[file.folder].at(now, patience, &self.route);
        match found.and_then(|folder| folder.find(&path, patience)) {
            Ok(ServedFile::File(opened, facts)) if facts == *expected => Reopened::Same(opened),
            Err(OpenFault::Cold) => Reopened::Cold,
            _ => Reopened::Changed,
        }
    }

    /// `file`, which [awaits its tags](StoredFile::awaits_tags), with them; `None` if it has changed meanwhile.
    /// May wait for a disk, and computes: up to 16 MiB for the file, and less for each of those beside it.
    pub fn hash(&self, file: &StoredFile) -> Option<StoredFile> {
        let mut newer = file.clone();
        for variant in newer.variants.iter_mut().filter(|variant| variant.tag.is_none()) {
            let FileContent::Disk(facts) = variant.content else { continue };
            let Reopened::Same(opened) = self.open(file, variant, Instant::now(), Patience::Disk) else {
                return None;
            };
            let tag = tag_of(&opened, facts.length).ok()?;
            // What was read while it changed is neither the old content nor the new one.
            if OpenedFacts::of(&opened).ok()? != facts {
                return None;
            }
            let content = (FileContent::Disk(facts), Some(tag));
            *variant = FileVariant::new(variant.coding, variant.is_made, content, &file.description);
        }
        Some(newer)
    }

    /// `file` with what it is in the codings that the server makes. May wait for a disk, and computes.
    pub fn compress(&self, file: &StoredFile) -> Option<StoredFile> {
        let plain = file.variants.first()?;
        let content = match &plain.content {
            FileContent::Memory(bytes) => bytes.clone(),
            FileContent::Disk(_) => match self.open(file, plain, Instant::now(), Patience::Disk) {
                Reopened::Same(opened) => Bytes::from(read_whole(&opened, file.original.length).ok()?),
                Reopened::Changed | Reopened::Cold => return None,
            },
        };
        let mut newer = StoredFile { is_compressible: false, ..file.clone() };
        for coding in compression::MADE {
            if let Some(made) = compression::compress(&content, coding) {
                let tag = Some(EntityTag::of_content(&made));
                let content = (FileContent::Memory(made.into()), tag);
                newer.variants.push(FileVariant::new(Some(coding), true, content, &file.description));
            }
        }
        Some(newer)
    }

    /// What is at `relative` in one folder.
    fn load_from(&self, index: usize, relative: &[u8]) -> Result<Found, OpenFault> {
        let folder = self.folders[index].at(Instant::now(), Patience::Disk, &self.route)?;
        let opened = match folder.find(relative, Patience::Disk)? {
            ServedFile::File(opened, facts) => {
                return Ok(self.store((index, &folder), relative, opened, facts));
            }
            ServedFile::Folder(_) if !relative.is_empty() && !relative.ends_with(b"/") => {
                return Ok(Found::Folder);
            }
            ServedFile::Folder(opened) => opened,
        };
        for name in &self.route.files.index {
            let path = [relative, name.as_bytes()].concat();
            match folder.find(&path, Patience::Disk) {
                Ok(ServedFile::File(opened, facts)) => {
                    return Ok(self.store((index, &folder), &path, opened, facts));
                }
                Ok(ServedFile::Folder(_)) | Err(OpenFault::Missing) => {}
                Err(fault) => return Err(fault),
            }
        }
        if !self.route.files.listing {
            return Ok(Found::Missing);
        }
        let entries = folder.entries(opened, relative, LISTED_MAX).map_err(OpenFault::Failed)?;
        let listed = |entry: crate::folder::ListedFile| ListedEntry {
            name: entry.name,
            is_folder: entry.facts.is_none(),
            size: entry.facts.map_or(0, |facts| facts.length),
            modified: entry.facts.map(|facts| UNIX_EPOCH + Duration::from_nanos(facts.modified_nanos)),
        };
        let title = [b"/", relative].concat();
        Ok(Found::Listing(listing_page(&title, entries.into_iter().map(listed).collect())))
    }

    /// Reads and describes a file that was opened, and those beside it.
    fn store(
        &self,
        (index, folder): (usize, &ServedFolder),
        path: &[u8],
        opened: File,
        facts: OpenedFacts,
    ) -> Found {
        let Ok((original, content, mut is_lasting)) = self.read(opened, facts) else { return Found::Failed };
        let mut sidecars = [None; 3];
        let mut coded = Vec::new();
        for (coding, place) in ContentCoding::ALL.into_iter().zip(&mut sidecars) {
            let beside = [path, coding.suffix().as_bytes()].concat();
            let Ok(ServedFile::File(opened, facts)) = folder.find(&beside, Patience::Disk) else { continue };
            *place = Some(facts);
            // One that is older has another content (cloudhead/node-static#116); a larger one is worth nothing.
            if facts.modified_nanos < original.modified_nanos || facts.length >= original.length {
                continue;
            }
            let Ok((facts, content, lasts)) = self.read(opened, facts) else { continue };
            *place = Some(facts);
            is_lasting &= lasts;
            coded.push((coding, content));
        }
        let content_type = content_type(path, &self.route.files.mime).into_owned();
        let is_compressible =
            is_lasting && coded.is_empty() && compression::is_worth(&content_type, original.length);
        let name = format!("/{}", String::from_utf8_lossy(path));
        let is_immutable = self.immutable.has(&name);
        let (max_age, for_some) = (self.route.files.max_age, self.route.is_for_some());
        let description = Arc::new(FileDescription {
            cache_control: cache_control(is_immutable, &content_type, max_age, for_some),
            says_caching: is_immutable || self.route.files.says_max_age,
            content_type,
            modified: self.modified(&original),
            varies: is_compressible || sidecars.iter().any(Option::is_some),
        });
        let mut variants = vec![FileVariant::new(None, false, content, &description)];
        variants.extend(
            coded
                .into_iter()
                .map(|(coding, content)| FileVariant::new(Some(coding), false, content, &description)),
        );
        Found::File(Arc::new(StoredFile {
            folder: index,
            path: path.to_vec(),
            original,
            sidecars,
            description,
            variants,
            is_lasting,
            is_compressible,
        }))
    }

    /// What is known of an opened file, its content and tag, and whether a change of it cannot go unnoticed.
    fn read(
        &self,
        opened: File,
        facts: OpenedFacts,
    ) -> io::Result<(OpenedFacts, (FileContent, Option<EntityTag>), bool)> {
        let is_settled = |facts: &OpenedFacts| !is_racy(facts, (self.clock)());
        if facts.length > MEMORY_FILE_BYTES_MAX {
            let tag = match self.modified(&facts) {
                _ if !is_settled(&facts) => None,
                Some(_) => Some(EntityTag::of_time_and_size(facts.modified_nanos.into(), facts.length)),
                // Its time says nothing. Where it is small enough it is read for its tag, elsewhere than here.
                None if facts.length <= HASHED_BYTES_MAX => None,
                // The kernel sets the time of the last change, which nobody can set back: a content that is
                // written over has another one, and a file that is put in the place of this one is another one.
                // It differs between machines with the same files, whose clients then get more than they need.
                None => Some(EntityTag::of_identity(facts.changed_nanos, facts.identity.1, facts.length)),
            };
            return Ok((facts, (FileContent::Disk(facts), tag), is_settled(&facts)));
        }
        let mut before = facts;
        for reads in 1.. {
            let content = read_whole(&opened, MEMORY_FILE_BYTES_MAX.max(before.length))?;
            let after = OpenedFacts::of(&opened)?;
            let is_whole = after == before && content.len() as u64 == after.length;
            if is_whole || reads == READS_MAX {
                let tag = EntityTag::of_content(&content);
                let facts = OpenedFacts { length: content.len() as u64, ..after };
                let lasts = is_whole && is_settled(&after);
                return Ok((facts, (FileContent::Memory(content.into()), Some(tag)), lasts));
            }
            before = after;
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// The time of a file, where it says when it was changed: builds set all files to one time.
    fn modified(&self, facts: &OpenedFacts) -> Option<SystemTime> {
        let seconds = facts.modified_nanos / NANOS;
        let says_nothing = seconds <= 1 || self.build_time == Some(seconds);
        (!says_nothing).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// What a client gets where a file cannot be opened.
    fn note_fault(&self, fault: OpenFault, path: &[u8]) -> Found {
        match fault {
            OpenFault::Missing | OpenFault::Cold => Found::Missing,
            OpenFault::Denied => Found::Denied,
            OpenFault::Outside => {
                if !self.has_told_of_link.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "{}: {} is behind a symbolic link that leads out of the folder, so it is 404; if that is \
                         meant (collectstatic --link), say symlinks = \"follow\" (said once)",
                        self.route.origin,
                        path.escape_ascii()
                    );
                }
                Found::Missing
            }
            OpenFault::Failed(error) => {
                log::debug!("{}: {} cannot be opened: {error}", self.route.origin, path.escape_ascii());
                Found::Failed
            }
        }
    }
}

impl SiteFolder {
    /// The folder as it is now, which is looked at once a second at most.
    fn at(
        &self,
        now: Instant,
        patience: Patience,
        route: &FlatRoute,
    ) -> Result<Arc<ServedFolder>, OpenFault> {
        let (folder, looked) = {
            let state = self.lock();
            (state.folder.clone(), state.looked)
        };
        if let Some(folder) = &folder
            && looked.is_some_and(|looked| now.saturating_duration_since(looked) < REOPENED_EVERY)
        {
            return Ok(Arc::clone(folder));
        }
        // Not while others wait for the lock: a disk may take long.
        let newer = match &folder {
            Some(folder) => folder.reopen(patience).map(|newer| newer.map_or(Arc::clone(folder), Arc::new)),
            None if patience == Patience::Memory => Err(OpenFault::Cold),
            None => ServedFolder::open(&self.path, route.files.symlinks).map(Arc::new).map_err(missing),
        };
        if matches!(newer, Err(OpenFault::Cold)) {
            return newer;
        }
        let mut state = self.lock();
        state.folder = newer.as_ref().ok().cloned();
        state.looked = Some(now);
        newer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FolderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(error: io::Error) -> OpenFault {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenFault::Missing,
        io::ErrorKind::PermissionDenied => OpenFault::Denied,
        _ => OpenFault::Failed(error),
    }
}

/// Reads `file` to its end, but no more than `max` bytes and one.
fn read_whole(file: &File, max: u64) -> io::Result<Vec<u8>> {
    let room = usize::try_from(max.saturating_add(1)).unwrap_or(usize::MAX);
    let mut content = vec![0; room];
    let mut filled = 0;
    while filled < room {
        match file.read_at(&mut content[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(filled);
    content.shrink_to_fit();
    Ok(content)
}

/// The tag of the first `length` bytes of a file.
fn tag_of(file: &File, length: u64) -> io::Result<EntityTag> {
    EntityTag::of_pieces(|push| {
        let (mut piece, mut offset) = (vec![0; PIECE_BYTES], 0);
        while offset < length {
            let room = usize::try_from(length - offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            match file.read_at(&mut piece[..room], offset) {
                Ok(0) => break,
                Ok(count) => {
                    push(&piece[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
