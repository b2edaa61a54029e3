# Writes a table of what `triage` said of each issue. Standard input: a list of its outputs, in the
# order of the issues.
import json
import re
import sys

ORDER = ["urgent", "high", "normal", "low"]


def cell(text):
    text = re.sub(r"\s+", " ", str(text))[:160]
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text).replace("@", "@\u200b")


def main():
    triaged = [issue for issue in json.load(sys.stdin) if isinstance(issue, dict)]
    if not triaged:
        print("There are no issues.")
        return
    triaged.sort(key=lambda issue: ORDER.index(issue["priority"]))
    urgent = sum(issue["priority"] in ORDER[:2] for issue in triaged)
    print("%d issues, %d of them urgent or high.\n" % (len(triaged), urgent))
    print("| Priority | Kind | Issue | Labels |\n| --- | --- | --- | --- |")
    for issue in triaged:
        labels = ", ".join("`%s`" % label for label in issue["labels"])
        print("| %s | %s | %s | %s |" % (issue["priority"], issue["kind"], cell(issue["summary"]), labels))


main()
