"""What the demo shows between and after the loads, read from the admin API alone.

report.py progress   one line: coverage so far
report.py settle     waits until every command has its verdict
report.py findings   by kind, with an example each
report.py pauses FILE   the holds of the cutovers, and what the shop's acts took that met one; FILE
                        has a line for each act: when it began and how long it took, in microseconds
"""

import json
import os
import sys
import time
import urllib.parse
import urllib.request
from datetime import datetime

ADMIN = os.environ["UNDERSTUDY_ADMIN"]


def ask(path):
    with urllib.request.urlopen(f"{ADMIN}/api/v1/{path}", timeout=10) as answer:
        return json.load(answer)


def progress():
    status = ask("status")
    coverage = status["coverage"]
    skipped = sum(coverage["not_compared"].values())
    print(
        f"  {coverage['commands']:>7} commands  {coverage['matched']:>7} matched  {coverage['tolerated']:>7} tolerated"
        f"  {coverage['diverged']:>4} diverged  {skipped:>5} not compared  {coverage['pending']:>4} pending"
        f"  mirror {status['mirror']['state']}",
        flush=True,
    )


def settle():
    for _ in range(300):
        if ask("status")["coverage"]["pending"] == 0:
            return
        time.sleep(0.2)
    print("  some commands are still pending")


def findings():
    by_kind = {}
    for finding in ask("findings?limit=500")["items"]:
        by_kind.setdefault(finding["kind"], []).append(finding)
    for kind, found in sorted(by_kind.items(), key=lambda pair: -sum(f["count"] for f in pair[1])):
        count = sum(finding["count"] for finding in found)
        print(f"  {kind}: {count} divergences in {len(found)} findings")
        for finding in found[:3]:
            print(f"      {finding['count']:>4} × {finding['protocol']:<8} {finding['fingerprint'][:110]}")
        example(found[0])


def example(finding):
    """What both servers said to one command of this finding."""
    wanted = urllib.parse.urlencode({"finding": finding["id"], "limit": 1})
    for one in ask(f"divergences?{wanted}")["items"]:
        print(f"      for instance {one['statement'] or one['fingerprint']}"[:120])
        for side in filter(None, (one["primary"], one["shadow"])):
            error = side["error"]
            words = f"error {error['code']} ({error['sqlstate']}) {error['message'][:90]}" if error else (
                f"{side['rows']} rows, {side['affected_rows'] or 0} affected, {side['latency_us']} µs"
            )
            print(f"           {side['server']:<8} {words}")


def pauses():
    with open(sys.argv[2], encoding="ascii") as file:
        acts = [tuple(map(int, line.split())) for line in file]
    took = sorted(act[1] for act in acts)
    for record in reversed(ask("cutover")["history"]):
        hold = record["hold_us"]
        began = [step["at"] for step in record["steps"] if step["step"] == "holding"]
        if not hold or not began:
            continue
        start = int(datetime.fromisoformat(began[0].replace("Z", "+00:00")).timestamp() * 1e6)
        met = [act[1] for act in acts if act[0] <= start + hold and act[0] + act[1] >= start]
        print(
            f"  {record['from']} → {record['to']}: held for {hold / 1000:.1f} ms; {len(met)} of the shop's acts met it,"
            f" the longest took {max(met, default=0) / 1000:.1f} ms"
        )
    print(f"  all {len(took)} acts: half took {took[len(took) // 2] / 1000:.1f} ms or less, the longest {took[-1] / 1000:.1f} ms")


{"pauses": pauses, "progress": progress, "settle": settle, "findings": findings}[sys.argv[1]]()
