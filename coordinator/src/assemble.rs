//! Assembly of a process from its configuration: what `satchel dev` and `satchel run` share.
//!
//! ```text
//!  ProcessArgs, module files ─► Process ─┬─► serve_ports ─► Servers
//!                                        ├─► open_state ──► StateStore, restored if asked for
//!  adapters of dev or run ──► Adapters ──┴─► parts ──► ApplicationParts
//! ```
//!
//! The two commands differ in the adapters that they make for ingresses, egresses and endpoints,
//! in the routes that they add, and in what precedes the takeover.

mod playground;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use satchel_engine::endpoint::{Endpoints, LINGER_MAX_MS, Linger};
use satchel_engine::output::Stoppages;
use satchel_engine::partition::Config;
use satchel_engine::story::Sampling;
use satchel_log::{Condensation, MemoryStore, Options, SnapshotPolicy};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::config::{CommitPolicy, ProcessArgs};
use crate::container;
use crate::cost::CostSettings;
use crate::egress::Egress;
use crate::error::{Exit, Failure};
use crate::http::{
    Admin, AdminAccess, BodyLimits, Console, Declared, DeclaredEndpoint, DeclaredFile,
    DeclaredSetting, Savepoints, Token, Traffic, TrafficLimits, admin_routes, console_routes,
    traffic_routes,
};
#[cfg(feature = "aws")]
use crate::http::{AdminRights, Members, members_routes};
use crate::ingress::Ingress;
use crate::metrics::emf::{self, EmfOptions, EmfReporter};
use crate::metrics::{Metrics, Role, SAMPLE_INTERVAL};
use crate::module::{Application, EgressAdapter, EndpointAdapter, EndpointSpec, IngressAdapter};
use crate::offline::{Fork, Past, Restored, restore};
use crate::otel::Telemetry;
use crate::random;
use crate::readiness::Readiness;
use crate::requests::Requests;
use crate::runtime::dispatch::Destination;
use crate::runtime::partitions::ApplicationParts;
use crate::servers::{Servers, admin_reads};
use crate::sources::Sources;
use crate::store::{StateLocation, StateStore, StoreKind, StoreOptions};
use crate::stories::Stories;

use playground::Playground;

/// Interval at which functions of StateFun's SDKs are asked for their declarations of states.
const DECLARATIONS_RENEWED: Duration = Duration::from_secs(5 * 60);

/// Parts that live as long as the process.
pub(crate) struct Process {
    /// Settings of the process.
    pub(crate) args: ProcessArgs,
    /// Content of the module files.
    pub(crate) application: Application,
    /// Metrics of the process.
    pub(crate) metrics: Metrics,
    /// Requests from outside.
    pub(crate) requests: Requests,
    /// Readiness of the process.
    pub(crate) readiness: watch::Sender<Readiness>,
    /// State of the ingresses' sources.
    pub(crate) sources: Sources,
    /// Functions and ingresses that stand still.
    pub(crate) stoppages: watch::Sender<Stoppages>,
    /// Random name, which tells processes apart.
    name: Arc<str>,
    /// Past of the durable state, once it is open.
    past: Past,
    /// Savepoints of the durable state.
    savepoints: Savepoints,
    /// Stories of messages, if they are kept.
    stories: Option<Stories>,
    /// Traces that are sampled, if any are.
    sampling: Option<Sampling>,
    /// Exporters of telemetry, if the environment asks for any.
    telemetry: Option<Telemetry>,
    /// Ports of StateFun's playground.
    pub(crate) playground: Playground,
    /// Writer of metrics to standard output, until the process ends.
    _emf: Option<EmfReporter>,
}

/// Tokens that clients of the ports must show.
#[derive(Default)]
pub(crate) struct Tokens {
    /// Token for traffic.
    pub(crate) traffic: Option<Token>,
    /// Token for administration.
    pub(crate) admin: Option<Token>,
}

/// Right to change something over the administration port of a process without a token.
#[derive(Debug, Clone)]
pub(crate) enum WritesWithoutToken {
    /// Programs that may read may also write: the commands of a developer on this machine. Web
    /// pages need this token.
    ByPrograms(Token),
    /// No client may write.
    #[cfg(feature = "aws")]
    Denied,
}

/// Routes that a command adds to the ports.
#[derive(Default)]
pub(crate) struct FurtherRoutes {
    /// Routes of the traffic port.
    pub(crate) traffic: Router,
    /// Routes of the administration port.
    pub(crate) admin: Router,
    /// Layers before calls and sends, inside the check of the token, and before administration.
    #[cfg(feature = "aws")]
    pub(crate) forwarding: Option<(Layer<()>, Layer<AdminRights>)>,
    /// Processes of the application, if they share its partitions.
    #[cfg(feature = "aws")]
    pub(crate) members: Option<Members>,
}

/// Puts something before routes, for clients with certain rights.
#[cfg(feature = "aws")]
pub(crate) type Layer<R> = Box<dyn FnOnce(Router, R) -> Router + Send>;

/// Adapters between the application and the outside world.
pub(crate) struct Adapters {
    /// Endpoints as the engine sees them, in the order of the module files.
    pub(crate) endpoints: Endpoints,
    /// Invokers of these endpoints, in the same order.
    pub(crate) destinations: Vec<Destination>,
    /// Ingresses.
    pub(crate) ingresses: Vec<Ingress>,
    /// Egresses by id.
    pub(crate) egresses: Vec<(Arc<str>, Egress)>,
}

impl Process {
    /// Loads the module files.
    pub(crate) fn new(
        args: ProcessArgs,
        modules: &[PathBuf],
        readiness: Readiness,
        trace_share: f64,
    ) -> Result<Self, Failure> {
        let application = Application::load(modules, &|name| std::env::var(name).ok())
            .map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))?;
        for warning in &application.warnings {
            tracing::warn!(%warning, "module file has a setting without effect");
        }
        let playground = Playground::of(&application);
        let metrics = Metrics::new();
        metrics.status().declare(&application);
        let named = metrics.status().named_functions();
        metrics.declare_functions(named.iter().map(ToString::to_string));
        metrics.observe_role(match readiness {
            Readiness::Standby => Role::Standby,
            _ => Role::Owner,
        });
        let telemetry = Telemetry::start(&args.application, &metrics);
        let of_share = |share: f64| (share > 0.0).then(|| Sampling::of_share(share));
        let wanted = telemetry.as_ref().and_then(Telemetry::sampling);
        let sampling = match (args.trace_messages, wanted) {
            (Some(share), _) => of_share(share),
            (None, Some(wanted)) => wanted,
            (None, None) => of_share(trace_share),
        };
        let stories = sampling.map(|_| {
            let export = telemetry.as_ref().and_then(Telemetry::export);
            Stories::new(bytes(args.trace_memory), metrics.clone(), export)
        });
        let readiness = watch::Sender::new(readiness);
        let emf = args.emf.then(|| {
            let options = EmfOptions {
                application: args.application.clone(),
                memory_limit_bytes: container::memory_limit_bytes(),
                readiness: readiness.subscribe(),
                interval: emf::INTERVAL,
                writer: emf::to_stdout(),
            };
            EmfReporter::start(&metrics, options)
        });
        let past = Past::default();
        Ok(Self {
            savepoints: Savepoints::new(past.clone()),
            args,
            application,
            requests: Requests::new(metrics.clone()),
            sources: Sources::new(metrics.clone()),
            metrics,
            readiness,
            stoppages: watch::Sender::default(),
            name: random_name(),
            past,
            stories,
            sampling,
            telemetry,
            playground,
            _emf: emf,
        })
    }

    /// Sends the last telemetry before the process ends.
    pub(crate) async fn flush_telemetry(&self) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.flush().await;
        }
    }

    /// Opens the ports. Clients that connect wait until [`Self::serve_ports`].
    pub(crate) async fn open_ports(&self) -> Result<Servers, Failure> {
        let mut servers = Servers::open(&self.args.ports).await?;
        for address in self.playground.addresses() {
            servers.open_playground(address).await?;
        }
        Ok(servers)
    }

    /// Returns what calls and sends need.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.clone(),
            readiness: self.readiness.subscribe(),
            limits: TrafficLimits::default(),
        }
    }

    /// Returns the routes of the administration port, for clients with these rights.
    pub(crate) fn admin(&self, reads: AdminAccess, writes: AdminAccess) -> Router {
        admin_routes(Admin {
            process: Arc::clone(&self.name),
            requests: self.requests.clone(),
            readiness: self.readiness.subscribe(),
            sources: self.sources.clone(),
            stoppages: self.stoppages.subscribe(),
            metrics: self.metrics.clone(),
            savepoints: self.savepoints.clone(),
            stories: self.stories.clone(),
            reads,
            writes,
            limits: BodyLimits::default(),
        })
    }

    /// Serves the open ports.
    pub(crate) fn serve_ports(
        &self,
        servers: &mut Servers,
        tokens: Tokens,
        writes_without_token: &WritesWithoutToken,
        further: FurtherRoutes,
    ) {
        servers.also(sample_costs(self.metrics.clone(), servers.stopping()));
        let traffic = self.traffic();
        let playground = |address| {
            let stoppages = self.stoppages.subscribe();
            self.playground.routes(address, traffic.clone(), stoppages)
        };
        servers.serve_playground(playground, tokens.traffic.as_ref(), &self.metrics);
        let traffic = traffic_routes(traffic);
        let reads = admin_reads(servers.admin, tokens.admin.as_ref());
        let writes = match (tokens.admin, writes_without_token) {
            (Some(token), _) => AdminAccess::Token(token),
            (None, WritesWithoutToken::ByPrograms(token)) => match reads {
                AdminAccess::Allowed => AdminAccess::Programs(token.clone()),
                _ => AdminAccess::Denied,
            },
            #[cfg(feature = "aws")]
            (None, WritesWithoutToken::Denied) => AdminAccess::Denied,
        };
        let admin = self.admin(reads.clone(), writes.clone());
        let console = console_routes(Console {
            application: self.args.application.clone(),
            declared: self.declared(writes_without_token),
            readiness: self.readiness.subscribe(),
            requests: self.requests.clone(),
            past: self.past.clone(),
            metrics: self.metrics.clone(),
            reads: reads.clone(),
            writes: writes.clone(),
        });
        #[cfg(feature = "aws")]
        let members = further.members.map(|members| {
            let (reads, writes) = (reads.clone(), writes.clone());
            members_routes(members, AdminRights { reads, writes })
        });
        #[cfg(feature = "aws")]
        let (traffic, admin) = match further.forwarding {
            Some((calls, administration)) => (
                calls(traffic, ()),
                administration(admin, AdminRights { reads, writes }),
            ),
            None => (traffic, admin),
        };
        if tokens.traffic.is_none() {
            servers.warn_of_open_traffic();
        }
        #[cfg(feature = "aws")]
        let admin = admin.merge(members.unwrap_or_default());
        servers.serve(
            (traffic.merge(further.traffic), tokens.traffic),
            admin.merge(further.admin).merge(console),
            &self.metrics,
        );
    }

    /// Opens the state at `location` (none: in `memory`), and restores it from another root if the
    /// command line asks for that. Returns the facts of the restore, if there was one.
    pub(crate) async fn open_state(
        &self,
        location: Option<&StateLocation>,
        memory: &Arc<MemoryStore>,
    ) -> Result<(StateStore, Option<Restored>), Failure> {
        let s3 = self.args.s3.options().map_err(Failure::usage)?;
        let store = match location {
            None => {
                let memory: Arc<MemoryStore> = Arc::clone(memory);
                StateStore::of(memory)
            }
            Some(location) => {
                let options = StoreOptions {
                    s3: s3.clone(),
                    log: self.args.commit_log.commit_log.clone(),
                    create_log_table: self.args.commit_log.create_commit_log_table,
                    ..StoreOptions::default()
                };
                location.open_new(self.metrics.counting(options)).await?
            }
        };
        let root = location.map(ToString::to_string);
        let Some(origin) = &self.args.fork.restore else {
            self.past.open(store.clone(), root);
            return Ok((store, None));
        };
        let place = location.map_or("memory".to_owned(), ToString::to_string);
        let fork = Fork {
            opened: &store,
            place: &place,
            application: &self.args.application,
            placement: self.args.placement.asked(),
        };
        let progress = |recovered| {
            let starting = Readiness::Starting { recovered };
            self.readiness.send_replace(starting);
        };
        let restored = restore(origin, s3, fork, progress).await?;
        self.past.open(store.clone(), root);
        Ok((store, Some(restored)))
    }

    /// Collects the parts of the application. `log` are the log's options apart from those of the
    /// command line.
    pub(crate) fn application_parts(
        &self,
        state: StateStore,
        adapters: Adapters,
        log: Options,
    ) -> Result<ApplicationParts, Failure> {
        let args = &self.args;
        let commits = args.commits.policy(state.kind());
        let settings = self.cost_settings(state.kind());
        self.metrics.declare_cost_settings(settings);
        if let Some(stories) = &self.stories {
            let names = adapters.destinations.iter().map(|it| Arc::clone(&it.name));
            stories.name_endpoints(names);
        }
        let (condensation, object_bytes) = match state.kind() {
            // A file is read in microseconds, so copies of small ones would gain nothing.
            StoreKind::Local => (None, log.snapshots.object_bytes),
            StoreKind::Bucket => (Some(Condensation::default()), log.snapshots.object_bytes),
            // A query reads a thousand items.
            StoreKind::Table => (None, TABLE_OBJECT_BYTES),
        };
        Ok(ApplicationParts {
            application: args.application.clone(),
            config: self.engine_config(adapters.endpoints, commits),
            placement: args.placement.asked(),
            state,
            hold_policy: args.fork.hold_policy().map_err(Failure::usage)?,
            log: Options {
                depth: commits.depth,
                condensation,
                snapshots: SnapshotPolicy {
                    object_bytes,
                    ..log.snapshots
                },
                retention_ms: millis(args.retention.unwrap_or_default()),
                ..log
            },
            clock_jump_max_ms: millis(args.clock_jump_max),
            destinations: adapters.destinations,
            ingresses: adapters.ingresses,
            egresses: adapters.egresses,
            sources: self.sources.clone(),
            stories: self.stories.clone(),
            metrics: self.metrics.clone(),
            requests: self.requests.clone(),
            readiness: self.readiness.clone(),
            stoppages: self.stoppages.clone(),
        })
    }

    /// Declared parts of the application, for people.
    fn declared(&self, command: &WritesWithoutToken) -> Declared {
        let files = self.application.files.iter().map(|shown| DeclaredFile {
            file: shown.file.clone(),
            text: shown.text.clone(),
        });
        let versions = self
            .application
            .endpoints
            .iter()
            .map(|it| match &it.adapter {
                EndpointAdapter::Lambda(lambda) => lambda.qualifier.clone(),
                EndpointAdapter::Http(_) => None,
            });
        let views = self.metrics.status().endpoints();
        let endpoints = views.into_iter().zip(versions);
        let settings = self.args.settings.iter().map(|setting| DeclaredSetting {
            flag: setting.flag.clone(),
            value: setting.value.clone(),
            origin: setting.origin,
        });
        Declared {
            command: match command {
                WritesWithoutToken::ByPrograms(_) => "dev",
                #[cfg(feature = "aws")]
                WritesWithoutToken::Denied => "run",
            },
            modules: files.collect(),
            endpoints: endpoints
                .map(|(view, version)| DeclaredEndpoint {
                    name: view.name.to_string(),
                    kind: view.kind,
                    version,
                    functions: view.functions,
                })
                .collect(),
            settings: settings.collect(),
        }
    }

    /// Settings that determine the bill. Where nothing is paid, those that the same command line
    /// would have in a bucket.
    fn cost_settings(&self, store: StoreKind) -> CostSettings {
        let (name, paid) = match store {
            StoreKind::Local => ("local", StoreKind::Bucket),
            StoreKind::Bucket => ("s3", store),
            StoreKind::Table => ("dynamodb", store),
        };
        let commits = self.args.commits.policy(paid);
        let Application {
            endpoints,
            ingresses,
            egresses,
            ..
        } = &self.application;
        let lingers = endpoints.iter().map(|it| match it.engine.linger {
            Linger::Measured => LINGER_MAX_MS,
            Linger::Fixed(ms) => ms,
        });
        let is_lambda = |it: &EndpointSpec| matches!(it.adapter, EndpointAdapter::Lambda(_));
        let read = ingresses.iter().flat_map(|it| match &it.adapter {
            IngressAdapter::Kinesis(_) => it.adapter.streams(),
            _ => &[],
        });
        let written = egresses.iter();
        let written = written.filter(|it| matches!(it.adapter, EgressAdapter::Kinesis(_)));
        CostSettings {
            store: name.to_owned(),
            commit_pace_ms: millis(commits.pace),
            commit_interval_ms: millis(commits.interval),
            commit_depth: commits.depth,
            max_linger_ms: lingers.max().unwrap_or(0),
            lambda: endpoints.iter().any(is_lambda),
            streams: (read.count() + written.count()) as u32,
            // Known once the state was read.
            partitions: 0,
        }
    }

    fn engine_config(&self, endpoints: Endpoints, commits: CommitPolicy) -> Config {
        let args = &self.args;
        let container = container::memory_limit_bytes();
        let memory = args.memory_limit.or(container.map(|bytes| bytes / 2));
        let pending = args.pending_limit.or(container.map(|bytes| bytes / 8));
        let pending = pending.unwrap_or(PENDING_LIMIT).max(PENDING_LIMIT_MIN);
        Config {
            partition: 0,
            endpoints,
            commit_depth: commits.depth,
            commit_interval_ms: millis(commits.interval),
            commit_pace_ms: millis(commits.pace),
            pending_bytes_max: bytes(pending),
            dead_letter_bytes_max: bytes(args.dead_letter_limit),
            memory_limit_bytes: memory.map(bytes),
            idempotency_ttl_ms: millis(args.idempotency_ttl),
            declarations_renewed_ms: Some(millis(DECLARATIONS_RENEWED)),
            stories: self.sampling,
            ..Config::default()
        }
    }
}

/// Default of `--pending-limit` without a container's limit, in bytes.
const PENDING_LIMIT: u64 = 256 << 20;

/// Bytes that a commit in a table counts besides its own size in the rule of snapshots: a thousand
/// of them are read in the time of a megabyte.
const TABLE_OBJECT_BYTES: u64 = 1 << 10;

/// Minimum of the limit, in bytes.
const PENDING_LIMIT_MIN: u64 = 1 << 20;

/// Samples what is counted for the bill until the ports close.
async fn sample_costs(metrics: Metrics, mut stopping: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => metrics.sample_costs(),
            // A dropped sender means the same.
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// Returns a name that no other process has.
fn random_name() -> Arc<str> {
    let name: Vec<String> = random::bytes::<4>()
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect();
    name.concat().into()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
