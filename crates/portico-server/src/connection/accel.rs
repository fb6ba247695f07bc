//! Files that an application has the server send: X-Accel-Redirect and X-Sendfile of its response.
//!
//! Where a route is `internal`, such a header is an order to the server, and its response is made of the file;
//! what the application has given of a content is dropped. Where none is, the headers pass: a server in front may
//! know them.

use portico_edge::files::{FileQuery, FileResponse, accel_path, sendfile_below, survives_redirect};
use portico_proto::{Fields, ResponseHead};
use portico_static::FileVariant;

use super::response_rules::with_vary;
use super::static_files::{FileRequest, plain_head};
use super::{Connection, EngineContext, Phase, Reply, ResponsePart, Routes, Step};

/// What stays of the head with which an application has named a file.
#[derive(Debug)]
pub(super) struct ApplicationHead {
    status: u16,
    /// Those of its fields that are sent with the file.
    fields: Fields,
    close: bool,
    /// The request's method is GET or HEAD.
    is_plain: bool,
}

/// What an application has named a file by.
enum FileOrder<'h> {
    Redirect(&'h [u8]),
    Sendfile(&'h [u8]),
}

impl ApplicationHead {
    fn of(head: &ResponseHead, is_plain: bool) -> Self {
        let mut fields = Fields::new();
        for (name, value) in head.fields.iter().filter(|(name, _)| survives_redirect(name)) {
            fields.push(name, value);
        }
        Self { status: head.status, fields, close: head.close, is_plain }
    }

    /// The response for the file. A status of its own is the application's: nothing is conditional then, nor is
    /// what a POST is responded to with.
    pub(super) fn respond(&self, variant: &FileVariant, query: &FileQuery<'_>) -> FileResponse {
        if self.status == 200 && self.is_plain {
            return variant.respond(query);
        }
        let conditions = portico_edge::files::Preconditions::default();
        let whole = FileQuery { conditions, range: None, ..*query };
        FileResponse { status: self.status, ..variant.respond(&whole) }
    }

    /// The head of `response`, which has `variant`: the application's fields, and those of the file that it has
    /// not said.
    pub(super) fn head_of(&self, response: &FileResponse, variant: &FileVariant) -> ResponseHead {
        let of_file = plain_head(response);
        let mut fields = self.fields.clone();
        // Several parts have a type that names what is between them.
        let is_multipart = matches!(response.body, portico_edge::files::FileBody::Multipart { .. });
        if is_multipart {
            fields = Fields::new();
            for (name, value) in self.fields.iter().filter(|(name, _)| !is_content_type(name)) {
                fields.push(name, value);
            }
        }
        for (name, value) in of_file.fields.iter() {
            let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
            // Whom the application lets have a file, a cache does not know: by default none is told to keep it.
            if is(b"cache-control") && !variant.says_caching() {
                continue;
            }
            if is(b"vary") {
                fields = with_vary(&fields);
            } else if fields.get(name).is_none() {
                fields.push(name, value);
            }
        }
        ResponseHead { fields, close: self.close, ..of_file }
    }
}

fn is_content_type(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-type")
}

impl<'h> FileOrder<'h> {
    fn of(head: &'h ResponseHead) -> Option<Self> {
        head.fields.iter().find_map(|(name, value)| match name.len() {
            16 if name.eq_ignore_ascii_case(b"x-accel-redirect") => Some(Self::Redirect(value)),
            10 if name.eq_ignore_ascii_case(b"x-sendfile") => Some(Self::Sendfile(value)),
            _ => None,
        })
    }
}

impl Routes {
    /// The file that the application has named.
    fn ordered_file(
        &self,
        order: &FileOrder<'_>,
        host: Option<&[u8]>,
        head: ApplicationHead,
    ) -> Result<FileRequest, String> {
        let missing = || "no internal route has files for it".to_owned();
        match order {
            FileOrder::Redirect(value) => {
                let path = accel_path(value)?;
                let (route, lookup) = self.router.internal(host, &path).ok_or_else(missing)?;
                self.files.internal(route, lookup.path, head).ok_or_else(missing)
            }
            FileOrder::Sendfile(value) => {
                let internal = self.files.sites().iter().filter(|site| site.route().internal);
                let folders: Vec<_> =
                    internal.flat_map(|site| site.folders()).map(std::path::Path::to_owned).collect();
                let (folder, path) = sendfile_below(value, &folders)?;
                let has_it = |site: &&std::sync::Arc<portico_static::FileSite>| {
                    site.route().internal && site.folders().any(|other| other == folder)
                };
                let site = self.files.sites().iter().find(has_it).ok_or_else(missing)?;
                self.files.internal(site.route(), path, head).ok_or_else(missing)
            }
        }
    }
}

impl Connection {
    /// Whether `part` is of the application's response, and may be an order to send a file.
    #[inline]
    pub(super) fn may_be_order(&self, part: &ResponsePart<'_>, context: &EngineContext) -> bool {
        context.routes.as_ref().is_some_and(|routes| routes.has_internal)
            && matches!(part, ResponsePart::Whole { .. } | ResponsePart::Start { .. })
            && self.exchange.as_ref().is_some_and(|exchange| exchange.call != 0)
    }

    /// Takes `part` of the application's response as an order to send a file, if it is one; else gives it back.
    #[cold]
    pub(super) fn take_order<'p>(
        &mut self,
        part: ResponsePart<'p>,
        context: &mut EngineContext,
    ) -> Result<Step, ResponsePart<'p>> {
        let (ResponsePart::Whole { head, .. } | ResponsePart::Start { head, .. }) = &part else {
            return Err(part);
        };
        let (Some(order), Some(routes)) = (FileOrder::of(head), &context.routes) else { return Err(part) };
        let host = self.request().and_then(|request| request.host());
        let method = self.request().map(|request| request.head.method());
        let kept = ApplicationHead::of(head, matches!(method, Some(b"GET" | b"HEAD")));
        let ordered = routes.ordered_file(&order, host, kept);
        // What else comes of this call is not of the response.
        if let Some(exchange) = &mut self.exchange {
            exchange.call = 0;
        }
        self.phase = Phase::Calling;
        Ok(match ordered {
            Ok(request) => self.serve_file(request, context),
            Err(problem) => {
                context.reports.file_order(&problem);
                self.respond(ResponsePart::Own(Reply::NoFile(404)), false, context)
            }
        })
    }
}

#[cfg(test)]
mod tests;
