"""`make bench-compare OLD=… NEW=…`: two kept tables side by side, and new / old of every figure and every ratio."""

import json
import sys
from pathlib import Path


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("Give two files that `python -m bench --json FILE` wrote: the old one, then the new one.")
    old, new = (json.loads(Path(f).read_text()) for f in sys.argv[1:])
    for key in ("torch", "device", "dtype", "name"):
        if old[key] != new[key]:
            print(f"Mind that {key} differs: {old[key]} and {new[key]}.")
    before = {r["what"]: r for r in old["rows"]}
    print(f"{'':34} {'old':>10} {'new':>10} {'':12} {'new/old':>8}   of the ratio to its reference")
    for r in new["rows"]:
        if r["what"] in before:
            was = before[r["what"]]
            value, ratio = (r[k] / was[k] if was[k] else float("nan") for k in ("value", "ratio"))
            print(f"{r['what']:34} {was['value']:10.2f} {r['value']:10.2f} {r['unit']:12} {value:8.2f}   {ratio:.2f}")


if __name__ == "__main__":
    main()
