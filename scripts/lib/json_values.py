"""Prints every value that stands under a key in the JSON on standard input, wherever: json_values.py KEY."""

import json
import sys


def values(node, key):
    if isinstance(node, list):
        for item in node:
            yield from values(item, key)
    elif isinstance(node, dict):
        if key in node:
            yield node[key]
        for name, item in node.items():
            if name != key:
                yield from values(item, key)


def documents(text):
    """One document, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


for document in documents(sys.stdin.read()):
    for value in values(document, sys.argv[1]):
        print(value)
