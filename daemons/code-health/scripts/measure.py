# Measures the files of the workspace. Standard output: JSON, see `result`.
#
# Nothing is imported from the workspace and nothing in it is run: files are only read. Sizes are
# bounded, so that a hostile repository costs time within the limits and no memory.
import ast
import itertools
import json
import os
import re
import sys
import warnings
from collections import Counter, defaultdict

LANGUAGES = {
    "Rust": "rs", "Python": "py pyi", "JavaScript": "js mjs cjs jsx", "TypeScript": "ts tsx mts cts", "Go": "go",
    "Java": "java", "Kotlin": "kt kts", "C": "c h", "C++": "cc cpp cxx hpp hh", "C#": "cs", "Swift": "swift",
    "Ruby": "rb", "PHP": "php", "Shell": "sh bash zsh", "SQL": "sql", "HTML": "html htm", "CSS": "css scss less",
    "Markdown": "md markdown", "YAML": "yaml yml", "TOML": "toml", "JSON": "json", "XML": "xml svg", "Text": "txt rst",
}  # fmt: skip
BY_ENDING = {ending: name for name, endings in LANGUAGES.items() for ending in endings.split()}
PROSE = {"Markdown", "YAML", "TOML", "JSON", "XML", "Text", "HTML"}
BRACES = {"Rust", "JavaScript", "TypeScript", "Go", "Java", "Kotlin", "C", "C++", "C#", "Swift", "PHP"}
SKIPPED = {".git", "node_modules", "target", "vendor", "dist", "build", "venv", ".venv", "__pycache__", "third_party"}

MOST_FILES = 20_000
LARGEST_TEXT = 1 << 20  # bytes; a longer text is counted as data
MOST_TEXT = 64 << 20  # bytes, all together
NOTHING = "Nothing to fix."
LONGEST_HEADER = 400  # characters of a line; a longer one was written by a program
MOST_LISTED = 10
MOST_ANNOTATIONS = 50

# Put together, so that this file does not remark on itself.
MARK = re.compile(r"(?:^|[^\w`\"'])(" + "|".join(["TO" "DO", "FIX" "ME", "HA" "CK", "X" "XX"]) + r")\b(?!`)[:(\s]?(.*)")
COMMENT = re.compile(r"#|//|/\*|^\s*\*|--|;;")

FUNCTION = re.compile(
    r"\bfn\s+(?P<rust>\w+)|\bfunc\s+(?:\([^)]*\)\s*)?(?P<go>\w+)|\bfun\s+(?:<[^>]*>\s*)?(?P<kotlin>[\w.]+)\s*\("
    r"|\bfunction\b\s*\*?\s*(?P<js>\w+)?\s*\(|\b(?:const|let|var)\s+(?P<arrow>\w+)\s*=\s*(?:async\s*)?(?:\([^()]*\)|\w+)\s*(?::[^={]+)?=>"
    r"|^[\w<>\[\],:*&?\s]*?\b(?P<c>~?\w+)\s*\([^;{}]*\)\s*(?:(?:const|override|noexcept)\s*|throws\s[\w.,\s]*)?\{"
)
NOT_FUNCTIONS = {"if", "for", "while", "switch", "catch", "match", "return", "else", "do", "loop", "foreach", "using", "lock", "new"}


def setting(name, otherwise):
    text = os.environ.get(name, "")
    return int(text) if re.fullmatch(r"\d{1,9}", text) and int(text) > 0 else otherwise


def files():
    """(path, size) of the regular files, in the order of their names; links are not followed."""
    found = 0
    for directory, below, names in os.walk(".", followlinks=False):
        below[:] = sorted(name for name in below if name not in SKIPPED)
        for name in sorted(names):
            path = os.path.join(directory, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            found += 1
            if found > MOST_FILES:
                return
            yield path[2:], os.path.getsize(path)


def language(path, text):
    ending = path.rsplit(".", 1)[-1].lower() if "." in os.path.basename(path) else ""
    if ending in BY_ENDING:
        return BY_ENDING[ending]
    shebang = re.match(r"#!.*?\b(python|bash|sh|zsh|node|ruby|php)", text)
    names = {"python": "Python", "node": "JavaScript", "ruby": "Ruby", "php": "PHP"}
    return names.get(shebang.group(1), "Shell") if shebang else "Other"


def python_functions(text):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    stack = [tree]
    while stack:
        node = stack.pop()
        stack.extend(ast.iter_child_nodes(node))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno


LITERAL = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|r(?P<hash>#+)\".{0,2000}?\"(?P=hash)|\"(?:\\.|[^\"\\])*\"|`(?:\\.|[^`\\])*`|'(?:\\.[^']{0,8}|[^'\\\n])'",
    re.DOTALL,
)


def blank(match):
    """Comments and texts without their braces; lines stay where they are."""
    return "\n" * match.group(0).count("\n")


def brace_functions(text):
    lines = LITERAL.sub(blank, text).split("\n")
    depth, open_functions, waiting = 0, [], None
    for number, line in enumerate(lines, 1):
        header = FUNCTION.search(line) if len(line) <= LONGEST_HEADER else None
        if header:
            name = next((name for name in header.groups() if name), "(anonymous)")
            if name not in NOT_FUNCTIONS:
                waiting = (name, number)
        for char in line:
            if char == "{":
                depth += 1
                if waiting:
                    open_functions.append((*waiting, depth))
                    waiting = None
            elif char == "}":
                if open_functions and open_functions[-1][2] == depth:
                    name, start, _ = open_functions.pop()
                    yield name, start, number
                depth = max(0, depth - 1)
            elif char == ";":
                waiting = None


class Repeats:
    """Blocks of equal lines, by a window over the lines that say something."""

    def __init__(self, size):
        self.size = size
        self.windows = defaultdict(list)

    def add(self, path, lines):
        # Lines of two characters are brackets: they are equal everywhere.
        said = [(number, " ".join(line.split())) for number, line in enumerate(lines, 1) if len(line.strip()) > 2]
        for at in range(len(said) - self.size + 1):
            window = said[at : at + self.size]
            if len({text for _, text in window}) > self.size // 2:
                self.windows[hash(tuple(text for _, text in window))].append((path, window[0][0], window[-1][0]))

    def found(self):
        """[{path, start_line, end_line, again}], each block once, adjoining windows as one."""
        pairs = defaultdict(list)
        for places in self.windows.values():
            first = places[0]
            for place in places[1:]:
                if place[0] != first[0] or place[1] > first[2]:
                    pairs[(first[0], place[0], first[1] - place[1])].append((first, place))
        blocks = []
        for (path, other, _), windows in pairs.items():
            windows.sort()
            start, end, there = windows[0][0][1], windows[0][0][2], windows[0][1][1]
            for first, place in windows[1:] + [((path, 1 << 60, 0), (other, 0, 0))]:
                if first[1] > end + 1:
                    blocks.append({"path": path, "start_line": start, "end_line": end, "again": "%s:%d" % (other, there)})
                    start, there = first[1], place[1]
                end = first[2]
        return sorted(blocks, key=lambda b: (b["start_line"] - b["end_line"], b["path"], b["start_line"]))


def notes_of(path, lines):
    for number, line in enumerate(lines, 1):
        if len(line) > 2_000:
            continue
        mark = MARK.search(line)
        if mark and COMMENT.search(line[: mark.start() + 1] or line[:1]):
            text = " ".join(mark.group(2).split()).removesuffix("-->").removesuffix("*/").strip()
            yield {"path": path, "line": number, "kind": mark.group(1), "text": text[:120]}


class Survey:
    """What was found in the files that were read."""

    def __init__(self, block_lines):
        self.lines, self.files = Counter(), Counter()  # by language
        self.functions, self.lengths, self.notes, self.binaries = [], [], [], []
        self.repeats = Repeats(block_lines)
        self.total, self.read_bytes, self.truncated = 0, 0, False

    def read(self, path, size):
        self.total += 1
        with open(path, "rb") as file:
            head = file.read(8192)
            # A NUL in the first 8 KiB: git's own rule for what is binary.
            if b"\0" in head or size > LARGEST_TEXT:
                self.binaries.append({"path": path, "bytes": size})
                return
            if self.read_bytes + size > MOST_TEXT:
                self.truncated = True
                return
            text = (head + file.read(LARGEST_TEXT)).decode("utf-8", "replace")
        self.read_bytes += size
        self.measure(path, text)

    def measure(self, path, text):
        lines = text.splitlines()
        name = language(path, text)
        self.files[name] += 1
        self.lines[name] += len(lines)
        self.notes.extend(notes_of(path, lines))
        if name in PROSE or name == "Other":
            return
        self.lengths.append({"path": path, "lines": len(lines)})
        self.repeats.add(path, lines)
        functions = python_functions(text) if name == "Python" else brace_functions(text) if name in BRACES else ()
        self.functions.extend({"path": path, "name": n, "line": s, "lines": e - s + 1} for n, s, e in functions)

    def main_language(self):
        names = [name for name, _ in self.lines.most_common()]
        code = [name for name in names if name not in PROSE and name != "Other"]
        return (code or names or ["nothing"])[0]


class Findings:
    """What of it is worth a remark."""

    def __init__(self, survey):
        self.notes, self.repeated = survey.notes, survey.repeats.found()
        self.functions = sorted(survey.functions, key=lambda f: (-f["lines"], f["path"], f["line"]))
        self.lengths = sorted(survey.lengths, key=lambda f: (-f["lines"], f["path"]))
        longest_function, longest_file = setting("function_lines", 100), setting("file_lines", 800)
        largest = setting("binary_kib", 512) << 10
        self.long_functions = [f for f in self.functions if f["lines"] > longest_function]
        self.long_files = [f for f in self.lengths if f["lines"] > longest_file]
        binaries = [b for b in survey.binaries if b["bytes"] > largest]
        self.binaries = sorted(binaries, key=lambda b: (-b["bytes"], b["path"]))

    def first(self):
        """What to mend first, in words; empty when there is nothing."""
        if self.long_functions:
            worst = self.long_functions[0]
            return "long function `%s` in %s, %d lines" % (worst["name"], near(worst), worst["lines"])
        if self.long_files:
            return "long file %s, %d lines" % (near(self.long_files[0]), self.long_files[0]["lines"])
        if self.binaries:
            return "large binary file %s, %d KiB" % (near(self.binaries[0]), self.binaries[0]["bytes"] >> 10)
        if self.repeated:
            return "repeated block in %s, line %d" % (near(self.repeated[0]), self.repeated[0]["start_line"])
        if self.notes:
            return "note left for later in %s, line %d" % (near(self.notes[0]), self.notes[0]["line"])
        return ""

    def annotations(self):
        """Remarks on lines, the gravest first."""
        for f in self.long_functions:
            message = "`%s` has %d lines" % (f["name"], f["lines"])
            yield remark("warning", f["path"], f["line"], f["line"] + f["lines"] - 1, message)
        for f in self.long_files:
            yield remark("warning", f["path"], 1, 1, "this file has %d lines" % f["lines"])
        for b in self.binaries:
            yield remark("warning", b["path"], 1, 1, "a large binary file (%d KiB)" % (b["bytes"] >> 10))
        for b in self.repeated:
            yield remark("notice", b["path"], b["start_line"], b["end_line"], "these lines stand at %s again" % b["again"])
        for n in self.notes:
            yield remark("notice", n["path"], n["line"], n["line"], ("%s: %s" % (n["kind"], n["text"])).rstrip(": "))


def remark(level, path, start, end, message):
    return {"path": path, "start_line": start, "end_line": end, "level": level, "message": message}


def near(found):
    """The end of a path: a small model copies a short one without mistakes."""
    return "/".join(found["path"].split("/")[-2:])


def counted(number, one, many):
    return "%d %s" % (number, one if number == 1 else many)


def result(survey, findings):
    lines, mostly = sum(survey.lines.values()), survey.main_language()
    first = " ".join(findings.first().split())[:200]  # a file's name may hold anything
    size = "small" if lines < 5_000 else "of middle size" if lines < 30_000 else "large"
    sizes = "%s, %s: %s" % (counted(survey.total, "file", "files"), counted(lines, "line", "lines"), size)
    return {
        "totals": {
            "files": survey.total,
            "lines": lines,
            "functions": len(findings.functions),
            "long_functions": len(findings.long_functions),
            "long_files": len(findings.long_files),
            "notes": len(findings.notes),
            "repeated": len(findings.repeated),
            "large_binaries": len(findings.binaries),
            "truncated": survey.truncated or survey.total >= MOST_FILES,
        },
        "languages": [
            {"name": name, "files": survey.files[name], "lines": count}
            for name, count in survey.lines.most_common(MOST_LISTED)
        ],
        "longest_files": findings.lengths[:MOST_LISTED],
        "longest_functions": findings.functions[:MOST_LISTED],
        "notes": findings.notes[:MOST_LISTED],
        "repeated": findings.repeated[:MOST_LISTED],
        "binaries": findings.binaries[:MOST_LISTED],
        "annotations": list(itertools.islice(findings.annotations(), MOST_ANNOTATIONS)),
        # What the model is told: short, because a small one reads a hundred tokens a second.
        "facts": "%s, mostly %s. %s" % (sizes, mostly, "Fix first: %s." % first if first else NOTHING),
        "opening": "The code is %s, mostly %s." % (size, mostly),
        "first": first,
        "conclusion": "neutral" if findings.long_functions or findings.long_files or findings.binaries else "success",
    }


def main():
    survey = Survey(setting("block_lines", 12))
    for path, size in files():
        survey.read(path, size)
    json.dump(result(survey, Findings(survey)), sys.stdout)


main()
