"""`nnunet_xlstm status`: what works and what to do."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Checks versions, registration, folders and device, and says how to mend what is wrong. "
        "The exit code is 0 if nnunet_xlstm is usable and 1 if there is a problem."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument(
        "--no-torch", action="store_true", help="do not import torch: instant, but device and classes stay unchecked"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from nnunet_xlstm.nnunet.install.status import collect

    checks = collect(with_torch=not args.no_torch)
    problems = sum(check.state == "problem" for check in checks)
    if args.json:
        import dataclasses
        import json

        print(json.dumps({"usable": not problems, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
        return int(problems > 0)
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.state:7}  {check.name:{width}}  {check.text}")
        if check.fix:
            print(f"{'':7}  {'':{width}}  fix: {check.fix}")
    print(f"\n{problems} problem{'s' * (problems > 1)} to fix before you start." if problems else "\nReady.")
    return int(problems > 0)
