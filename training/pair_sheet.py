"""A contact sheet of synthetic samples: python -m training.pair_sheet pairs.png --made-on workers"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from training.command import command
from training.device_pairs import DevicePairMaker
from training.flags import at_least_one
from training.pairs import PairMaker, collate
from training.perturb import TASKS
from training.pictures import pair_rows
from training.pools import tell_data


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sheet", type=Path, help="picture to write")
    parser.add_argument("--made-on", default="workers", choices=("workers", "device"), help="whose samples")
    parser.add_argument("--task", default="search", choices=TASKS, help="what they are for")
    parser.add_argument("--crop", type=int, default=128, help="side of the pictures, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=at_least_one, default=10)
    parser.add_argument("--family", default="train", choices=("train", "held_out"))
    parser.add_argument("--device", default="cpu", help="cpu, or cuda, of those made on it")
    args = parser.parse_args()
    tell_data()
    if args.made_on == "device":
        maker = DevicePairMaker(args.seed, args.crop, args.count, args.device, args.family, task=TASKS[args.task])
        batch = maker.make(0)
    else:
        maker = PairMaker(args.seed, args.crop, args.family, task=TASKS[args.task])
        batch = collate([maker.sample(i) for i in range(args.count)])
    if not cv2.imwrite(str(args.sheet), pair_rows(batch)[..., ::-1]):
        raise OSError(f"{args.sheet}: expected a place to write a picture to, could not write there")


if __name__ == "__main__":
    main()
