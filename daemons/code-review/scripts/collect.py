# Chooses the files to be reviewed and numbers their lines.
#
# Standard input: {"changed": the paths of an event, or ""}. Variables: `paths`, globs with blanks between them.
# Standard output: {"files": [{path, lines}], "shown", "left_out", "manifest": {manager, path, contents}}.
import fnmatch
import json
import os
import stat
import sys

CODE = "c cc cpp cs go h hpp java js jsx kt mjs php py rb rs scala sh sql swift ts tsx vue".split()
SKIPPED = {".git", ".spellbook", "daemons", "node_modules", "vendor", "target", "dist", "build", ".venv"}
# What a package manager's file is called, and what the scanner calls the manager.
MANIFESTS = {"requirements.txt": "pip", "package.json": "npm", "composer.json": "composer", "pom.xml": "maven"}
MOST, LARGEST_FILE, LARGEST_MANIFEST = 60_000, 30_000, 200_000


def regular(path, most):
    """The text of a regular file inside the workspace; links are not followed."""
    if os.path.islink(path) or not stat.S_ISREG(os.lstat(path).st_mode) or os.path.getsize(path) > most:
        return None
    with open(path, "rb") as file:
        data = file.read()
    return None if b"\0" in data[:8192] else data.decode("utf-8", "replace")


def walk():
    for directory, names, files in os.walk("."):
        names[:] = sorted(name for name in names if name not in SKIPPED and not os.path.islink(os.path.join(directory, name)))
        for name in sorted(files):
            yield os.path.relpath(os.path.join(directory, name), ".")


def chosen(every, globs, changed):
    if globs:
        return [path for path in every if any(fnmatch.fnmatch(path, glob) for glob in globs)]
    code = [path for path in every if path.rsplit(".", 1)[-1] in CODE]
    return [path for path in code if path in changed] if changed else code


def main():
    given = json.load(sys.stdin)
    changed = given["changed"] if isinstance(given["changed"], list) else []
    every = list(walk())
    files, shown, left_out, size = [], [], [], 0
    for path in chosen(every, os.environ.get("paths", "").split(), set(changed)):
        text = regular(path, LARGEST_FILE)
        if text is None or size + len(text) > MOST:
            left_out.append(path)
            continue
        size += len(text)
        lines = text.splitlines()
        files.append({"path": path, "lines": len(lines)})
        numbered = "\n".join("%d: %s" % (number, line) for number, line in enumerate(lines, 1))
        shown.append("=== %s ===\n%s\n" % (path, numbered))
    if not files:
        sys.exit("there is no code to review: give `paths`, such as `src/*.py`")
    manifest = {"manager": "", "path": "", "contents": ""}
    # The one nearest to the root.
    for path in sorted(every, key=lambda path: (path.count("/"), path)):
        manager = MANIFESTS.get(os.path.basename(path))
        text = regular(path, LARGEST_MANIFEST) if manager else None
        if text:
            manifest = {"manager": manager, "path": path, "contents": text}
            break
    json.dump({"files": files, "shown": "\n".join(shown), "left_out": left_out[:50], "manifest": manifest}, sys.stdout)


main()
