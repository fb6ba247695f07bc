//! What probes are told by a worker: what stands on the scoreboard, as the conditions of each endpoint.

use std::fmt;
use std::sync::Arc;

use portico_config::Config;
use portico_server::{Health, HealthCheck, HealthProbe, HealthSource};
use portico_supervisor::health::{HealthCondition, liveness, readiness, startup};
use portico_supervisor::{Scoreboard, now_nanos};

/// The state of the server as its scoreboard has it.
struct BoardHealth {
    scoreboard: Scoreboard,
    ready_min: u32,
    /// What the workers import.
    application: String,
}

/// The endpoints that `config` asks for, of the server with this scoreboard.
pub(crate) fn health(config: &Config, scoreboard: Scoreboard) -> Option<Health> {
    let path = config.health.path.as_deref()?;
    let application = config.app.as_deref().or(config.paste.as_ref().map(|_| "the application"));
    let source = BoardHealth {
        scoreboard,
        ready_min: config.health.ready_min,
        application: application.unwrap_or("the application").to_owned(),
    };
    Some(Health::new(path, config.health.log, Arc::new(source)))
}

impl HealthSource for BoardHealth {
    fn check(&self, probe: HealthProbe) -> Vec<HealthCheck> {
        let (board, now) = (&self.scoreboard, now_nanos());
        let conditions = match probe {
            HealthProbe::Live => liveness(board, now),
            HealthProbe::Ready => readiness(board, self.ready_min, now),
            HealthProbe::Started => startup(board, &self.application, now),
        };
        conditions.into_iter().map(check).collect()
    }
}

fn check(condition: HealthCondition) -> HealthCheck {
    let HealthCondition { name, is_met, text } = condition;
    HealthCheck { name, passes: is_met, text }
}

impl fmt::Debug for BoardHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoardHealth").field("ready_min", &self.ready_min).finish_non_exhaustive()
    }
}
