#!/usr/bin/env python3
"""What of Forgejo's API description the tests of forge-forgejo hold requests against.

    cargo add forgejo-api@0.12.0 && cargo fetch      # in a crate that is thrown away
    tools/forgejo-openapi.py ~/.cargo/registry/src/*/forgejo-api-0.12.0/swagger.v1.json \
        > server/forge-forgejo/tests/it/openapi.json

The description is Forgejo's (MIT, for the purpose of interoperability); the crate carries it, and nothing else of the
crate is used. Of the operations that forge-forgejo uses this keeps the parameters and the body of the request, with
references resolved and in JSON Schema's own words. A field that Forgejo does not know is an error here, though
Forgejo would overlook it.
"""

import json
import sys

OPERATIONS = """
get /user
get /repos/{owner}/{repo}
get /repositories/{id}
get /orgs/{org}/labels
get /repos/{owner}/{repo}/branches/{branch}
get /repos/{owner}/{repo}/collaborators/{collaborator}/permission
get /repos/{owner}/{repo}/commits/{ref}/statuses
get /repos/{owner}/{repo}/git/commits/{sha}
get /repos/{owner}/{repo}/issues
post /repos/{owner}/{repo}/issues
get /repos/{owner}/{repo}/issues/comments
get /repos/{owner}/{repo}/issues/comments/{id}
patch /repos/{owner}/{repo}/issues/comments/{id}
delete /repos/{owner}/{repo}/issues/comments/{id}
post /repos/{owner}/{repo}/issues/comments/{id}/reactions
get /repos/{owner}/{repo}/issues/{index}
patch /repos/{owner}/{repo}/issues/{index}
get /repos/{owner}/{repo}/issues/{index}/comments
post /repos/{owner}/{repo}/issues/{index}/comments
get /repos/{owner}/{repo}/issues/{index}/labels
post /repos/{owner}/{repo}/issues/{index}/labels
delete /repos/{owner}/{repo}/issues/{index}/labels/{identifier}
get /repos/{owner}/{repo}/issues/{index}/timeline
get /repos/{owner}/{repo}/labels
post /repos/{owner}/{repo}/labels
get /repos/{owner}/{repo}/pulls
post /repos/{owner}/{repo}/pulls
get /repos/{owner}/{repo}/pulls/{index}
patch /repos/{owner}/{repo}/pulls/{index}
post /repos/{owner}/{repo}/pulls/{index}/requested_reviewers
get /repos/{owner}/{repo}/pulls/{index}/reviews
get /repos/{owner}/{repo}/releases
post /repos/{owner}/{repo}/releases
post /repos/{owner}/{repo}/statuses/{sha}
get /repos/{owner}/{repo}/tags/{tag}
""".split("\n")

# Names of parameters whose value may have several parts.
LONG = {"branch", "tag"}
KEPT = {"type", "enum", "items", "required", "properties"}


def schema(document, node):
    """The node in JSON Schema's words, without what is said to people."""
    if "$ref" in node:
        return schema(document, document["definitions"][node["$ref"].rsplit("/", 1)[1]])
    made = {key: value for key, value in node.items() if key in KEPT}
    if "items" in made:
        made["items"] = schema(document, made["items"])
    if "properties" in made:
        made["properties"] = {name: schema(document, item) for name, item in made["properties"].items()}
        made["additionalProperties"] = False
    return made


def operation(document, line):
    method, path = line.split()
    found = document["paths"][path][method]
    parameters = found.get("parameters", [])
    made = {
        "method": method.upper(),
        "path": path,
        "long": sorted(LONG & {p["name"] for p in parameters}),
        "parameters": {
            place: {p["name"]: schema(document, p) for p in parameters if p["in"] == place}
            for place in ("path", "query")
        },
    }
    for schemas in made["parameters"].values():
        for item in schemas.values():
            item.pop("required", None)
    # The one body of a removal is for administrators who set its time.
    for parameter in parameters:
        if parameter["in"] == "body" and method != "delete":
            made["body"] = schema(document, parameter["schema"])
    return made


def main():
    document = json.load(open(sys.argv[1], encoding="utf-8"))
    made = {
        "source": f"Forgejo {document['info']['version']}, swagger.v1.json of the crate forgejo-api 0.12.0",
        "licence": document["info"]["license"]["name"],
        "operations": [operation(document, line) for line in OPERATIONS if line],
    }
    # One operation a line, so that a new version is a readable change.
    lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in made.pop("operations"))
    head = json.dumps(made, indent=1)[:-2]
    print(f'{head},\n "operations": [\n{lines}\n]}}')


main()
