"""Known weaknesses of what is installed, by pip-audit: `make audit`.

Ends with an error also where nothing was looked up, as from a mirror that only has the packages. Arguments go to pip-audit:
`python -m scripts.audit --vulnerability-service osv --osv-url ADDRESS` asks another index.
"""

import json
import subprocess
import sys


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]
    command += sys.argv[1:]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(asked.stdout)["dependencies"] if asked.stdout.startswith("{") else []
    known = [package for package in found if "vulns" in package]
    if not known:
        reason = "it knows none of these packages" if found else asked.stderr.strip().rpartition("\n")[2]
        print(f"Nothing was looked up, as no index with data on weaknesses can be reached: {reason}.")
        return 1
    weak = [(package, weakness) for package in known for weakness in package["vulns"]]
    for package, weakness in weak:
        versions = ", ".join(weakness["fix_versions"]) or "none yet"
        print(f"{package['name']} {package['version']}: {weakness['id']}, repaired in: {versions}")
    left = [package["name"] for package in found if package not in known]
    print(f"{len(known)} packages looked up, {len(weak)} weaknesses; not in the index: {', '.join(left) or 'none'}.")
    return bool(weak)


if __name__ == "__main__":
    sys.exit(main())
