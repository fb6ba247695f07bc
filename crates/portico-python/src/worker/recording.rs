//! Where a worker records its requests: the metrics, the access log, the spans.

use std::time::Instant;

use portico_log::{AccessLog, LineConstants, Outputs};
use portico_metrics::Metrics;
use portico_server::Recording;
use portico_supervisor::now_nanos;
use portico_worker::{SlotHandle, WorkerSetup, logging, opening, telemetry};
use pyo3::prelude::*;

use super::context::WorkerContext;
use super::start_error::{StartError, system};
use crate::conf::access_observer;

/// Where this worker counts and logs from now on.
///
/// # Errors
/// A log cannot be opened, or the thread that sends spans cannot be started.
pub(super) fn begin_recording(
    py: Python<'_>,
    setup: &WorkerSetup,
    context: Option<&WorkerContext>,
    place: &SlotHandle,
) -> Result<Recording, StartError> {
    let metrics = place.metrics();
    logging::count_in(metrics);
    let access_log = open_access_log(py, setup, context, metrics)?;
    let tracer = telemetry::tracer(&setup.config, metrics);
    let tracer = tracer.map_err(|error| system("sending traces (--otlp)", &error))?;
    let (ended, origin) = (Some(place.ended_requests()), (Instant::now(), now_nanos()));
    Ok(Recording { access_log, tracer, metrics, ended, origin })
}

fn open_access_log(
    py: Python<'_>,
    setup: &WorkerSetup,
    context: Option<&WorkerContext>,
    metrics: Metrics<'static>,
) -> Result<Option<AccessLog>, StartError> {
    let config = &setup.config;
    let worker = context.and_then(WorkerContext::hooked);
    let outputs = telemetry::outputs(setup, worker.and_then(|worker| access_observer(py, worker)));
    if outputs.are_none() {
        return Ok(None);
    }
    let outputs = Outputs { metrics: Some(metrics), ..outputs };
    let facts = LineConstants {
        pid: std::process::id(),
        slot: context.map(WorkerContext::slot),
        root_path: config.root_path.clone(),
        own_traces: config.telemetry.traces.is_some(),
    };
    let doing = config.access_log.as_ref().map(|target| opening("access log", target));
    let opened = AccessLog::open(outputs, &config.access_log_format, facts);
    opened.map(Some).map_err(|error| system(&doing.unwrap_or("starting the log's thread".to_owned()), &error))
}
