#!/usr/bin/env python3
"""Builds server/gateway/data/catalog.json from a models.dev-style file of models.

usage: tools/catalog.py MODELS.json DATE > server/gateway/data/catalog.json

MODELS.json has the shape of the models.dev API, with or without the hand-reviewed facts (`rig`)
that the crate `rig-core` adds in its `src/catalog/models.json`; DATE is the day it was read there
(its `src/catalog/generated_at`). Both are MIT: see server/gateway/data/NOTICE.

Kept is what the gateway can serve: text in, text or pictures out, over the dialects it speaks, not
deprecated. Prices stay decimal text, so that no float ever touches money.
"""

import json
import sys
from decimal import Decimal

# Our provider, the names it has in the source, and its dialect.
PROVIDERS = [
    ("anthropic", ["anthropic"], "anthropic-messages"),
    ("openai", ["openai"], "openai-chat"),
    ("google", ["gcp.gemini", "google"], "openai-chat"),
    ("mistral", ["mistral"], "openai-chat"),
    ("groq", ["groq"], "openai-chat"),
    ("deepseek", ["deepseek"], "openai-chat"),
    ("xai", ["xai"], "openai-chat"),
    ("openrouter", ["openrouter"], "openai-chat"),
]

# Models that are asked in another dialect than their provider's own: those whose names have this, or that
# make pictures.
OTHERWISE = {"openai": [("-pro", "openai-responses"), ("-codex", "openai-responses")]}
PICTURES = {"openai": "openai-images", "google": "gemini"}

# Served only by an API that the gateway does not speak (live audio, research jobs), or not a model that
# answers questions or makes pictures.
NOT_SERVED = {
    "openai": ["realtime", "embedding", "daybreak"],
    "google": ["embedding", "live", "deep-research", "computer-use", "lyria", "tts", "omni", "banana"],
    "mistral": ["embed", "voxtral"],
    "groq": ["whisper", "orpheus", "guard", "safeguard"],
    "xai": ["multi-agent", "imagine"],
    "openrouter": ["guard", "/auto", "embed"],
}

# Names that people write. A bare id of the catalogue needs no alias.
ALIASES = {
    "local": "local/smollm2",
    "gpt-4": "openai/gpt-4.1",
    "claude-opus": "anthropic/claude-opus-5-5",
    "claude-sonnet": "anthropic/claude-sonnet-5-5",
    "claude-haiku": "anthropic/claude-haiku-5-5",
    "gemini-pro": "google/gemini-pro-latest",
    "gemini-flash": "google/gemini-flash-latest",
    "mistral": "mistral/mistral-large-latest",
    "llama": "openrouter/meta-llama/llama-4-maverick",
    "deepseek": "deepseek/deepseek-v4-pro",
    "grok": "xai/grok-4.7",
}

LOCAL = {
    "provider": "local",
    "id": "smollm2",
    "dialect": "openai-chat",
    "prices": {"input": "0", "cache_read": "0", "cache_write": "0", "output": "0"},
    "capabilities": ["json"],
    "source": "runs on this machine",
}


def decimal(number):
    return format(Decimal(str(number)).normalize(), "f")


def rates(cost):
    return {kind: decimal(cost[kind]) for kind in ("input", "cache_read", "cache_write", "output") if kind in cost}


def prices(cost):
    """Rates in USD per million tokens; a tier's hold for a whole call that reads more than `over`."""
    if "input" not in cost or "output" not in cost:
        return None
    tiers = [
        {"over": tier["tier"]["size"], **rates(tier)}
        for tier in cost.get("tiers", [])
        if tier["tier"]["type"] == "context"
    ]
    return {**rates(cost), **({"tiers": sorted(tiers, key=lambda tier: tier["over"])} if tiers else {})}


def capabilities(model):
    reviewed = model.get("rig", {})
    return [
        name
        for name, has in [
            ("tools", model.get("tool_call")),
            ("json", model.get("structured_output")),
            ("vision", "image" in model["modalities"]["input"]),
            ("image_out", "image" in model["modalities"].get("output", [])),
            ("reasoning", model.get("reasoning")),
            # What the model does not take; sending it all the same is an error at the provider.
            ("no_temperature", not model.get("temperature") or "sampling" in reviewed),
            ("no_forced_tool", reviewed.get("rejects_forced_tool_choice")),
        ]
        if has
    ]


def is_served(provider, name, model):
    # Without a word about its output, a text model's is text.
    output = model.get("modalities", {}).get("output", ["text"])
    return (
        model.get("status") != "deprecated"
        and "text" in model.get("modalities", {}).get("input", [])
        and (
            output == ["text"]
            and model.get("limit", {}).get("context", 0) > 0
            or provider in PICTURES
            and "image" in output
            and model.get("cost")
        )
        and not any(part in name for part in NOT_SERVED.get(provider, []))
    )


def dialect_of(provider, own, name, model):
    if "image" in model["modalities"].get("output", []):
        return PICTURES[provider]
    return next((dialect for part, dialect in OTHERWISE.get(provider, []) if part in name), own)


def rows(source, date):
    """Every row has the day on which it changed; where nobody says so, the day on which it was read."""
    yield {**LOCAL, "date": date}
    for provider, names, own in PROVIDERS:
        found = next((source[name] for name in names if name in source), None)
        if found is None:
            sys.exit(f"catalog.py: the source has no provider {provider}")
        for name, model in sorted(found["models"].items()):
            if not is_served(provider, name, model):
                continue
            row = {"provider": provider, "id": name, "dialect": dialect_of(provider, own, name, model)}
            if model["limit"].get("context"):
                row["context"] = model["limit"]["context"]
            if model["limit"].get("output"):
                row["output"] = model["limit"]["output"]
            if cost := prices(model.get("cost") or {}):
                row["prices"] = cost
            row["capabilities"] = capabilities(model)
            row["source"] = "models.dev"
            row["date"] = model.get("last_updated") or date
            yield row


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: tools/catalog.py MODELS.json DATE > server/gateway/data/catalog.json")
    with open(sys.argv[1], encoding="utf-8") as file:
        models = list(rows(json.load(file), sys.argv[2]))
    known = {f"{model['provider']}/{model['id']}" for model in models}
    if missing := sorted(target for target in ALIASES.values() if target not in known):
        sys.exit(f"catalog.py: aliases without a model: {', '.join(missing)}")
    # One model a line, so that a new catalogue is a readable diff.
    print("{")
    print(f'"date": {json.dumps(sys.argv[2])},')
    print(f'"aliases": {json.dumps(ALIASES)},')
    print('"models": [')
    print(",\n".join(json.dumps(model, separators=(",", ":")) for model in models))
    print("]\n}")


if __name__ == "__main__":
    main()
