"""Schemas of the custom resources in the manifests, as far as they are used; anything else is refused."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_SECONDS: Final[Schema] = {"type": "integer", "minimum": 0}
_REPLICAS: Final[Schema] = {"type": "integer", "minimum": 1}
_DURATION: Final[Schema] = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"}
_LABELS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}


def _object(properties: dict[str, Schema], *optional: str) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _resource(api_version: str, kind: str, spec: Schema) -> Schema:
    metadata = _object({"name": _TEXT, "namespace": _TEXT, "labels": _LABELS}, "namespace", "labels")
    return _object(
        {"apiVersion": {"const": api_version}, "kind": {"const": kind}, "metadata": metadata, "spec": spec}
    )


_ENDPOINT: Final = _object(
    {
        "port": _TEXT,
        "path": {"type": "string", "pattern": "^/"},
        "interval": _DURATION,
        "scrapeTimeout": _DURATION,
    }
)
_SELECTOR: Final = _object({"matchLabels": _LABELS})
_SCALING: Final = _object(
    {
        "stabilizationWindowSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
        "selectPolicy": {"enum": ["Max", "Min", "Disabled"]},
        "policies": {
            "type": "array",
            "minItems": 1,
            "items": _object(
                {
                    "type": {"enum": ["Pods", "Percent"]},
                    "value": _REPLICAS,
                    "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
                }
            ),
        },
    }
)
_PROMETHEUS_TRIGGER: Final = _object(
    {
        "type": {"const": "prometheus"},
        "metricType": {"enum": ["AverageValue", "Value"]},
        # KEDA takes texts alone here.
        "metadata": _object({"serverAddress": _TEXT, "query": _TEXT, "threshold": _TEXT}),
    }
)

SCHEMAS: Final[dict[str, Schema]] = {
    "PodMonitor": _resource(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        _object(
            {
                "jobLabel": _TEXT,
                "selector": _SELECTOR,
                "podMetricsEndpoints": {"type": "array", "items": _ENDPOINT},
            }
        ),
    ),
    "ServiceMonitor": _resource(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        _object(
            {"jobLabel": _TEXT, "selector": _SELECTOR, "endpoints": {"type": "array", "items": _ENDPOINT}}
        ),
    ),
    "ScaledObject": _resource(
        "keda.sh/v1alpha1",
        "ScaledObject",
        _object(
            {
                "scaleTargetRef": _object({"apiVersion": _TEXT, "kind": _TEXT, "name": _TEXT}),
                "pollingInterval": _SECONDS,
                "cooldownPeriod": _SECONDS,
                "minReplicaCount": _REPLICAS,
                "maxReplicaCount": _REPLICAS,
                "advanced": _object(
                    {
                        "horizontalPodAutoscalerConfig": _object(
                            {"behavior": _object({"scaleUp": _SCALING, "scaleDown": _SCALING})}
                        )
                    }
                ),
                "triggers": {"type": "array", "minItems": 1, "items": _PROMETHEUS_TRIGGER},
            }
        ),
    ),
}
