# Keeps of what was found what can be true, gravest first, and makes the scanner's answer short.
#
# Standard input: {"files", "issues", "manifest", "scan": {status, output, error}}.
# Standard output: {"issues", "packages", "scan": one sentence, "dropped": how many pointed to nothing}.
import json
import re
import sys

GRAVEST = ["critical", "high", "medium", "low"]
MOST = 15


def rank(one):
    severity = str(one.get("severity", "low"))
    return GRAVEST.index(severity) if severity in GRAVEST else len(GRAVEST)


def line(text, longest=300):
    return re.sub(r"\s+", " ", str(text)).strip()[:longest]


def package(one, manifest):
    fixes = one.get("fixedIn") or []
    return {
        "package": line(one.get("package") or one.get("packageName") or "?", 80),
        "version": line(one.get("version", ""), 40),
        "severity": line(one.get("severity", "low"), 10),
        "title": line(one.get("title", ""), 120),
        "id": line(one.get("id", ""), 60),
        "fixed_in": [line(fix, 40) for fix in fixes[:3]],
        "path": manifest,
    }


def main():
    given = json.load(sys.stdin)
    lengths = {file["path"]: file["lines"] for file in given["files"]}
    real, seen = [], set()
    for issue in sorted(given["issues"], key=rank):
        place = (issue["path"], issue["line"])
        if issue["path"] in lengths and 1 <= issue["line"] <= lengths[issue["path"]] and place not in seen:
            seen.add(place)
            real.append({**issue, "problem": line(issue["problem"])})
    scan = given["scan"] or {}
    answer = scan.get("output")
    known = ((answer.get("issues") or {}).get("vulnerabilities") or []) if isinstance(answer, dict) else []
    packages = {}
    for one in sorted(known, key=rank):
        short = package(one, given["manifest"])
        packages.setdefault((short["id"], short["package"]), short)
    said = {
        "succeeded": "Snyk knows of %d weakness%s in the packages of %s."
        % (len(packages), "" if len(packages) == 1 else "es", given["manifest"]),
        "failed": "Snyk could not be asked: %s." % line(scan.get("error", "")).rstrip("."),
    }.get(scan.get("status"), "There is no list of packages that Snyk reads.")
    json.dump(
        {
            "issues": real[:MOST],
            "packages": list(packages.values())[:MOST],
            "scan": said,
            "dropped": len(given["issues"]) - len(real),
        },
        sys.stdout,
    )


main()
