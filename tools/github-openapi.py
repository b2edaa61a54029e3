#!/usr/bin/env python3
"""What of GitHub's API description the tests of forge-github hold requests against.

    npm pack @octokit/openapi@23.0.2     # 29 MB; unpacked 400 MB, of which one file is read
    tools/github-openapi.py package/generated/api.github.com.json > server/forge-github/tests/it/openapi.json

The description is GitHub's (github/rest-api-description, MIT). Of the operations that forge-github uses this
keeps the parameters and the body of the request, with references resolved and in JSON Schema's own words. A
field that GitHub does not know is an error here, though GitHub would overlook it.
"""

import json
import sys

OPERATIONS = """
get /app
post /app-manifests/{code}/conversions
get /app/hook/deliveries
post /app/hook/deliveries/{delivery_id}/attempts
get /app/installations
post /app/installations/{installation_id}/access_tokens
get /installation/repositories
get /repos/{owner}/{repo}
post /repos/{owner}/{repo}/check-runs
get /repos/{owner}/{repo}/check-runs/{check_run_id}
patch /repos/{owner}/{repo}/check-runs/{check_run_id}
get /repos/{owner}/{repo}/collaborators/{username}/permission
get /repos/{owner}/{repo}/comments/{comment_id}
delete /repos/{owner}/{repo}/comments/{comment_id}
patch /repos/{owner}/{repo}/comments/{comment_id}
get /repos/{owner}/{repo}/commits/{commit_sha}/comments
post /repos/{owner}/{repo}/commits/{commit_sha}/comments
get /repos/{owner}/{repo}/commits/{ref}/check-runs
get /repos/{owner}/{repo}/commits/{ref}/statuses
get /repos/{owner}/{repo}/commits/{ref}
get /repos/{owner}/{repo}/git/ref/{ref}
get /repos/{owner}/{repo}/git/tags/{tag_sha}
get /repos/{owner}/{repo}/installation
get /repos/{owner}/{repo}/issues
post /repos/{owner}/{repo}/issues
get /repos/{owner}/{repo}/issues/comments
get /repos/{owner}/{repo}/issues/comments/{comment_id}
delete /repos/{owner}/{repo}/issues/comments/{comment_id}
patch /repos/{owner}/{repo}/issues/comments/{comment_id}
post /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions
get /repos/{owner}/{repo}/issues/events
get /repos/{owner}/{repo}/issues/{issue_number}
patch /repos/{owner}/{repo}/issues/{issue_number}
get /repos/{owner}/{repo}/issues/{issue_number}/comments
post /repos/{owner}/{repo}/issues/{issue_number}/comments
get /repos/{owner}/{repo}/issues/{issue_number}/labels
post /repos/{owner}/{repo}/issues/{issue_number}/labels
delete /repos/{owner}/{repo}/issues/{issue_number}/labels/{name}
get /repos/{owner}/{repo}/pulls
post /repos/{owner}/{repo}/pulls
get /repos/{owner}/{repo}/pulls/comments
get /repos/{owner}/{repo}/pulls/comments/{comment_id}
post /repos/{owner}/{repo}/pulls/comments/{comment_id}/reactions
get /repos/{owner}/{repo}/pulls/{pull_number}
patch /repos/{owner}/{repo}/pulls/{pull_number}
post /repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers
get /repos/{owner}/{repo}/pulls/{pull_number}/reviews
get /repos/{owner}/{repo}/releases
post /repos/{owner}/{repo}/releases
post /repos/{owner}/{repo}/statuses/{sha}
get /user
get /users/{username}
""".split("\n")

WORDS = {"description", "example", "examples", "title", "x-github", "x-multi-segment", "deprecated", "format"}


def schema(document, node):
    """The node in JSON Schema's words, without what is said to people."""
    if isinstance(node, list):
        return [schema(document, item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return schema(document, resolve(document, node["$ref"]))
    made = {}
    for key, value in node.items():
        if key == "properties":
            made[key] = {name: schema(document, item) for name, item in value.items()}
        elif key not in WORDS and key not in ("nullable", "readOnly"):
            made[key] = schema(document, value)
    if node.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    choices = {"oneOf", "anyOf", "allOf"} & node.keys()
    if "properties" in made and not choices:
        made.setdefault("additionalProperties", False)
    return made


def resolve(document, reference):
    node = document
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def operation(document, line):
    method, path = line.split()
    found = document["paths"][path][method]
    parameters = [resolve(document, p["$ref"]) if "$ref" in p else p for p in found.get("parameters", [])]
    made = {
        "method": method.upper(),
        "path": path,
        # A ref has several parts, as `heads/main` has, where nothing comes after it.
        "long": ["ref"] if path.endswith("/{ref}") else [],
        "parameters": {
            place: {p["name"]: schema(document, p["schema"]) for p in parameters if p["in"] == place}
            for place in ("path", "query")
        },
    }
    if "requestBody" in found:
        content = found["requestBody"]["content"]["application/json"]
        made["body"] = schema(document, content["schema"])
    return made


def main():
    document = json.load(open(sys.argv[1], encoding="utf-8"))
    made = {
        "source": f"@octokit/openapi {document['info']['version']}, api.github.com.json; from github/rest-api-description",
        "licence": "MIT, Copyright (c) GitHub 2020",
        "operations": [operation(document, line) for line in OPERATIONS if line],
    }
    # One operation a line, so that a new version is a readable change.
    lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in made.pop("operations"))
    head = json.dumps(made, indent=1)[:-2]
    print(f'{head},\n "operations": [\n{lines}\n]}}')


main()
