"""Searches processes and their files for secrets, and says where they are; see jail_secrets.rs.

usage: search.py NEEDLES all | search.py NEEDLES PID…

NEEDLES is a file of JSON: the bytes of each secret by its name, every one turned around and in hexadecimal, so
that neither that file nor this program's own memory holds what is searched for. With `all` the processes are those
that this one sees, and the files those of its own root.
"""

import json
import os
import re
import sys

# Not made for a jail, read-only and the same for everybody.
SHARED = ("/usr/", "/opt/agents/", "/proc", "/sys")
MASK = bytes(byte ^ 0xA5 for byte in range(256))
PAGE = os.sysconf("SC_PAGE_SIZE")
PIECE = 8 << 20
FILE_MOST = 32 << 20

with open(sys.argv[1]) as needles:
    NEEDLES = {name: bytes.fromhex(masked) for name, masked in json.load(needles).items()}
OVERLAP = max(map(len, NEEDLES.values()))

found = set()
looked = {"environ": 0, "cmdline": 0, "file": 0, "memory": 0}
programs = []
closed = []


def look(kind, data, where):
    looked[kind] += len(data) if kind == "memory" else 1
    masked = data.translate(MASK)
    for name, needle in NEEDLES.items():
        if needle in masked:
            found.add((name, kind, where))


def file(path, kind, where):
    """What can be read of a file without waiting for it."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY)
    except OSError:
        return
    try:
        look(kind, os.pread(number, FILE_MOST, 0), where)
    except OSError:
        pass
    finally:
        os.close(number)


def present(pagemap, start, end):
    """The parts of a mapping that are in memory or swapped out."""
    first = None
    for at in range(start, end, PIECE):
        entries = os.pread(pagemap, min(PIECE, end - at) // PAGE * 8, at // PAGE * 8)
        for page in range(len(entries) // 8):
            # Bits 62 and 63: proc_pid_pagemap(5).
            here = entries[page * 8 + 7] & 0xC0
            if here and first is None:
                first = at + page * PAGE
            elif not here and first is not None:
                yield first, at + page * PAGE
                first = None
    if first is not None:
        yield first, end


def mappings(pid):
    """Those that anything is in, but for the read-only files that everybody has."""
    mapping = None
    for line in open(f"/proc/{pid}/smaps"):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line)
        if head:
            start, end, rights, name = head.groups()
            mapping = int(start, 16), int(end, 16)
            public = "w" not in rights and name.startswith(SHARED[:2])
        elif re.match(r"(Rss|Swap): +[1-9]", line) and not public and mapping:
            yield mapping
            mapping = None


def memory(pid, program):
    try:
        with open(f"/proc/{pid}/pagemap", "rb", 0) as pagemap, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for start, end in mappings(pid):
                for first, last in present(pagemap.fileno(), start, end):
                    for at in range(first, last, PIECE):
                        try:
                            data = os.pread(mem.fileno(), min(PIECE + OVERLAP, last - at), at)
                        except OSError:
                            continue
                        look("memory", data, program)
    except OSError:
        closed.append(program)


def process(pid):
    try:
        with open(f"/proc/{pid}/comm") as comm:
            program = comm.read().strip()
    except OSError:
        return
    programs.append(program)
    for kind in ("environ", "cmdline"):
        file(f"/proc/{pid}/{kind}", kind, program)
    for directory in ("", "fdinfo", "net", "task"):
        directory = f"/proc/{pid}/{directory}"
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in set(names) - {"mem", "pagemap", "environ", "cmdline"}:
            file(f"{directory}/{name}", "file", f"/proc {name}")
    memory(pid, program)


def files(root):
    for directory, below, names in os.walk(root):
        inside = directory[len(root.rstrip("/")):]
        below[:] = [name for name in below if not f"{inside}/{name}/".startswith(SHARED)]
        for name in names:
            file(f"{directory}/{name}", "file", f"{inside}/{name}")
        for name in names + below:
            path = f"{directory}/{name}"
            if os.path.islink(path):
                look("file", os.fsencode(os.readlink(path)), f"{inside}/{name}")


if sys.argv[2] == "all":
    files("/")
    every = [int(name) for name in os.listdir("/proc") if name.isdigit()]
else:
    every = [int(pid) for pid in sys.argv[2:]]
    roots = {}
    for pid in every:
        try:
            # Those that share a root are searched through one of them.
            roots[os.readlink(f"/proc/{pid}/ns/mnt")] = pid
        except OSError:
            pass
    roots.pop(os.readlink("/proc/self/ns/mnt"), None)
    for pid in roots.values():
        files(f"/proc/{pid}/root")
for pid in every:
    process(pid)
print(json.dumps({"found": sorted(found), "looked": looked, "programs": programs, "closed": closed}))
