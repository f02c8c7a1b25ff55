"""From a pydantic model to a structural OpenAPI v3 schema, the only form that CustomResourceDefinitions accept.

Structural means: everything inline, one type per value, no ``anyOf``. An optional field is simply not required; a free
JSON value keeps unknown fields; rules over several fields become ``x-kubernetes-validations``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from keep_operator.resources.rules import ChangeRule, Rule, Ruled

# Above this an integer does not fit int32; `kubectl explain` and generated clients show the format.
_INT32_MAX = 2**31 - 1
# Read from top to bottom by people: what it is first, details of lists and maps after.
_FIRST = ("description", "type", "format", "default", "enum")
# What JSON Schema has and a structural schema does not.
_DROPPED = frozenset({"title", "$defs", "propertyNames", "additionalProperties"})


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model, self-contained; equal models give equal schemas."""
    schema = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_Structural)
    return _inline_object(schema, schema.get("$defs", {}))


def validations(rules: Iterable[Rule | ChangeRule]) -> list[dict[str, str]]:
    """The rules as entries of ``x-kubernetes-validations``."""
    return [_validation(rule) for rule in rules]


def root_validations(rules: Iterable[Rule | ChangeRule]) -> list[dict[str, str]]:
    """The rules at an object's root as entries of ``x-kubernetes-validations``; a `Rule` becomes two.

    The server holds them against every write, of status and finalizers too: an object that is older than a rule could
    neither be reported on nor go away. So each binds new objects and changes; what was broken before, the operator tells.
    """
    return [
        entry
        for rule in rules
        for entry in validations((rule,) if isinstance(rule, ChangeRule) else _for_new_and_for_changes(rule))
    ]


def _for_new_and_for_changes(rule: Rule) -> Iterator[Rule]:
    before = re.sub(r"\bself\b", "oldSelf", rule.cel)
    yield replace(rule, cel=f"has(self.status) || ({rule.cel})")  # the server drops a status that a create brings along
    yield replace(rule, cel=f"!({before}) || ({rule.cel})")


def _validation(rule: Rule | ChangeRule) -> dict[str, str]:
    entry = {"rule": rule.cel, "message": rule.message}
    if rule.field:
        entry["fieldPath"] = f".{rule.field}"
    if rule.reason != "FieldValueInvalid":
        entry["reason"] = rule.reason
    return entry


class _Structural(GenerateJsonSchema):
    """Differs from JSON Schema where Kubernetes wants another form for the same meaning."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Optional fields are left out, not null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Only scalars have a default in the CRD: a default list or object would be owned by whoever creates first."""
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        return {**inner, "default": default} if isinstance(default, str | bool | int) else inner

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """A single value is an enum of one: ``const`` is not allowed."""
        expected = list(schema["expected"])
        return {"type": "boolean" if isinstance(expected[0], bool) else "string", "enum": expected}

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """Integers say how wide they are."""
        return {**super().int_schema(schema), "format": "int32" if schema.get("le", 2**63) <= _INT32_MAX else "int64"}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Adds the rules that the model declares."""
        json_schema = super().model_schema(schema)
        cls = schema["cls"]
        if issubclass(cls, Ruled):
            own: list[Rule | ChangeRule] = [*(rule for rule in cls.rules if not rule.on), *cls.change_rules]
            if own:
                json_schema["x-kubernetes-validations"] = validations(own)
            for rule in cls.rules:
                if rule.on:
                    json_schema["properties"][rule.on].setdefault("x-kubernetes-validations", []).extend(
                        validations([rule])
                    )
        return json_schema


def _inline(node: object, definitions: Mapping[str, Any]) -> object:
    match node:
        case {"$ref": str(ref), **beside}:
            return _inline({**definitions[ref.rpartition("/")[2]], **beside}, definitions)
        case {}:
            return _inline_object(node, definitions)
        case list():
            return [_inline(entry, definitions) for entry in node]
        case _:
            return node


def _inline_object(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if not node:
        # A free JSON value, null included.
        return {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: _inline(field, definitions) for name, field in value.items()}
        elif key == "items":
            result[key] = _without_defaults(_inline(value, definitions))
        elif key == "additionalProperties" and value is not False:
            result[key] = _inline(value, definitions)
        elif key not in _DROPPED:
            result[key] = value
    return {key: result[key] for key in (*_FIRST, *result) if key in result}


def _without_defaults(node: object) -> object:
    """The entries of a list have none: who compares lists as a whole, as Argo CD does, would never find Git's and ours equal."""
    match node:
        case dict():
            return {
                key: {name: _without_defaults(field) for name, field in value.items()}
                if key == "properties"
                else _without_defaults(value)
                for key, value in node.items()
                if key != "default"
            }
        case list():
            return [_without_defaults(entry) for entry in node]
        case _:
            return node
