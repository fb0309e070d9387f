"""The ablations, small: every variant learns and is measured, no run is made twice, the table is what it says."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from itertools import chain, islice

import numpy as np
import pytest
import torch

from flowpose_ros.networks.flow import Update
from flowpose_ros.networks.update import FlowField
from flowpose_ros.networks.weights import shipped_folder
from training import variants
from training.ablate import Budget, Run, ablate, draw_bars, figures_by_variant, mean_and_spread, table_of
from training.device_pairs import device_batches
from training.kept import drawn, kept_samples
from training.pairs import PairBatch, PairMaker, PairStream, batches_of
from training.reuse import quarter_turned
from training.variants import FAMILIES, add, ransac_pose

REFINER = shipped_folder() / "genflow_t.safetensors"
SHORT = Budget(crop=64, steps=2, batch=1, samples=2, held_out=1, features="shipped")

pytestmark = pytest.mark.usefixtures("same_everywhere")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the samples of all tests here are kept."""
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture(scope="module")
def sample():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWPOSE_DATA", "no_data")
        return PairMaker(0, 64).sample(0)


def update_of(sample: PairBatch, flow: torch.Tensor, certainty: float) -> Update:
    """An update that says a flow [1,2,64,64] and is so sure of it."""
    pixel = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="xy"))[None]
    valid = sample.render_mask[:, None]
    ones = torch.ones(1, 1, 64, 64)
    field = FlowField(flow, certainty * ones, ones.expand(-1, 2, -1, -1), ones, ones)
    return Update(field, sample.T_init, pixel, sample.render_xyz, valid, ones)


def runs_of(**values) -> list[Run]:
    return [Run(name, seed, SHORT, {"error": value, "s per step": 1.0})
            for name, found in values.items() for seed, value in enumerate(found)]


# --- runs


@pytest.mark.parametrize("name", FAMILIES)
def test_every_variant_learns_and_is_measured(name, folder):
    family = FAMILIES[name](REFINER, SHORT.crop, "cpu")
    runs = ablate(family, SHORT, list(family.variants), [0], folder / f"{name}.jsonl", 0)
    assert [run.variant for run in runs] == list(family.variants)
    assert all(np.isfinite(list(run.figures.values())).all() for run in runs)
    draw_bars(runs, folder / f"{name}.png")
    assert len(table_of(runs).splitlines()) == len(runs) + 2 and (folder / f"{name}.png").stat().st_size > 5000


def test_finished_runs_are_not_made_again_and_one_that_is_missing_comes_out_the_same(folder):
    family, results = FAMILIES["refpose"](REFINER, SHORT.crop, "cpu"), folder / "again.jsonl"
    runs = ablate(family, SHORT, ["bilinear", "all"], [0, 1], results, 0)
    written = results.read_text()
    assert ablate(family, SHORT, ["bilinear", "all"], [0, 1], results, 0) == runs and results.read_text() == written
    lines = written.splitlines(keepends=True)
    # As after a kill: two runs are missing, and a third was not written to its end.
    results.write_text("".join(line for line in lines if json.loads(line)["seed"] == 0) + lines[-1][:40])
    again = ablate(family, SHORT, ["bilinear", "all"], [0, 1], results, 0)
    assert len(results.read_text().splitlines()) == 4
    for run, other in zip(runs, again):
        assert {k: v for k, v in run.figures.items() if k != "s per step"} == pytest.approx(
            {k: v for k, v in other.figures.items() if k != "s per step"}, rel=1e-6)


def test_runs_of_another_budget_do_not_count(folder):
    family, results = FAMILIES["scorer"](REFINER, SHORT.crop, "cpu"), folder / "budgets.jsonl"
    for budget in (SHORT, replace(SHORT, steps=1)):
        ablate(family, budget, ["pixels"], [0], results, 0)
    assert [json.loads(line)["budget"]["steps"] for line in results.read_text().splitlines()] == [2, 1]


def test_samples_made_on_the_device_need_no_file_and_results_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(variants, "device_batches", partial(device_batches, procedural=8, pictures=4))
    monkeypatch.setattr(variants, "MADE", 4)
    budget = replace(SHORT, made_on="device", learning_rate=1e-4)
    runs = ablate(FAMILIES["refpose"](REFINER, SHORT.crop, "cpu"), budget, ["all"], [0], tmp_path / "new" / "runs.jsonl", 0)
    other = ablate(FAMILIES["refpose"](REFINER, SHORT.crop, "cpu"), replace(budget, learning_rate=0.1), ["all"], [0],
                   tmp_path / "new" / "runs.jsonl", 0)
    assert other[0].figures["points' error, radii"] != runs[0].figures["points' error, radii"]
    assert [run.budget for run in runs] == [budget] and [p.name for p in (tmp_path / "new").iterdir()] == ["runs.jsonl"]


def test_an_unknown_variant_is_named(folder):
    family = FAMILIES["genflow"](REFINER, SHORT.crop, "cpu")
    with pytest.raises(ValueError, match="variants: expected some of flow, .*; got flowers"):
        ablate(family, SHORT, ["flow", "flowers"], [0], folder / "unknown.jsonl", 0)


def test_variants_begin_with_the_features_that_are_given_or_with_random_numbers():
    for features in (None, REFINER):
        family = FAMILIES["genflow"](features, SHORT.crop, "cpu")
        states = []
        for name in family.variants:
            torch.manual_seed(3)
            states.append(family.trial(name, family.course(2, 2)).network.state_dict())
        for state in states[1:]:
            torch.testing.assert_close(state, states[0], rtol=0, atol=0)
        if features is not None:
            torch.testing.assert_close({k: v for k, v in states[0].items() if k.startswith("features.")},
                                       {f"features.{k}": v for k, v in family.refiner.features.state_dict().items()})
    with pytest.raises(ValueError, match="features: expected the weights of a refiner"):
        FAMILIES["refpose"](None, SHORT.crop, "cpu")


@pytest.mark.parametrize("name, full, part", [("refpose", "all", ""), ("scorer", "flow-features", "head.")])
def test_variants_begin_with_the_weights_that_they_have_in_common(name, full, part):
    family, states = FAMILIES[name](REFINER, SHORT.crop, "cpu"), {}
    for variant in family.variants:
        torch.manual_seed(3)
        states[variant] = family.trial(variant, family.course(2, 2)).network.state_dict()
    wanted = {key: value for key, value in states[full].items() if key.startswith(part)}
    for state in states.values():
        shared = {key for key in wanted.keys() & state.keys() if wanted[key].shape == state[key].shape}
        assert len(shared) > 4
        torch.testing.assert_close({key: state[key] for key in shared}, {key: wanted[key] for key in shared}, rtol=0,
                                   atol=0)


# --- what is measured


def test_ransac_finds_the_pose_of_a_true_flow_and_keeps_the_start_where_nothing_is_sure(sample):
    found = ransac_pose(update_of(sample, sample.gt_flow, 5.0), sample)
    assert add(found, sample) < 0.01 < add(sample.T_init, sample)
    torch.testing.assert_close(ransac_pose(update_of(sample, sample.gt_flow, -5.0), sample), sample.T_init)


def test_the_distance_of_a_shifted_pose_is_its_shift(sample):
    T = sample.T_gt.clone()
    T[:, :3, 3] += torch.tensor([0.3, 0.0, -0.4]) * sample.diameter
    assert add(T, sample).item() == pytest.approx(0.5, rel=1e-4)


# --- samples


def test_kept_samples_are_made_once(tmp_path):
    made = kept_samples(tmp_path / "few.pt", PairBatch, PairStream(5, 64), 3, "cpu")
    before = (tmp_path / "few.pt").stat().st_mtime_ns
    again = kept_samples(tmp_path / "few.pt", PairBatch, PairStream(6, 64), 3, "cpu")
    assert len(made) == 3 and (tmp_path / "few.pt").stat().st_mtime_ns == before
    for sample, other in zip(made, again):
        torch.testing.assert_close(vars(sample), vars(other), rtol=0, atol=0)
    torch.testing.assert_close(vars(made[1]), vars(PairMaker(5, 64).sample(1)), rtol=0, atol=0)


def test_samples_made_on_the_device_are_batches_of_one_and_always_the_same(monkeypatch):
    monkeypatch.setattr(variants, "device_batches", partial(device_batches, procedural=8, pictures=4))
    monkeypatch.setattr(variants, "MADE", 4)
    family = FAMILIES["genflow"](REFINER, SHORT.crop, "cpu")
    (first, second), (again, _) = (list(islice(family.made(4, "train", 0, "device"), 2)) for _ in range(2))
    assert first.query_rgb.shape == (1, 3, SHORT.crop, SHORT.crop)
    torch.testing.assert_close(vars(first), vars(again), rtol=0, atol=0)
    assert not torch.equal(first.T_gt, second.T_gt)
    with pytest.raises(ValueError, match="expected workers, as ScorerSamples are made by them alone; got device"):
        FAMILIES["scorer"](REFINER, SHORT.crop, "cpu").made(4, "train", 0, "device")


def test_a_batch_to_learn_from_is_its_samples_turned(sample):
    family = FAMILIES["genflow"](REFINER, SHORT.crop, "cpu")
    batch = family.join([sample] * 12, np.random.default_rng(0))
    assert len(batch.K) == 12
    turned = [quarter_turned(sample, turn).query_rgb[0] for turn in range(4)]
    found = [[i for i, picture in enumerate(turned) if torch.equal(picture, rgb)] for rgb in batch.query_rgb]
    assert all(len(which) == 1 for which in found) and len({which for which, in found}) > 2


def test_batches_are_measured_as_their_samples_are(sample):
    family = FAMILIES["genflow"](REFINER, SHORT.crop, "cpu")
    other = replace(sample, T_init=sample.T_gt)
    together, *alone = (family.figures("all", family.refiner, samples)
                        for samples in ([sample, sample, other], [sample], [other]))
    for name in ("< 0.1 d", "start < 0.1 d"):
        assert together[name] == pytest.approx((2 * alone[0][name] + alone[1][name]) / 3)


def test_kept_samples_keep_no_files_open(tmp_path):
    """What a worker hands over keeps a file open for each tensor: 17 for a sample."""
    opened = []

    def watched(samples):
        for sample in samples:
            opened.append(len(os.listdir("/proc/self/fd")))
            yield sample

    made = chain.from_iterable(batches_of(PairStream(5, 32), 1, list))
    assert len(kept_samples(tmp_path / "many.pt", PairBatch, watched(made), 8, "cpu")) == 8
    assert opened[-1] - opened[2] < 17


def test_samples_are_drawn_equally_often_and_for_equal_seeds_in_equal_order():
    orders = []
    for _ in range(2):
        batches = drawn(list(range(6)), 2, np.random.default_rng(4))
        orders.append([next(batches) for _ in range(6)])
    assert orders[0] == orders[1]
    first, second = (sum(orders[0][part:part + 3], []) for part in (0, 3))
    assert sorted(first) == sorted(second) == list(range(6)) and first != second
    with pytest.raises(ValueError, match="samples: expected at least one batch of 7, got 6"):
        next(drawn(list(range(6)), 7, np.random.default_rng(4)))


# --- the table


def test_the_table_has_means_and_spreads_over_the_seeds():
    runs = runs_of(plain=[1.0, 2.0, 4.5], better=[0.5, 0.25, 0.75])
    assert figures_by_variant(runs)["plain"]["error"].tolist() == [1.0, 2.0, 4.5]
    header, _, plain, better = table_of(runs).splitlines()
    assert header.split() == ["variant", "error", "s", "per", "step"]
    assert plain.split()[:4] == ["plain", "2.500", "±", "1.803"]
    assert better.split()[:4] == ["better", "0.500", "±", "0.250"]


def test_one_seed_has_no_spread():
    assert mean_and_spread(np.array([0.25])) == "0.250"
