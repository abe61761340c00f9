//! The numbers that the engines keep themselves, read when somebody asks for them.

use mullama::Stats;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Labels;
use crate::models::{Models, Presence};

/// A number of an engine: its name, its help, and where it is.
type Source<T> = (&'static str, &'static str, fn(&Stats) -> T);

const GAUGES: &[Source<usize>] = &[
    ("streams_queued", "Streams that wait for a slot", |stats| stats.queued),
    ("streams_running", "Streams that have a slot", |stats| stats.running),
    ("streams_paused", "Streams that wait for their readers, a delay or cells", |stats| stats.paused),
    ("kv_cells", "Cells of the KV pool", |stats| stats.cells),
    ("kv_cells_used", "Cells in use", |stats| stats.cells_used),
    ("kv_cells_cached", "Cells that cached prefixes hold", |stats| stats.cells_cached),
    ("kv_offloaded_bytes", "Offloaded KV in host memory", |stats| stats.prefix_bytes),
];

const COUNTERS: &[Source<u64>] = &[
    ("prefix_hits", "Streams whose prompts started with a computed prefix", |stats| stats.prefix_hits),
    ("prefix_tokens_saved", "Prompt tokens that did not have to be computed", |stats| stats.tokens_saved),
    ("offloads", "Copies of KV to host memory", |stats| stats.offloads),
    ("restores", "Copies of KV back from host memory", |stats| stats.restores),
    ("preemptions", "Streams that lost their cells to another", |stats| stats.preemptions),
    ("decode_steps", "Steps without prompt tokens", |stats| stats.decode_steps.count),
    ("prefill_steps", "Steps with prompt tokens", |stats| stats.prefill_steps.count),
];

/// Registers the present numbers of all models that are in memory. It loads none and waits for none.
pub(super) fn register(models: &Models, registry: &mut Registry) {
    let loaded_models = Family::<Labels<1>, Gauge>::default();
    let mut engines = Vec::new();
    for (name, presence) in models.present() {
        let labels = [("model", name)];
        let Presence::Loaded(loaded) = presence else {
            loaded_models.get_or_create(&labels).set(0);
            continue;
        };
        loaded_models.get_or_create(&labels).set(1);
        engines.push((labels, loaded.context().stats().unwrap_or_default()));
    }
    registry.register("model_loaded", "Whether a model is in memory", loaded_models);
    for (name, help, read) in GAUGES {
        let family = Family::<Labels<1>, Gauge>::default();
        for (labels, stats) in &engines {
            family.get_or_create(labels).set(i64::try_from(read(stats)).unwrap_or(i64::MAX));
        }
        registry.register(*name, *help, family);
    }
    for (name, help, read) in COUNTERS {
        let family = Family::<Labels<1>, Counter>::default();
        for (labels, stats) in &engines {
            family.get_or_create(labels).inc_by(read(stats));
        }
        registry.register(*name, *help, family);
    }
}
