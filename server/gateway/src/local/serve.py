# Serves one model with llama.cpp's own HTTP server, for the process that started this one.
#
# Standard input: one line of JSON with the settings, and then nothing until it closes. When it does,
# the parent is gone, however it went, and the kernel ends this process at once (SIGIO on a hung-up
# pipe, fcntl(2) O_ASYNC): no thread and no lock of Python's is needed for it, also not while the
# model loads. Unlike PR_SET_PDEATHSIG it does not depend on which thread of the parent started this.
# Standard output: one line of JSON with the address. Standard error: what goes wrong.
import fcntl
import json
import os
import select
import signal
import sys


def settings():
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit("no settings on standard input")
        line += byte
    return json.loads(line)


def die_with_parent():
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if poll.poll(0):  # it was gone before the kernel watched
        os._exit(1)


def main():
    asked = settings()
    die_with_parent()
    try:
        import xllamacpp
    except ImportError as error:
        sys.exit(f"{sys.executable} has no xllamacpp: {error}")
    params = xllamacpp.CommonParams()
    params.model.path = asked["model"]
    params.model_alias = {asked["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [asked["key"]]
    params.n_ctx = asked["context"]
    params.n_parallel = 1
    params.cpuparams.n_threads = asked["threads"]
    params.cpuparams_batch.n_threads = asked["threads"]
    params.n_threads_http = 2
    params.use_jinja = True
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 2  # warnings and errors
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # what llama.cpp wrote before says more than a trace of this file
        sys.exit(str(error))
    print(json.dumps({"address": server.listening_address}), flush=True)
    os.dup2(2, 1)
    while True:
        signal.pause()


main()
