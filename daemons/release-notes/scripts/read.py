# Reads what stands under "Unreleased". Environment: version, date, changelog.
# Standard output: {"version", "date", "path", "section", "items", "told"}.
import datetime
import json
import os
import re
import sys

# SemVer 2.0.0, with a leading v that people write.
VERSION = re.compile(r"v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
TOLD_ITEMS = 4
TOLD_LETTERS = 300


def fail(message):
    sys.exit(message)


def day():
    text = os.environ.get("date", "").strip()
    if not text:
        return datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        fail("`%s` is not a day; write it as 2026-11-22" % text)


def second_level(lines):
    """(index, title) of the headings with two signs, outside of fenced code."""
    fence = None
    for index, line in enumerate(lines):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if fence:
            fence = None if mark and mark.group(1)[0] == fence else fence
        elif mark:
            fence = mark.group(1)[0]
        elif re.match(r"##\s+\S", line):
            yield index, line[2:].strip().rstrip("#").strip()


def unreleased(path, version):
    if os.path.islink(path) or os.path.isabs(path) or ".." in path.split("/") or not os.path.isfile(path):
        fail("there is no %s in the repository" % path)
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().split("\n")
    headings = list(second_level(lines))
    for _, title in headings:
        if re.match(r"\[?v?%s\]?(\s|$)" % re.escape(version), title):
            fail("%s has a section %s already" % (path, version))
    for place, (index, title) in enumerate(headings):
        if title.strip("[]").lower() == "unreleased":
            end = headings[place + 1][0] if place + 1 < len(headings) else len(lines)
            return lines[index + 1 : end]
    fail("%s has no section `## Unreleased`" % path)


def items_of(section):
    """(group, entry) of each entry of the lists, as one line without its mark and the id of its commit."""
    group, items = "", []
    for line in section:
        heading, entry = re.match(r"###\s+(.*?)\s*#*$", line), re.match(r"[-*+]\s+(.*)", line)
        if heading:
            group = heading.group(1)
        elif entry:
            items.append([group, entry.group(1)])
        elif items and re.match(r"\s+\S", line):
            items[-1][1] += " " + line.strip()
    return [(group, re.sub(r"\s*\([0-9a-f]{7,40}\)\s*$", "", " ".join(item.split()))) for group, item in items]


def told(items):
    """What the model is told: the beginning of the first entries, without marks."""
    short = []
    for group, item in items[:TOLD_ITEMS]:
        item = re.sub(r"^\*\*[^*]+:\*\*\s*", "", item)
        item = re.sub(r"[*_`]", "", re.split(r"(?<=[.;:])\s", item)[0]).rstrip(".;:")
        # "A crash on start" below Fixed is good news.
        fixed = group.lower() == "fixed" and not item.lower().startswith("fix")
        short.append("Fix " + item[:1].lower() + item[1:] if fixed else item)
    text = "; ".join(short)
    return text if len(text) <= TOLD_LETTERS else text[:TOLD_LETTERS].rsplit(" ", 1)[0]


def main():
    version, path = os.environ.get("version", "").strip(), os.environ.get("changelog") or "CHANGELOG.md"
    if not VERSION.fullmatch(version):
        fail("`%s` is not a version; write it as 1.2.0" % version[:60])
    version = version.removeprefix("v")
    date, section = day(), unreleased(path, version)
    items = items_of(section)
    if not items:
        fail("nothing stands under `## Unreleased` in %s, so there is nothing to release" % path)
    text = "\n".join(section).strip("\n")
    json.dump(
        {"version": version, "date": date, "path": path, "section": text, "items": [item for _, item in items], "told": told(items)},
        sys.stdout,
    )


main()
