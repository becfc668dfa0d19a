//! How the numbers leave: as Prometheus text when asked, and pushed by OTLP over HTTP where configured.
//!
//! Exporting never holds anything up: a push that fails is a fault, counted and said, and the next one carries the same
//! running totals.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry_otlp::{MetricExporter, WithExportConfig};
use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio_util::sync::CancellationToken;

use super::events::Fault;
use super::metrics::Metrics;
use super::names::FaultCause;

/// A push, its own retries included, is given up after this.
const PUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// The last push, when the process ends, is given up after this.
const LAST_PUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The content type of what [`PromText::encode`] returns.
pub(super) const PROMETHEUS_CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The Prometheus side: names get their unit and `_total`.
#[derive(Debug)]
pub(super) struct PromText {
    registry: Registry,
}

impl PromText {
    /// The text side, and the reader that the meter provider takes.
    pub(super) fn new() -> (Self, PrometheusExporter) {
        let registry = Registry::new();
        let exporter =
            opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build();
        let exporter = exporter.expect("a new registry takes a collector");
        (Self { registry }, exporter)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Reads all instruments on demand.
///
/// The SDK's own periodic reader pushes from a thread without a runtime, on which the HTTP client cannot work.
#[derive(Clone, Debug, Default)]
pub(super) struct PullReader(Arc<ManualReader>);

impl PullReader {
    pub(super) fn collect(&self) -> ResourceMetrics {
        let mut metrics = ResourceMetrics::default();
        // It fails only where the provider is gone, and then there is nothing to read.
        let _empty = MetricReader::collect(self, &mut metrics);
        metrics
    }
}

impl MetricReader for PullReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        MetricReader::collect(&*self.0, metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// Why OTLP cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// Not an address that can be pushed to.
    #[error(
        "telemetry.otlp_endpoint: `{0}` is not an http:// address; a collector on this host, such as \
         http://localhost:4318, takes plain http and passes on by https"
    )]
    Endpoint(String),
    /// The exporter refuses.
    #[error("telemetry.otlp_endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Pushes all numbers by OTLP/HTTP (protobuf), as running totals.
#[derive(Debug)]
pub struct OtlpPush {
    exporter: MetricExporter,
    endpoint: String,
    interval: Duration,
    metrics: Metrics,
}

impl OtlpPush {
    /// Prepares pushing to `endpoint`; without a path, `/v1/metrics` is added. Headers are taken from
    /// `OTEL_EXPORTER_OTLP_HEADERS`, as everywhere.
    ///
    /// # Errors
    /// Where `endpoint` is not an `http://` address.
    pub fn new(endpoint: &str, interval: Duration, metrics: Metrics) -> Result<Self, OtlpError> {
        let url = metrics_url(endpoint).ok_or_else(|| OtlpError::Endpoint(endpoint.to_owned()))?;
        let exporter = MetricExporter::builder().with_http().with_endpoint(&url).with_timeout(PUSH_TIMEOUT).build()?;
        Ok(Self { exporter, endpoint: url, interval, metrics })
    }

    /// Pushes every interval until `end`, and then once more.
    pub async fn run(self, end: CancellationToken) {
        loop {
            let last = tokio::select! {
                () = end.cancelled() => true,
                () = tokio::time::sleep(self.interval) => false,
            };
            let pushed = self.push(if last { LAST_PUSH_TIMEOUT } else { PUSH_TIMEOUT }).await;
            if let Err(error) = pushed {
                let subject = self.endpoint.as_ref();
                Fault { cause: FaultCause::Telemetry, doing: "pushing metrics", subject, error: &error }
                    .emit(&self.metrics);
            }
            if last {
                return;
            }
        }
    }

    async fn push(&self, timeout: Duration) -> Result<(), String> {
        let collected = self.metrics.collect();
        match tokio::time::timeout(timeout, self.exporter.export(&collected)).await {
            Ok(pushed) => pushed.map_err(|error| error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {timeout:?}")),
        }
    }
}

/// Where metrics go: `endpoint` itself if it has a path, else its `/v1/metrics`.
fn metrics_url(endpoint: &str) -> Option<String> {
    let uri: hyper::Uri = endpoint.parse().ok()?;
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
        return None;
    }
    match uri.path() {
        "" | "/" => Some(format!("{}/v1/metrics", endpoint.trim_end_matches('/'))),
        _ => Some(endpoint.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_path_is_added_only_where_there_is_none() {
        let cases = [
            ("http://localhost:4318", Some("http://localhost:4318/v1/metrics")),
            ("http://localhost:4318/", Some("http://localhost:4318/v1/metrics")),
            ("http://[::1]:4318/otlp/v1/metrics", Some("http://[::1]:4318/otlp/v1/metrics")),
            ("https://collector.example", None),
            ("localhost:4318", None),
            ("", None),
        ];
        for (endpoint, expected) in cases {
            assert_eq!(metrics_url(endpoint).as_deref(), expected, "{endpoint}");
        }
    }

    /// Receives one request, answers 200, and returns its head and body.
    async fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
        let (mut stream, _peer) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            let mut block = [0; 4096];
            let n = stream.read(&mut block).await.unwrap();
            assert_ne!(n, 0, "the request ended early");
            bytes.extend_from_slice(&block[..n]);
            let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let body = &bytes[end + 4..];
            if body.len() == length.parse::<usize>().unwrap() {
                let body = body.to_vec();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                return (head, body);
            }
        }
    }

    #[tokio::test]
    async fn numbers_are_pushed_once_more_at_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let metrics = Metrics::new("web-1");
        metrics.lines_read(7, 700);
        let end = CancellationToken::new();
        let push = OtlpPush::new(&endpoint, Duration::from_secs(3600), metrics).unwrap();
        let pushing = tokio::spawn(push.run(end.clone()));
        end.cancel();
        let (head, body) = receive(&listener).await;
        assert!(head.starts_with("post /v1/metrics http/1.1"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        for name in ["logweir.read.io", "logweir.lines", "service.name", "web-1"] {
            assert!(memchr::memmem::find(&body, name.as_bytes()).is_some(), "{name} is not in the body");
        }
        pushing.await.unwrap();
    }

    #[tokio::test]
    async fn a_push_that_fails_is_a_fault() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let metrics = Metrics::new("web-1");
        let end = CancellationToken::new();
        end.cancel();
        OtlpPush::new(&endpoint, Duration::from_secs(1), metrics.clone()).unwrap().run(end).await;
        assert_eq!(metrics.faults(FaultCause::Telemetry), 1);
    }
}
