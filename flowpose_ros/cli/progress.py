"""Progress of an estimator's warm-up, shown on a terminal."""

from __future__ import annotations

from tqdm import tqdm

from flowpose_ros.estimation.estimator import Estimator


def warm_up_with_progress(estimator: Estimator) -> None:
    """Warm an estimator up under a progress bar that names what is being prepared."""
    with tqdm(total=1.0, desc="preparing", disable=None, leave=False,
              bar_format="{desc} |{bar}| {percentage:3.0f}% [{elapsed}<{remaining}]") as bar:
        def show(what: str, done: float) -> None:
            bar.set_description_str(f"preparing {what}", refresh=False)
            bar.update(done - bar.n)

        estimator.warm_up(show)
