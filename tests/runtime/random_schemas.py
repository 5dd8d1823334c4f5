"""JSON schemas drawn at random, as callers write them: nested, with bounds, alternatives and references."""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
_KEYS = ("colour", "count", "is_open", "box", "Größe", "a", "objects", "text", "x-1", 'quoted "name"', "what?", "")
_WORDS = ("red", "blue", "a square", "naïve", "日本", "yes", "no", "line\nbreak", 'say "hi"', "", "\\", "</s>", "###")
_PATTERNS = (
    "^[A-Z]{2}-[0-9]{3}$",
    "^(red|green|blue)( (red|green|blue)){0,3}$",
    "^[a-z]+@[a-z]+\\.(com|org)$",
    "^(ab)*c$",
    "^\\d{1,3}(,\\d{3})*$",
    "[0-9]",
    "^[^x]{3,}$",
)
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email", "hostname")


class SchemaGenerator:
    """Draws schemas, one after the other; the same for the same seed."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def schema(self) -> Schema:
        """A schema, most often of an object, some with definitions that refer to themselves."""
        kind = self._random.random()
        if kind < 0.15:
            return self._any(3)
        if kind < 0.3:
            return self._with_definitions()
        return self._object(3)

    def _any(self, depth: int) -> Schema:
        leaves = [self._string, self._number, self._integer, self._enum, self._const, self._simple]
        if depth == 0 or self._random.random() < 0.55:
            return self._random.choice(leaves)()
        return self._random.choice([self._object, self._array, self._object, self._array, self._any_of])(depth - 1)

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _object(self, depth: int) -> Schema:
        keys = self._random.sample(_KEYS, self._random.randint(0, 4))
        schema: Schema = {"type": "object", "properties": {key: self._any(depth) for key in keys}}
        if self._chance(0.8):
            schema["required"] = [key for key in keys if self._chance(0.7)]
        if self._chance(0.6):
            schema["additionalProperties"] = False
        elif self._chance(0.3):
            schema["additionalProperties"] = self._any(0)
        if self._chance(0.1):
            return {
                "type": "object",
                "additionalProperties": self._any(0),
                "minProperties": self._random.randint(0, 3),
                "maxProperties": self._random.randint(3, 5),
            }
        if self._chance(0.3):
            schema["description"] = "what is seen"
        return schema

    def _array(self, depth: int) -> Schema:
        schema: Schema = {"type": "array"}
        if self._chance(0.15):
            schema["prefixItems"] = [self._any(0) for _ in range(self._random.randint(1, 3))]
            schema["items"] = self._chance(0.5) and self._any(0)
            schema["minItems"] = self._random.randint(0, len(schema["prefixItems"]))
            return schema
        if self._chance(0.9):
            schema["items"] = self._any(depth)
        least = self._random.randint(0, 3)
        if self._chance(0.5):
            schema["minItems"] = least
        if self._chance(0.5):
            schema["maxItems"] = least + self._random.randint(0, 3)
        return schema

    def _any_of(self, depth: int) -> Schema:
        return {"anyOf": [self._any(depth) for _ in range(self._random.randint(1, 3))]}

    def _string(self) -> Schema:
        kind = self._random.random()
        if kind < 0.2:
            return {"type": "string", "pattern": self._random.choice(_PATTERNS)}
        if kind < 0.4:
            return {"type": "string", "format": self._random.choice(_FORMATS)}
        schema: Schema = {"type": "string"}
        least = self._random.randint(0, 6)
        if self._chance(0.4):
            schema["minLength"] = least
        if self._chance(0.4):
            schema["maxLength"] = least + self._random.randint(0, 12)
        return schema

    def _bounds(self, schema: Schema, least: float, width: float) -> Schema:
        if self._chance(0.5):
            schema[self._random.choice(("minimum", "exclusiveMinimum"))] = least
        if self._chance(0.5):
            schema[self._random.choice(("maximum", "exclusiveMaximum"))] = least + width
        return schema

    def _number(self) -> Schema:
        least, width = round(self._random.uniform(-50, 50), 2), self._random.choice((1, 2.5, 1e3))
        return self._bounds({"type": "number"}, least, width)

    def _integer(self) -> Schema:
        schema = self._bounds({"type": "integer"}, self._random.randint(-120, 120), self._random.choice((3, 40, 10**6)))
        if self._chance(0.15):
            schema["multipleOf"] = self._random.choice((2, 3))
        return schema

    def _enum(self) -> Schema:
        words: list[Any] = [*self._random.sample(_WORDS, self._random.randint(1, 5))]
        return {"enum": words + self._random.sample([None, True, 3, -1.5, {"a": 1}, []], self._random.randint(0, 2))}

    def _const(self) -> Schema:
        return {"const": self._random.choice([*_WORDS, 7, None, False, [1, "a"], {"k": {"l": []}}])}

    def _simple(self) -> Schema:
        return self._random.choice([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}])

    def _with_definitions(self) -> Schema:
        node = {
            "type": "object",
            "properties": {
                "value": self._any(1),
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": self._random.sample(["value", "next", "children"], self._random.randint(0, 3)),
            "additionalProperties": False,
        }
        inner = self._object(1)
        properties = {"tree": {"$ref": "#/$defs/node"}, "thing": {"$ref": "#/$defs/thing"}, "more": self._any(1)}
        return {
            "$defs": {"node": node, "thing": inner},
            "type": "object",
            "properties": properties,
            "required": self._random.sample([*properties], self._random.randint(1, 3)),
        }
