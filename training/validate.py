"""How far refinement gets from perturbed truths: python -m training.validate --weights FOLDER

On synthetic scenes of held-out objects, or with --dataset on the annotated images of a BOP dataset; with one refiner or
both. Equal seeds give equal scenes and equal starts, whatever else is asked for. Prints how near refinement ends from
each kind of start, how far its score can be trusted, the same for groups of cases, and how good the flow is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from tqdm import tqdm

from flowpose_ros.estimation.networks import Networks, load_networks
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.command import command
from training.pools import tell_data
from training.validation.cases import Case, dataset_cases, synthetic_cases
from training.validation.report import draw, flow_table_of, group_table_of, table_of
from training.validation.rows import FlowRow, Row, by_group, flow_row_of, row_of
from training.validation.trials import REFINERS, Refiner, Start, flow_of, refined, start_of, starts


def validate(cases: Sequence[Case], networks: Networks, depths: Sequence[bool], seed: int,
             refiners: dict[str, Refiner], chosen: dict[str, Start]) -> list[Row]:
    """A row per refiner, kind of start and group, without and with depth; cases without depth are left out of the
    latter."""
    renderer, rows = RaycastRenderer(), []
    jobs = list(product(refiners, depths, chosen))
    with tqdm(total=len(cases) * len(jobs), unit="start", desc="refining", mininterval=1) as bar:
        for refiner, depth, name in jobs:
            found = []
            for k, case in enumerate(cases):
                usable = not depth or case.frame.depth is not None
                T_init = start_of(case, chosen[name], seed, k)
                found.append(refined(case, T_init, refiners[refiner], depth, networks, renderer) if usable else None)
                bar.update()
            rows += [row_of(refiner, name, depth, group, answers) for group, answers in by_group(cases, found).items()]
    return rows


def validate_flow(cases: Sequence[Case], networks: Networks, seed: int, chosen: dict[str, Start]) -> list[FlowRow]:
    """A row per kind of start and group, from the starts of `validate`."""
    renderer, rows = RaycastRenderer(), []
    with tqdm(total=len(cases) * len(chosen), unit="start", desc="flow", mininterval=1) as bar:
        for name, start in chosen.items():
            found = []
            for k, case in enumerate(cases):
                found.append(flow_of(case, start_of(case, start, seed, k), networks, renderer))
                bar.update()
            rows += [flow_row_of(name, group, errors) for group, errors in by_group(cases, found).items()]
    return rows


@command
def main() -> None:
    """Command line: print the tables; write rows and curves where --output says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="folder of weights (default: the shipped ones)")
    parser.add_argument("--dataset", type=Path, help="BOP dataset in place of synthetic scenes")
    parser.add_argument("--count", type=int, default=200, help="synthetic scenes")
    parser.add_argument("--seed", type=int, default=9001, help="of the scenes and the starts")
    parser.add_argument("--refiner", choices=(*REFINERS, "both"), default="genflow")
    parser.add_argument("--depth", choices=("off", "on", "both"), default="both")
    parser.add_argument("--starts", nargs="+", choices=tuple(starts()), default=list(starts()), metavar="START",
                        help=f"kinds of starts: {', '.join(starts())} (default: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="folder for validation.json and validation.png")
    args = parser.parse_args()
    if args.dataset is None:
        tell_data()
    networks = load_networks(args.weights, args.device)
    source = (dataset_cases(BopDataset(args.dataset)) if args.dataset
              else synthetic_cases("held_out", args.count, args.seed))
    cases = list(tqdm(source, unit="case", desc="making scenes", mininterval=1))
    depths = {"off": (False,), "on": (True,), "both": (False, True)}[args.depth]
    refiners = {name: refiner for name, refiner in REFINERS.items() if args.refiner in (name, "both")}
    if "refpose" in refiners:
        networks.need_geometry()
    chosen = {name: start for name, start in starts().items() if name in args.starts}
    flow = validate_flow(cases, networks, args.seed, chosen)
    rows = validate(cases, networks, depths, args.seed, refiners, chosen)
    print(table_of(rows), group_table_of(rows), flow_table_of(flow), sep="\n\n")
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        written = {"refinement": [asdict(r) for r in rows], "flow": [asdict(r) for r in flow]}
        (args.output / "validation.json").write_text(json.dumps(written, indent=1) + "\n")
        draw(rows, flow, args.output / "validation.png")


if __name__ == "__main__":
    main()
