# Adds an entry for each commit that matters to users under "Unreleased" of a changelog.
#
# Standard input: {"commits": [{"id", "message"}]}, oldest first. Environment: changelog, the file.
# Standard output: {"title", "body", "added", "known", "left_out"}.
#
# Lines are only ever inserted; what a person wrote stays as it is, to the byte.
import json
import os
import re
import sys

# Keep a Changelog 1.1.0, with Breaking on top and Documentation at the end.
GROUPS = ["Breaking", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Documentation"]

# The type of a Conventional Commit (1.0.0) and its group; None: users do not notice.
TYPES = {
    "feat": "Added", "feature": "Added", "add": "Added",
    "fix": "Fixed", "bugfix": "Fixed", "hotfix": "Fixed",
    "perf": "Changed", "refactor": None, "change": "Changed", "update": "Changed",
    "deprecate": "Deprecated", "remove": "Removed", "revert": "Removed",
    "security": "Security", "sec": "Security", "docs": "Documentation", "doc": "Documentation",
    "build": None, "chore": None, "ci": None, "style": None, "test": None, "tests": None,
    "wip": None, "release": None, "changelog": None, "release-notes": None,
}
HEADER = re.compile(
    r"(?P<type>[A-Za-z][\w./-]*(?:, ?[A-Za-z][\w./-]*)*)(?:\((?P<scope>[^()]*)\))?(?P<bang>!)?:\s+(?P<text>\S.*)"
)
BREAKING = re.compile(r"^BREAKING[ -]CHANGE:\s*(.+)", re.MULTILINE)
NOISE = re.compile(r"(merge (branch|pull request|remote|tag|commit)\b|(fixup|squash|amend)! )", re.IGNORECASE)
MOST_COMMITS = 500
LONGEST_ENTRY = 200


def plain(text):
    """One line of Markdown that can neither open HTML nor hide anything."""
    text = "".join(" " if ord(c) < 32 or ord(c) == 127 or 0x200B <= ord(c) <= 0x202E else c for c in text)
    text = " ".join(text.split()).rstrip(".")
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an open code span would swallow what follows
        parts = ["'".join(parts)]
    text = "`".join(p if i % 2 else p.replace("<", "&lt;") for i, p in enumerate(parts))
    return text if len(text) <= LONGEST_ENTRY else text[: LONGEST_ENTRY - 1].rstrip() + "…"


def upper_first(text):
    return text[:1].upper() + text[1:]


def classify(message):
    """The group and the text of a commit; None when users do not notice it."""
    subject = message.strip().split("\n", 1)[0].strip()
    if not subject or NOISE.match(subject) or "[skip changelog]" in message:
        return None
    reverted = re.fullmatch(r'Revert "(.+)"', subject)
    if reverted:
        inner = classify(reverted.group(1))
        return inner and ("Removed", "Take back: " + inner[1])
    header = HEADER.fullmatch(subject)
    if not header:
        return "Changed", plain(upper_first(subject))
    kind, scope, text = header["type"].lower(), header["scope"], header["text"]
    # `domain, ports: Name the nouns` is a component and not a type.
    group = TYPES.get(kind, "Changed")
    if kind not in TYPES:
        scope = header["type"]
    note = BREAKING.search(message)
    text = upper_first(text)
    if note or header["bang"]:
        group = "Breaking"
        text = text + ": " + note.group(1) if note else text
    if group is None:
        return None
    text = plain(text)
    return group, "**%s:** %s" % (plain(scope), text) if scope and scope.strip() else text


def cancel_reverts(commits):
    """A commit and its revert in the same push come to nothing."""
    kept = []
    for commit in commits:
        subject = commit["message"].strip().split("\n", 1)[0]
        undone = [k for k in kept if subject == 'Revert "%s"' % k["message"].strip().split("\n", 1)[0]]
        if undone:
            kept.remove(undone[-1])
        else:
            kept.append(commit)
    return kept


class Changelog:
    """The lines of a changelog, with their ends."""

    def __init__(self, text):
        self.end = "\r\n" if "\r\n" in text else "\n"
        self.lines = text.splitlines(keepends=True)
        if self.lines and not self.lines[-1].endswith(("\n", "\r")):
            self.lines[-1] += self.end

    def headings(self):
        """(index, level, title) of each heading outside of fenced code."""
        fence, found = None, []
        for index, line in enumerate(self.lines):
            mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
            if fence:
                if mark and mark.group(1)[0] == fence[0] and len(mark.group(1)) >= len(fence):
                    fence = None
            elif mark:
                fence = mark.group(1)
            else:
                heading = re.match(r"(#{1,6})\s+(.*?)\s*#*\s*$", line)
                if heading:
                    found.append((index, len(heading.group(1)), heading.group(2)))
        return found

    def section(self):
        """The lines of "Unreleased", as a range after its heading; it is made when it is not there."""
        headings = self.headings()
        for place, (index, level, title) in enumerate(headings):
            if level == 2 and title.strip("[]").lower() == "unreleased":
                ends = [i for i, l, _ in headings[place + 1 :] if l <= 2]
                return index + 1, ends[0] if ends else len(self.lines)
        versions = [i for i, level, _ in headings if level == 2]
        at = versions[0] if versions else len(self.lines)
        before = [""] if at and self.lines[at - 1].strip() else []
        after = [""] if at < len(self.lines) else []
        self.insert(at, before + ["## Unreleased"] + after)
        return self.section()

    def insert(self, at, lines):
        self.lines[at:at] = [line + self.end for line in lines]

    def last_line(self, start, end):
        """Where the text of a range ends: before the blank lines and link definitions at its end."""
        while end > start and (not self.lines[end - 1].strip() or re.match(r"\[[^\]]+\]:\s", self.lines[end - 1])):
            end -= 1
        return end

    def add(self, group, entries):
        start, end = self.section()
        groups = [(i, t) for i, level, t in self.headings() if level == 3 and start <= i < end]
        mine = [i for i, title in groups if title.lower() == group.lower()]
        if mine:
            later = [i for i, _ in groups if i > mine[0]]
            at = self.last_line(mine[0] + 1, later[0] if later else end)
            # Directly after a list; with a blank line after a heading or a paragraph.
            blank = not re.match(r"\s*[-*+]\s|\s{2,}\S", self.lines[at - 1])
            self.insert(at, ([""] if blank else []) + entries)
            return
        order = {name.lower(): place for place, name in enumerate(GROUPS)}
        after = [i for i, title in groups if order.get(title.lower(), -1) > order[group.lower()]]
        if after:
            self.insert(after[0], ["### " + group, ""] + entries + [""])
        else:
            at = self.last_line(start, end)
            self.insert(at, ["", "### " + group, ""] + entries)


def read(path):
    if os.path.islink(path) or os.path.isabs(path) or ".." in path.split("/"):
        sys.exit("%s is not a file inside the repository" % path)
    if not os.path.exists(path):
        return "# Changelog\n"
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read() or "# Changelog\n"


def commits_of(given):
    commits = given["commits"] if isinstance(given["commits"], list) else sys.exit("`commits` is not a list")
    for commit in commits:
        if not isinstance(commit, dict) or not isinstance(commit.get("message"), str):
            sys.exit('each of `commits` needs a "message": {"id": "…", "message": "feat: …"}')
    return cancel_reverts(commits[-MOST_COMMITS:])


def main():
    path = os.environ.get("changelog") or "CHANGELOG.md"
    commits = commits_of(json.load(sys.stdin))
    before = read(path)
    changelog = Changelog(before)
    entries, known, left_out, seen = {}, 0, 0, set()
    written = {re.sub(r" \([0-9a-f]{7}\)$", "", line.strip().lstrip("-*+ ")) for line in before.splitlines()}
    for commit in commits:
        classified = classify(commit["message"])
        if not classified:
            left_out += 1
            continue
        group, text = classified
        ident = str(commit.get("id") or "")
        short = ident[:7] if re.fullmatch(r"[0-9a-f]{7,64}", ident) else ""
        # By id, and by text: a rebase changes the id.
        if text in written or text in seen or (short and "(%s)" % short in before):
            known += 1
            continue
        seen.add(text)
        entries.setdefault(group, []).append("- %s%s" % (text, " (%s)" % short if short else ""))
    if entries:
        for group in (name for name in GROUPS if name in entries):
            changelog.add(group, entries[group])
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write("".join(changelog.lines))
    added = [entry for group in GROUPS for entry in entries.get(group, [])]
    count = "%d %s" % (len(added), "entry" if len(added) == 1 else "entries")
    parts = ["### %s\n\n%s" % (group, "\n".join(entries[group])) for group in GROUPS if group in entries]
    rest = "%d of the commits had an entry already; %d do not concern users." % (known, left_out)
    body = "\n\n".join(["New under *Unreleased* of `%s`:" % path] + parts + [rest]) if added else rest
    json.dump({"title": "changelog: Add " + count, "body": body, "added": added, "known": known, "left_out": left_out}, sys.stdout)


main()
