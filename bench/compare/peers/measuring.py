"""What every peer program shares: flags, windows of time, what else the machine did, one JSON line.

The same quantities, by the same names, as `longhand bench` prints.
"""

import argparse
import json
import os
import statistics
import time

TICKS = os.sysconf("SC_CLK_TCK")


def flags(description):
    """A parser with the flags that every peer has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--window-seconds", type=float, default=2.0)
    return parser


def quiet_torch(threads):
    """Torch with so many threads and fixed random numbers."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    return torch


def machine_busy():
    """Seconds of processor time that the whole machine has spent on anything."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _disk, hard, soft, stolen = map(int, file.readline().split()[1:9])
    return (user + nice + system + hard + soft + stolen) / TICKS


def own_busy(children=False):
    """Seconds of processor time that this process has spent, and those of its children that ended."""
    times = os.times()
    ended = times.children_user + times.children_system if children else 0.0
    return times.user + times.system + ended


def measure(step, tokens, arguments):
    """Speeds of step(), which handles so many tokens: `tokens_per_s` and `other_cpus_busy`."""
    length = arguments.window_seconds
    # Until everything is warm; at least twice, since the second call may still compile.
    calls, began = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - began < min(2.0, length):
        step()
        calls += 1
    calls, began = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - began < min(0.1, length):
        step()
        calls += 1
    each = max(1, round(length * calls / (time.perf_counter() - began)))

    rates = []
    machine, own, began = machine_busy(), own_busy(), time.perf_counter()
    for _ in range(arguments.windows):
        start = time.perf_counter()
        for _ in range(each):
            step()
        rates.append(each * tokens / (time.perf_counter() - start))
    spent = time.perf_counter() - began
    others = (machine_busy() - machine) - (own_busy() - own)
    return {
        "tokens_per_s": {
            "median": statistics.median(rates),
            "min": min(rates),
            "max": max(rates),
            "windows": len(rates),
            "steps_per_window": each,
        },
        "us_per_step": 1e6 * tokens / statistics.median(rates),
        "other_cpus_busy": max(0.0, others / spent),
    }


def peak_rss_mib():
    """The most memory that this process held so far."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def seconds_since_start():
    """Seconds since the system started this process, the interpreter's own start included."""
    with open("/proc/self/stat") as file:
        started = int(file.read().rsplit(")", 1)[1].split()[19]) / TICKS
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - started


def report(bench, **fields):
    """Prints one JSON line."""
    print(json.dumps({"bench": bench, **fields, "peak_rss_mib": peak_rss_mib()}), flush=True)
