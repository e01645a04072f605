"""`docs/openapi.json`: the HTTP edge as OpenAPI 3.1, from the contract and its comments.

    python scripts/render_openapi.py [--check]

What the annotations of the contract (google.api.http) and the JSON mapping of protobuf say, as Envoy does it
with the settings of `deploy/envoy/envoy.yaml`: names as in the contract, 64-bit integers and bytes as
strings, streams as one JSON object a line. The examples come from `docs/openapi-examples.json`; tests send
them.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generate_stubs import write_descriptors
from google.api import annotations_pb2, field_behavior_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

REPO = Path(__file__).resolve().parents[1]
TARGET = REPO / "docs" / "openapi.json"
EXAMPLES = REPO / "docs" / "openapi-examples.json"

_PACKAGE = ".upscaled.v1."
_HTTP_BODY = ".google.api.HttpBody"
_INT64 = {"type": ["string", "integer"], "format": "int64"}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptorProto.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptorProto.TYPE_INT64: _INT64,
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    ".google.protobuf.FieldMask": {"type": "string"},
    ".google.protobuf.Empty": {"type": "object"},
    ".google.rpc.Status": {"$ref": "#/components/schemas/Status"},
}
_STATUS = {
    "type": "object",
    "description": "An error. `code` is a google.rpc.Code; `details` hold google.rpc.ErrorInfo with a reason "
    "and the numbers, and BadRequest, QuotaFailure or RetryInfo where they apply.",
    "properties": {
        "code": {"type": "integer"},
        "message": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
    },
}
_INTRODUCTION = """\
The HTTP edge of upscaled, the upscaling daemon: the calls of the gRPC contract that make sense over HTTP, as
JSON; where an answer is a stream, as one JSON object a line. A stream that an error ends looks like a clean
end over HTTP: who reads one must wait for its last message (`done`, or a job in its final state), and who
downloads a file must compare its length and SHA-256 with the headers that came first."""


class Description:
    """The OpenAPI document of a descriptor set."""

    def __init__(self, files: FileDescriptorSet, examples: dict[str, Any]) -> None:
        self._files = [file for file in files.file if file.package == "upscaled.v1"]
        self._examples = examples
        self._comments = {file.name: _comments(file) for file in self._files}
        self._messages: dict[str, tuple[DescriptorProto, str, tuple[int, ...]]] = {}
        for file in self._files:
            for index, message in enumerate(file.message_type):
                self._messages[f"{_PACKAGE}{message.name}"] = (message, file.name, (4, index))
        self._schemas: dict[str, Any] = {"Status": _STATUS}

    def render(self) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        tags = []
        for file in self._files:
            for number, service in enumerate(file.service):
                comments = self._comments[file.name]
                tags.append({"name": service.name, "description": comments.get((6, number), "")})
                for index, method in enumerate(service.method):
                    for nth, rule in enumerate(_rules(method)):
                        said = comments.get((6, number, 2, index), "")
                        name = f"{service.name}_{method.name}" + (f"_{nth + 1}" if nth else "")
                        path, verb, operation = self._operation(service.name, name, method, rule, said)
                        paths.setdefault(path, {})[verb] = operation
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "upscaled",
                "version": _version(),
                "description": _INTRODUCTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "http://127.0.0.1:8080", "description": "`make edge`"}],
            "security": [{"key": []}],
            "tags": tags,
            "paths": dict(sorted(paths.items())),
            "components": {
                "securitySchemes": {
                    "key": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "An API key, where keys are used.",
                    }
                },
                "schemas": dict(sorted(self._schemas.items())),
            },
        }

    def _operation(
        self, service: str, name: str, method: MethodDescriptorProto, rule: http_pb2.HttpRule, said: str
    ) -> tuple[str, str, dict[str, Any]]:
        verb = str(rule.WhichOneof("pattern"))
        path = getattr(rule, verb)
        in_path = re.findall(r"\{([a-z_.]+)\}", path)
        message = self._messages[method.input_type][0]
        operation: dict[str, Any] = {
            "operationId": name,
            "tags": [service],
            "summary": said.split(". ")[0].split("\n")[0].rstrip("."),
            "description": said,
            "parameters": [*self._parameters(method.input_type, in_path, rule.body)],
            "responses": {
                "200": self._answer(method),
                "default": {
                    "description": "An error: 400, 401, 403, 404, 409, 429, 500, 501, 503 or 504.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
                },
            },
        }
        if rule.body:
            operation["requestBody"] = self._body(method.input_type, message, rule.body, name)
        # Two paths may not differ in nothing but the name of what they hold: `caller.name` is `caller` here.
        return re.sub(r"\{(\w+)\.\w+\}", r"{\1}", path), verb, operation

    def _parameters(self, type_name: str, in_path: list[str], body: str) -> Iterator[dict[str, Any]]:
        for dotted, field, said in self._leaves(type_name, ""):
            placed = dotted in in_path
            if not placed and (body == "*" or dotted.split(".")[0] == body):
                continue
            schema = self._field(field)
            yield {
                "name": dotted.split(".")[0] if placed else dotted,
                "in": "path" if placed else "query",
                "required": placed,
                "description": said,
                "schema": schema,
            }

    def _leaves(self, type_name: str, prefix: str) -> Iterator[tuple[str, FieldDescriptorProto, str]]:
        """Fields that can stand in a path or query, those of messages with their dotted names."""
        message, file, place = self._messages[type_name]
        for index, field in enumerate(message.field):
            dotted = f"{prefix}{field.name}"
            if field.type == field.TYPE_MESSAGE and field.type_name in self._messages:
                if field.label != field.LABEL_REPEATED:
                    yield from self._leaves(field.type_name, f"{dotted}.")
            elif field.type != field.TYPE_MESSAGE or field.type_name in _WELL_KNOWN:
                yield dotted, field, self._comments[file].get((*place, 2, index), "")

    def _body(self, type_name: str, message: DescriptorProto, body: str, name: str) -> dict[str, Any]:
        if body == "*":
            schema = self._reference(type_name)
        else:
            field = next(each for each in message.field if each.name == body)
            if field.type_name == _HTTP_BODY:
                binary = {"schema": {"type": "string", "format": "binary"}}
                return {"required": True, "content": {"application/octet-stream": binary}}
            schema = self._reference(field.type_name)
        content: dict[str, Any] = {"schema": schema}
        if found := self._examples.get(name):
            content["examples"] = {
                key: {"summary": each["summary"], "value": each["body"]} for key, each in found.items()
            }
        return {"required": True, "content": {"application/json": content}}

    def _answer(self, method: MethodDescriptorProto) -> dict[str, Any]:
        if method.output_type == _HTTP_BODY:
            binary = {"schema": {"type": "string", "format": "binary"}}
            headers = {
                "x-upscaled-size-bytes": {
                    "schema": {"type": "integer"},
                    "description": "Length of the whole file.",
                },
                "x-upscaled-sha256": {
                    "schema": {"type": "string"},
                    "description": "Of the whole file, hexadecimal.",
                },
            }
            return {"description": "The file.", "headers": headers, "content": {"*/*": binary}}
        schema = self._reference(method.output_type)
        description = "One JSON object a line." if method.server_streaming else "The answer."
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    def _reference(self, type_name: str) -> dict[str, Any]:
        if type_name in _WELL_KNOWN:
            return _WELL_KNOWN[type_name]
        name = type_name.removeprefix(_PACKAGE)
        if name not in self._schemas:
            self._schemas[name] = {}
            self._schemas[name] = self._enum(type_name) or self._object(type_name)
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, type_name: str) -> dict[str, Any]:
        message, file, place = self._messages[type_name]
        comments = self._comments[file]
        schema: dict[str, Any] = {"type": "object", "description": comments.get(place, ""), "properties": {}}
        for index, field in enumerate(message.field):
            value = dict(self._field(field, message))
            if said := comments.get((*place, 2, index)):
                value["description"] = said
            behaviour = field.options.Extensions[field_behavior_pb2.field_behavior]
            if field_behavior_pb2.OUTPUT_ONLY in behaviour:
                value["readOnly"] = True
            if field_behavior_pb2.REQUIRED in behaviour:
                schema.setdefault("required", []).append(field.name)
            schema["properties"][field.name] = value
        return schema

    def _enum(self, type_name: str) -> dict[str, Any] | None:
        for file in self._files:
            for number, enum in enumerate(file.enum_type):
                if f"{_PACKAGE}{enum.name}" != type_name:
                    continue
                comments = self._comments[file.name]
                meanings = [
                    f"`{value.name}`: {said}"
                    for index, value in enumerate(enum.value)
                    if (said := comments.get((5, number, 2, index)))
                ]
                return {
                    "type": "string",
                    "enum": [value.name for value in enum.value],
                    "description": "\n\n".join([comments.get((5, number), ""), *meanings]),
                }
        return None

    def _field(self, field: FieldDescriptorProto, message: DescriptorProto | None = None) -> dict[str, Any]:
        if field.type in (field.TYPE_MESSAGE, field.TYPE_ENUM):
            for nested in message.nested_type if message is not None else ():
                if nested.options.map_entry and field.type_name.endswith(f".{nested.name}"):
                    return {"type": "object", "additionalProperties": self._field(nested.field[1])}
            value = self._reference(field.type_name)
        else:
            value = _SCALARS[field.type]
        if field.label == field.LABEL_REPEATED:
            return {"type": "array", "items": value}
        return value


def _rules(method: MethodDescriptorProto) -> list[http_pb2.HttpRule]:
    rule = method.options.Extensions[annotations_pb2.http]
    return [each for each in (rule, *rule.additional_bindings) if each.WhichOneof("pattern")]


def _comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """What stands above each thing, by its path in the descriptor, paragraphs joined to one line each."""
    found = {}
    for location in file.source_code_info.location:
        paragraphs = location.leading_comments.strip().split("\n\n")
        text = "\n\n".join(" ".join(line.strip() for line in each.splitlines()) for each in paragraphs)
        if text:
            found[tuple(location.path)] = text
    return found


def _version() -> str:
    found = runpy.run_path(str(REPO / "client" / "upscaled" / "_version.py"))
    return str(found["__version__"])


def rendered() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upscaled.pb"
        write_descriptors(path, comments=True)
        files = FileDescriptorSet.FromString(path.read_bytes())
    examples = json.loads(EXAMPLES.read_text())
    return json.dumps(Description(files, examples).render(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    options = parser.parse_args()
    text = rendered()
    if TARGET.is_file() and TARGET.read_text() == text:
        return 0
    if not options.check:
        TARGET.write_text(text)
    print(f"{TARGET.relative_to(REPO)} {'is not what the contract gives' if options.check else 'written'}")
    return 1 if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
