# Writes the pull request's text, the comment and the check.
#
# Standard input: {"findings", "plan", "left_out", "applied", "test": status, "verdict"}.
import json
import re
import sys

TESTED = {
    "succeeded": "The tests pass with these changes.",
    "failed": "**The tests do not pass with these changes**, so this is a draft.",
    "skipped": "Nothing was changed, so no tests were run.",
}


def inert(text, longest=400):
    """Text of others in a line of Markdown: no HTML, no tables, no links, nobody is called."""
    text = re.sub(r"\s+", " ", str(text)).strip()
    text = re.sub(r"([\\*\[\]<>|#!])", r"\\\1", text).replace("@", "@\u200b")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def code(text):
    return "`%s`" % inert(text, 120).replace("\\", "").replace("`", "'")


def found(findings):
    lines = []
    for issue in findings["issues"]:
        place = code("%s:%d" % (issue["path"], issue["line"]))
        lines.append("- **%s** %s, %s: %s" % (issue["severity"], issue["kind"], place, inert(issue["problem"])))
    for one in findings["packages"]:
        fix = ", fixed in %s" % ", ".join(map(code, one["fixed_in"])) if one["fixed_in"] else ", without a fix"
        name = code("%s %s" % (one["package"], one["version"]))
        lines.append("- **%s** package %s: %s (%s)%s" % (inert(one["severity"]), name, inert(one["title"]), inert(one["id"]), fix))
    return lines or ["Nothing was found."]


def annotations(findings):
    levels = {"critical": "failure", "high": "failure", "medium": "warning"}
    remarks = [(issue["path"], issue["line"], issue["severity"], issue["problem"]) for issue in findings["issues"]]
    remarks += [(one["path"], 1, one["severity"], "%s %s: %s" % (one["package"], one["version"], one["title"])) for one in findings["packages"]]
    return [
        {"path": path, "start_line": line, "end_line": line, "level": levels.get(severity, "notice"), "message": message[:500]}
        for path, line, severity, message in remarks
    ]


def main():
    given = json.load(sys.stdin)
    findings, plan, test = given["findings"], given["plan"], given["test"]
    changes = ["- %s: %s" % (code("%s:%d" % (one["path"], one["line"])), inert(one["what"])) for one in plan["changes"]]
    left = ["- %s" % inert(one) for one in plan["left"]]
    summary = [inert(plan["summary"], 600), ""]
    tested = [TESTED.get(test, TESTED["failed"])]
    if test == "failed" and given["verdict"]:
        tested += ["", "> " + inert(given["verdict"], 1200)]
    body = summary + ["### Changes", ""] + changes + ["", "### Tests", ""] + tested
    if given["applied"]:
        body += ["", "### In the agent's words", "", "> " + inert(given["applied"], 1500)]
    comment = ["### Code review", ""] + summary + found(findings) + ["", inert(findings["scan"])]
    if test != "skipped":
        comment += [""] + tested
    for head, part in (("### Left to people", left), ("### Not read", ["- %s" % code(path) for path in given["left_out"]])):
        if part:
            body += ["", head, ""] + part
            comment += ["", head, ""] + part
    grave = [one for one in findings["issues"] + findings["packages"] if one["severity"] in ("critical", "high")]
    count = len(plan["changes"])
    json.dump(
        {
            "title": "refactor: %s" % ("Mend %d finding%s" % (count, "" if count == 1 else "s")),
            "body": "\n".join(body),
            "comment": "\n".join(comment),
            "conclusion": "neutral" if grave else "success",
            "annotations": annotations(findings)[:50],
        },
        sys.stdout,
    )


main()
