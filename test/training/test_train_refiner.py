"""The refiner's training as a whole, small: it learns, and it goes on exactly where it stopped."""

import json
import math
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import count, islice
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from flowpose_ros.networks.flow import SIZES, GenFlow, GenFlowConfig
from flowpose_ros.networks.weights import features_hash, file_hash, load_config, load_weights, shipped_folder
from training import journal, train_refiner, trainer
from training.loop import one_cycle
from training.speed import FirstLook
from training.train_refiner import RefinerTraining, train

SHORT = RefinerTraining(crop=64, steps=6, batch=2, features_until=0.4, alternate_from=0.8, pose_from=0.4,
                        pose_ramp=0.2)
"""Three steps of features alone, two of all (half the pose loss, then all of it), one of features alone."""


pytestmark = pytest.mark.usefixtures("same_everywhere")


def run(config, folder, *, save_every=1000, max_minutes=None, log_every=100, **more):
    return train(config, folder, workers=0, threads=1, save_every=save_every, max_minutes=max_minutes,
                 log_every=log_every, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a SHORT run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run(SHORT, folder)
    return folder


def checkpoint_of(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_run(folder, whole):
    """Weights, their average, the optimiser and the exported weights are equal to the last bit."""
    found, wanted = checkpoint_of(folder), checkpoint_of(whole)
    assert found.pop("config") == wanted.pop("config")
    assert found["step"] == SHORT.steps
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    exported = [load_file(each / "genflow_t.safetensors") for each in (folder, whole)]
    torch.testing.assert_close(*exported, rtol=0, atol=0)


# --- the plan of a run


def test_features_learn_alone_before_the_flow_and_the_flow_before_the_pose():
    config = RefinerTraining(steps=100, features_until=0.2, alternate_from=0.6, pose_from=0.3, pose_ramp=0.1)
    assert [config.features_alone(step, step) for step in (0, 19, 20, 59)] == [True, True, False, False]
    assert [step for step in range(60, 73) if not config.features_alone(step, step)] == [60, 64, 68, 72]
    shares = [config.pose_share(step) for step in (0, 30, 35, 40, 99)]
    assert shares == pytest.approx([0, 0, 0.5, 1, 1])


def test_everything_learns_in_every_fourth_step_however_the_clock_leaps():
    config = RefinerTraining(steps=1000, alternate_from=0.5, updates_every=4)
    leaps = [501 + 4 * n for n in range(20)]  # of which no one can be divided by four
    assert [n for n, at in enumerate(leaps) if not config.features_alone(at, 30 + n)] == [2, 6, 10, 14, 18]
    assert not any(config.features_alone(at, 30 + n) for n, at in enumerate(range(300, 400, 5)))


def test_all_processes_stand_where_the_first_does(monkeypatch, tmp_path):
    monkeypatch.setattr(trainer, "said_by_first", lambda at, processes: SHORT.steps)
    run(SHORT, tmp_path)
    assert checkpoint_of(tmp_path)["step"] == 0


@pytest.mark.parametrize("how, named", [({"minutes": 1.0}, "--minutes"), ({"device": "cuda"}, "a GPU whose workers")])
def test_late_starts_do_not_begin_on_the_way_of_a_run_of_unknown_samples(how, named, tmp_path):
    with pytest.raises(ValueError, match=f"late_from: expected 0 .* or 1 .* with {named}.*, got 0.533"):
        run(replace(SHORT, batch=8), tmp_path, **how)


def test_starts_are_late_from_the_share_that_is_asked_for():
    def late_from(share):
        stream = trainer.made_for(replace(SHORT, late_from=share, reuse=3, steps=12), 0, 0, 2)._batches.dataset
        return stream.late_from

    assert [late_from(share) for share in (0.0, 0.5, 1.0)] == [0, 4, None]


def test_a_batch_that_the_processes_cannot_share_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(trainer, "join_processes", lambda: (0, 4))
    with pytest.raises(ValueError, match="batch: expected a multiple of the 4 processes, got 6"):
        run(RefinerTraining(batch=6), tmp_path)


def test_training_has_the_threads_it_asks_for(tmp_path):
    train(replace(SHORT, steps=1), tmp_path, workers=0, threads=2, save_every=1000, max_minutes=None)
    assert torch.get_num_threads() == 2


# --- learning


def test_training_lowers_the_losses_on_samples_it_has_not_seen(tmp_path):
    config = RefinerTraining(crop=64, steps=30, batch=4, learning_rate=1e-3, features_until=1 / 3,
                             late_from=1.0, alternate_from=1.0)
    still = replace(config, learning_rate=0.0)  # sees the same samples, so that only learning is compared
    run(config, tmp_path / "learning", log_every=10)
    run(still, tmp_path / "still", log_every=10)
    learning, still = (log_of(tmp_path / name) for name in ("learning", "still"))
    assert [entry["step"] for entry in learning] == [10, 20, 30]
    assert [("loss" in entry) for entry in learning] == [False, True, True]
    assert all(entry["skipped"] == 0 for entry in learning)
    assert learning[-1]["match"] < learning[0]["match"]
    assert learning[-1]["start"] == still[-1]["start"]
    shares = {name: learning[-1][name] / still[-1][name] for name in ("match", "loss", "cert")}
    assert shares["match"] < 0.92 and shares["loss"] < 0.85 and shares["cert"] < 0.8, shares


def test_the_weights_file_holds_the_average(whole):
    network = GenFlow(load_config(whole / "genflow_t.safetensors", "genflow", GenFlowConfig))
    load_weights(whole / "genflow_t.safetensors", network)
    saved = checkpoint_of(whole)
    assert network.config == SIZES["T"] and saved["average_count"] == SHORT.steps
    for name, value in network.state_dict().items():
        assert torch.equal(value, saved["average"][name].half().float())
    assert not torch.equal(saved["average"]["features.out_8.weight"], saved["module"]["features.out_8.weight"])


def learnt_parts(folder):
    """Parts of the network that are no longer as they began."""
    torch.manual_seed(SHORT.seed)
    fresh, trained = GenFlow(SIZES["T"]).state_dict(), checkpoint_of(folder)["module"]
    return {name.split(".")[0] for name in fresh if not torch.equal(fresh[name], trained[name])}


def test_features_alone_leave_the_rest_of_the_network(tmp_path, whole):
    run(replace(SHORT, steps=2, features_until=1.0), tmp_path)
    assert learnt_parts(tmp_path) == {"features"}
    assert learnt_parts(whole) == {"features", "context", "update_8", "update_4"}


def test_the_rate_follows_the_schedule_and_biases_do_not_decay(whole):
    groups = checkpoint_of(whole)["optimiser"]["param_groups"]
    rate = SHORT.learning_rate * one_cycle(SHORT.steps - 1, SHORT.steps)
    assert [group["lr"] for group in groups] == [rate, rate]
    assert [group["weight_decay"] for group in groups] == [SHORT.weight_decay, 0]
    biases = sum(p.ndim == 1 for p in GenFlow(SIZES["T"]).parameters())
    assert len(groups[1]["params"]) == biases


def test_a_step_without_a_finite_gradient_is_skipped(monkeypatch, tmp_path):
    make = trainer.batches_of

    def second_is_broken(stream, workers):
        for number, batch in enumerate(make(stream, workers)):
            yield replace(batch, query_rgb=batch.query_rgb * math.nan) if number == 1 else batch

    monkeypatch.setattr(trainer, "batches_of", second_is_broken)
    run(replace(SHORT, steps=3, features_until=1.0), tmp_path, log_every=1)
    assert [entry["skipped"] for entry in log_of(tmp_path)] == [0, 1, 0]
    saved = checkpoint_of(tmp_path)
    assert saved["step"] == 3 and saved["average_count"] == 2
    assert all(value.isfinite().all() for value in saved["module"].values())


# --- what it shows

class Shown:
    """Stands where TensorBoard's writer would."""

    def __init__(self):
        self.scalars, self.images = [], []

    def add_scalar(self, name, value, step):
        self.scalars.append((name, step))

    def add_image(self, name, image, step, dataformats):
        self.images.append((step, image.shape))

    def flush(self):
        pass

    close = flush


def test_figures_and_pictures_are_shown_and_change_nothing(whole, monkeypatch, tmp_path):
    shown = Shown()
    monkeypatch.setattr(journal, "event_writer", lambda folder, step: shown)
    run(SHORT, tmp_path, save_every=3, log_every=2)
    assert shown.images == [(3, (2 * 64, 6 * 64, 3)), (6, (2 * 64, 6 * 64, 3))]
    assert [step for name, step in shown.scalars if name == "match"] == [2, 4, 6]
    assert {"loss", "epe", "cert", "pose", "skipped"} <= {name for name, _ in shown.scalars}
    assert_same_run(tmp_path, whole)


def test_a_run_tells_its_speed_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(trainer, "FirstLook", partial(FirstLook, seconds=0))
    run(SHORT, tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "samples/s" in line]
    assert len(said) == 1 and "; 2 steps more like these take 0:0" in said[0]
    assert "2 by another loss come beside them" in said[0]


# --- stopping and going on


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_a_run_that_ran_out_of_time_goes_on_exactly(whole, monkeypatch, tmp_path, steps):
    with monkeypatch.context() as patch:
        minutes = count()  # one passes whenever the clock is read: once a step
        patch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: 60 * next(minutes)))
        run(SHORT, tmp_path, max_minutes=steps)
    assert checkpoint_of(tmp_path)["step"] == steps
    run(SHORT, tmp_path)
    assert_same_run(tmp_path, whole)


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(whole, monkeypatch, tmp_path):
    make = trainer.batches_of

    def killed_after_five(stream, workers):
        yield from islice(make(stream, workers), 5)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "batches_of", killed_after_five)
        with pytest.raises(KeyboardInterrupt):
            run(SHORT, tmp_path, save_every=2)
    assert checkpoint_of(tmp_path)["step"] == 4
    run(SHORT, tmp_path)
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_step_and_it_goes_on_exactly(whole, monkeypatch, tmp_path, number):
    learn = trainer.learn

    def signalled(learner, *args):
        os.kill(os.getpid(), number)
        return learn(learner, *args)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "learn", signalled)
        with pytest.raises(KeyboardInterrupt):
            run(SHORT, tmp_path)
    assert checkpoint_of(tmp_path)["step"] == 1 and (tmp_path / "genflow_t.safetensors").exists()
    assert signal.getsignal(number) == before
    run(SHORT, tmp_path)
    assert_same_run(tmp_path, whole)


def test_a_run_that_was_killed_outright_loses_and_repeats_no_step(whole, tmp_path):
    how = {"workers": 0, "threads": 1, "save_every": 2, "max_minutes": None, "log_every": 1}
    process = multiprocessing.get_context("spawn").Process(target=train, args=(SHORT, tmp_path), kwargs=how)
    process.start()
    log = tmp_path / "log.jsonl"
    while process.is_alive() and not (log.exists() and log.read_text().count("\n") >= 3):
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and checkpoint_of(tmp_path)["step"] < SHORT.steps
    run(SHORT, tmp_path, log_every=1)
    assert [line["step"] for line in log_of(tmp_path)] == list(range(1, SHORT.steps + 1))
    assert_same_run(tmp_path, whole)


def test_equal_runs_give_equal_weights_and_a_finished_run_stays_as_it_is(whole, tmp_path, capsys):
    run(SHORT, tmp_path)
    capsys.readouterr()
    run(SHORT, tmp_path)
    assert f"{tmp_path} is finished at step 6; nothing is trained" in capsys.readouterr().err
    assert_same_run(tmp_path, whole)


def test_a_run_may_be_made_longer_and_nothing_else(tmp_path, capsys):
    config = replace(SHORT, steps=1)
    run(config, tmp_path)
    run(replace(config, steps=2), tmp_path)
    assert f"{tmp_path} goes on at step 1" in capsys.readouterr().err
    assert checkpoint_of(tmp_path)["step"] == 2
    with pytest.raises(ValueError, match="learning_rate: checkpoint 0.0005, asked for 0.001"):
        run(replace(config, learning_rate=1e-3), tmp_path)


# --- beginning with weights, and using samples again

def test_a_run_can_begin_with_weights(whole, tmp_path):
    begun = run(replace(SHORT, steps=0), tmp_path, start=whole / "genflow_t.safetensors")
    torch.testing.assert_close(load_file(begun), load_file(whole / "genflow_t.safetensors"), rtol=0, atol=0)
    with pytest.raises(ValueError, match="init_from: checkpoint '[0-9a-f]{64}', asked for '[0-9a-f]{64}'"):
        run(replace(SHORT, steps=0), tmp_path, start=shipped_folder() / "genflow_t.safetensors")


def test_a_refiner_for_the_last_steps_has_a_name_of_its_own_and_goes_on_with_its_task_alone(whole, tmp_path):
    config = replace(SHORT, task="settle", steps=1)
    made = run(config, tmp_path, start=whole / "genflow_t.safetensors")
    assert made == tmp_path / "settle_t.safetensors" and made.exists()
    with pytest.raises(ValueError, match="task: checkpoint 'settle', asked for 'search'"):
        run(replace(config, task="search"), tmp_path)
    with pytest.raises(ValueError, match="task: expected one of search, settle, got 'rest'"):
        replace(SHORT, task="rest")


def test_updates_can_learn_on_features_that_stay_as_they_are(whole, tmp_path):
    begin = whole / "genflow_t.safetensors"
    first = run(replace(SHORT, fixed_features=True), tmp_path / "first", start=begin)
    before, after = load_file(begin), load_file(first)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("features.")} <= same
    assert any(name.startswith("update_4.") for name in before.keys() - same)
    second = run(replace(SHORT, steps=1, fixed_features=True), tmp_path / "second", start=first)
    assert features_hash(second) == features_hash(first) == features_hash(begin) == file_hash(begin)
    with pytest.raises(ValueError, match=r"fixed_features: expected weights to begin with \(--init-from\), got none"):
        run(replace(SHORT, fixed_features=True), tmp_path / "third")


@pytest.mark.parametrize("name", ["flow_l1", "pose"])
def test_the_weights_of_losses_are_those_asked_for(name, whole, tmp_path):
    """The loss of one step on the same samples grows in equal steps with the weight."""
    config = replace(SHORT, steps=1, fixed_features=True, features_until=0.0, pose_from=-1.0)
    losses = []
    for weight in (0.0, 0.5, 1.0):
        folder = tmp_path / str(weight)
        run(replace(config, **{name: weight}), folder, start=whole / "genflow_t.safetensors", log_every=1)
        (figures,) = log_of(folder)
        assert "match" not in figures  # features that stay as they are need no loss of their own
        losses.append(figures["loss"])
    assert losses[1] > losses[0]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)


def test_weights_of_another_size_are_refused(whole, tmp_path):
    with pytest.raises(ValueError, match="expected a refiner of size S"):
        run(replace(SHORT, size="S"), tmp_path, start=whole / "genflow_t.safetensors")


@pytest.mark.parametrize("field, value, wanted", [
    ("reuse", 0, "at least 1"), ("batch", 0, "at least 1"), ("crop", 100, "a multiple of 16 pixels"),
    ("crop", 0, "a multiple of 16 pixels"), ("pose_ramp", 0.0, "more than 0")])
def test_fields_out_of_their_range_are_refused(field, value, wanted):
    with pytest.raises(ValueError, match=f"{field}: expected {wanted}, got {value}"):
        replace(SHORT, **{field: value})


@pytest.mark.parametrize("asked, said", [
    ("--size XL", "invalid choice: 'XL'"), ("--crop 100", "train_refiner: crop: expected a multiple of 16 pixels, got"),
    ("--save-every 0", "argument --save-every"), ("--threads 0", "argument --threads"),
    ("--init-from no.safetensors --steps 1 --workers 0", "train_refiner: weights no.safetensors: expected")])
def test_what_a_user_can_mend_is_one_line_and_an_exit_code_of_two(asked, said, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["train_refiner.py", "--folder", str(tmp_path), *asked.split()])
    with pytest.raises(SystemExit) as ended:
        train_refiner.main()
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last


def test_a_store_feeds_the_training_and_the_clock_ends_it(tmp_path):
    config = replace(SHORT, batch=8, kept=16, steps=1000, late_from=0.0)
    run(config, tmp_path, log_every=1, device="cpu:0", eager=True, minutes=0.1)
    log = log_of(tmp_path)
    assert 1 <= len(log) < 1000 and all(entry["made"] >= 32 and entry["skipped"] == 0 for entry in log)


def test_a_store_is_not_shared_and_its_batches_go_round(tmp_path):
    with pytest.raises(ValueError, match="device cuda: expected one process and a batch .* of 8, got 1 and 12"):
        run(replace(SHORT, batch=12), tmp_path, device="cuda")


def test_reused_samples_train_too(tmp_path):
    run(replace(SHORT, reuse=3), tmp_path, log_every=1)
    assert [line["step"] for line in log_of(tmp_path)] == list(range(1, SHORT.steps + 1))
    assert all(math.isfinite(line["match"]) for line in log_of(tmp_path))
