"""llama-server out of the wheel `xllamacpp`, for machines where llama.cpp is not built.

The wheel carries the server of llama.cpp, CPU kernels for several instruction sets among them. It
takes those options of llama-server that `serve.py` uses, and runs in an environment of its own:

    python -m venv out/llama && out/llama/bin/pip install xllamacpp==2026.10.11549
    out/llama/bin/python benchmarks/llama_server.py -m FILE.gguf --port N -np N -c N --threads N
"""

from __future__ import annotations

import argparse
import signal

import xllamacpp


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-m", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("-np", type=int, default=1)
    parser.add_argument("-c", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = args.m
    params.hostnames = ["127.0.0.1"]
    params.port = args.port
    params.n_parallel = args.np
    params.n_ctx = args.c
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    server = xllamacpp.Server(params)
    print(server.listening_address, xllamacpp.get_system_info(), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: exit())
    signal.pause()


if __name__ == "__main__":
    main()
