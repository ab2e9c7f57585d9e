"""What this process has counted, as Prometheus and OpenTelemetry show it: with their real libraries."""

from __future__ import annotations

from typing import Any

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flask_conversations.contrib import metrics

SECRET = "a-word-that-no-metric-may-repeat"


@pytest.fixture
def cached(make_app, redis_url) -> Any:
    """An app with a cache, whose Ada has saved a message and read it twice."""
    app = make_app(CONVERSATIONS_CACHE=None, CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=False)
    ada = app.conversations.as_user(SECRET, app=app)
    chat = ada.create_conversation(SECRET)["id"]
    ada.save_message(chat, "user", SECRET)
    for _ in range(2):
        ada.get_conversation_history(chat)
    return app


def scraped(app: Any) -> str:
    registry = prometheus_client.CollectorRegistry()
    metrics.prometheus(app.conversations, app=app, registry=registry)
    return prometheus_client.generate_latest(registry).decode()


def exported(app: Any) -> dict[str, Any]:
    """The points of each instrument, as an exporter gets them."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    metrics.opentelemetry(app.conversations, app=app, meter=provider.get_meter("test"))
    found = reader.get_metrics_data()
    assert found is not None
    (resource,) = found.resource_metrics
    (scope,) = resource.scope_metrics
    return {metric.name: metric for metric in scope.metrics}


def test_prometheus_gets_the_numbers(cached):
    """A counter for each, and gauges for what goes down too."""
    said = scraped(cached)
    stats = cached.conversations.get_stats(app=cached)
    assert stats["cache"]["hits"] > 0
    assert f"flask_conversations_cache_hits_total {float(stats['cache']['hits'])}" in said
    assert f"flask_conversations_calls_writes_total {float(stats['calls']['writes'])}" in said
    assert "# TYPE flask_conversations_cache_stale_keys gauge" in said
    assert 'flask_conversations_cache_breaker_state{of="reads"} 0.0' in said
    assert "flask_conversations_cache_breaker_opened_total 0.0" in said


def test_opentelemetry_gets_the_numbers(cached):
    """The same, observed when the exporter asks."""
    found = exported(cached)
    stats = cached.conversations.get_stats(app=cached)
    (hits,) = found["flask_conversations.cache.hits"].data.data_points
    assert hits.value == stats["cache"]["hits"] > 0
    assert found["flask_conversations.cache.hits"].data.is_monotonic
    states = found["flask_conversations.cache.breaker.state"].data.data_points
    assert {(point.attributes["of"], point.value) for point in states} == {("reads", 0), ("writes", 0)}


def test_what_was_counted_later_is_in_the_next_answer(cached):
    """They are read when a scrape asks for them, not when they are set up."""
    registry = prometheus_client.CollectorRegistry()
    metrics.prometheus(cached.conversations, app=cached, registry=registry)
    before = registry.get_sample_value("flask_conversations_calls_reads_total")
    cached.conversations.as_user("ada", app=cached).list_conversations()
    assert registry.get_sample_value("flask_conversations_calls_reads_total") == before + 1


def test_an_open_breaker_is_seen(make_app):
    """With Redis gone the gauge says so, for an alert."""
    app = make_app(CONVERSATIONS_CACHE=None, CONVERSATIONS_REDIS_URL="redis://127.0.0.1:1/0")
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()["id"]
    for _ in range(5):
        ada.get_conversation_history(chat)
    assert 'flask_conversations_cache_breaker_state{of="reads"} 2.0' in scraped(app)


def test_without_a_cache_there_are_no_numbers_of_one(make_app):
    """An app without a cache has no hits, not zero hits."""
    app = make_app(CONVERSATIONS_CACHE=False)
    assert "flask_conversations_cache" not in scraped(app)
    assert "flask_conversations.calls.reads" in exported(app)


def test_every_number_is_explained(cached):
    """Whatever is counted has a sentence, and what has one is counted."""
    counted = {number.name for number in metrics.numbers(cached.conversations.get_stats(app=cached))}
    assert counted == set(metrics.HELP)


def test_no_metric_has_content(cached):
    """Numbers only: no ids, no names, no contents."""
    assert SECRET not in scraped(cached)
    assert SECRET not in repr(exported(cached))
