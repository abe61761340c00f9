//! A provider from the standard variables `OTEL_*`. The SDK reads the sampler, the limits and the resource itself.

use std::env;
use std::io;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use url::{Host, Url};

use super::client::Client;

/// Those of traces win over those of all signals.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Ten minutes, in milliseconds.
const LONGEST: u64 = 600_000;

/// Numbers that the SDK reads and takes as they are, and their ranges.
const NUMBERS: &[(&str, u64, u64)] = &[
    (TIMEOUTS[0], 1, LONGEST),
    (TIMEOUTS[1], 1, LONGEST),
    ("OTEL_BSP_SCHEDULE_DELAY", 1, LONGEST),
    ("OTEL_BSP_MAX_QUEUE_SIZE", 1, 1 << 16),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1, 1 << 16),
];

/// Variables that would be ignored, though whoever sets them relies on them.
const UNSUPPORTED: &[&str] = &[
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
];

/// The provider that the environment asks for, if it does.
pub(super) fn provider() -> io::Result<Option<SdkTracerProvider>> {
    if !is_wanted()? {
        return Ok(None);
    }
    check()?;
    let endpoint = endpoint()?;
    let is_encrypted = endpoint.as_ref().is_some_and(|url| url.scheme() == "https");
    let is_local = endpoint.as_ref().is_none_or(is_loopback);
    let client = Client::new(is_encrypted, is_local, timeout()?)?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpBinary);
    let exporter = exporter.build().map_err(|error| invalid(format!("spans cannot be exported: {error}")))?;
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build()))
}

/// Nothing is sent to OpenTelemetry's default endpoint unless somebody asks for it.
fn is_wanted() -> io::Result<bool> {
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        None => Ok(first(&ENDPOINTS).is_some()),
        Some("none") => Ok(false),
        Some("otlp") => Ok(true),
        Some(other) => Err(wrong("OTEL_TRACES_EXPORTER", other, "otlp or none")),
    }
}

/// # Errors
/// If a variable asks for what is not supported, or is out of its range.
fn check() -> io::Result<()> {
    if let Some(name) = UNSUPPORTED.iter().find(|name| variable(name).is_some()) {
        return Err(invalid(format!(
            "{name} is not supported; the collector's certificate is checked with those of the system or of SSL_CERT_FILE"
        )));
    }
    if let Some((name, value)) = first(&PROTOCOLS).filter(|(_, value)| value != "http/protobuf") {
        return Err(wrong(name, &value, "http/protobuf, which collectors take at port 4318"));
    }
    NUMBERS.iter().try_for_each(|(name, least, most)| number(name, *least, *most).map(drop))
}

fn endpoint() -> io::Result<Option<Url>> {
    let Some((name, value)) = first(&ENDPOINTS) else { return Ok(None) };
    match Url::parse(&value) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(url)),
        // It may contain a password.
        _ if value.contains('@') => Err(invalid(format!("{name} must be an http:// or https:// URL"))),
        _ => Err(wrong(name, &value, "an http:// or https:// URL")),
    }
}

/// A collector on this machine is not asked for through a proxy.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn timeout() -> io::Result<Duration> {
    for name in TIMEOUTS {
        if let Some(milliseconds) = number(name, 1, LONGEST)? {
            return Ok(Duration::from_millis(milliseconds));
        }
    }
    Ok(DEFAULT_TIMEOUT)
}

/// What the environment says about this process, which is called mullama if the environment does not name it.
fn resource() -> Resource {
    let resource = Resource::builder().build();
    let name = resource.get(&Key::new("service.name")).map(|name| name.to_string()).unwrap_or_default();
    let mut builder = Resource::builder();
    if name.is_empty() || name.starts_with("unknown_service") {
        builder = builder.with_service_name("mullama");
    }
    if resource.get(&Key::new("service.version")).is_none() {
        builder = builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    }
    builder.build()
}

/// The value of a variable. An empty one counts as unset, as the specification wants it.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn first(names: &[&'static str]) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| Some((*name, variable(name)?)))
}

fn number(name: &str, least: u64, most: u64) -> io::Result<Option<u64>> {
    let Some(value) = variable(name) else { return Ok(None) };
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => Err(wrong(name, &value, &format!("a number from {least} to {most}"))),
    }
}

fn wrong(name: &str, value: &str, rule: &str) -> io::Error {
    let shown: String = value.chars().take(100).collect();
    invalid(format!("{name} is {shown}, but must be {rule}"))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
