"""The parts that all trainers share."""

import math
import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn
from two_processes import gradients_of, share_gradients, tiny_module

from training.loop import (Average, Running, agreed, average_gradients, descend, join_processes, load_checkpoint,
                           one_cycle, said_by_first, save_checkpoint)


def test_the_rate_rises_in_a_line_to_its_peak_and_falls_in_a_cosine():
    rate = [one_cycle(step, 200) for step in range(201)]
    assert rate[:11] == pytest.approx([*[k / 10 for k in range(1, 11)], 1.0])
    assert all(a > b for a, b in zip(rate[10:], rate[11:]))
    assert rate[105] == pytest.approx(0.01 + 0.99 / 2)
    assert rate[200] == pytest.approx(0.01)
    assert one_cycle(10_000, 200) == pytest.approx(0.01)
    assert one_cycle(57, 200) - one_cycle(58, 200) == pytest.approx(
        0.99 / 2 * (math.cos(math.pi * 47 / 190) - math.cos(math.pi * 48 / 190)))


@pytest.mark.parametrize("steps", [1, 2, 7, 30, 110, 7500])
def test_the_rate_stays_between_nothing_and_its_peak(steps):
    rate = [one_cycle(step, steps) for step in range(steps)]
    assert 0 < min(rate) and max(rate) == 1


class Counter(nn.Module):
    """A weight, a counter that is no float, and a way to set both."""

    def __init__(self, value=0.0, count=0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("count", torch.tensor(count))

    def set(self, value, count):
        with torch.no_grad():
            self.weight.fill_(value)
            self.count.fill_(count)


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_follows_its_formula_from_the_first_step(decay):
    module = Counter(4.0)
    average = Average(module, decay)
    wanted = 4.0
    for n, value in enumerate([1.0, -2.0, 5.0, 5.0, 3.0, -7.0, 0.5], start=1):
        module.set(value, 10 * n)
        average.update(module)
        keep = min(decay, (1 + n) / (10 + n))
        wanted = keep * wanted + (1 - keep) * value
        assert average.state["weight"].item() == pytest.approx(wanted, rel=1e-5)
        assert average.state["count"] == 10 * n
        assert module.weight.item() == value
    assert average.count == 7


def test_the_average_of_a_long_still_stand_is_where_it_stands():
    module = Counter(100.0)
    average = Average(module, 0.9)
    module.set(1.0, 0)
    for _ in range(200):
        average.update(module)
    assert average.state["weight"].item() == pytest.approx(1.0, rel=1e-4)


def trained(steps, seed=0):
    """A small network after some steps: module, average, optimiser."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW([{"params": module[0].parameters(), "weight_decay": 0.1},
                                   {"params": module[1].parameters(), "weight_decay": 0.0}], lr=0.01)
    average = Average(module)
    take_steps(module, average, optimiser, steps)
    return module, average, optimiser


def take_steps(module, average, optimiser, steps):
    """Steps on random input: the state of the random numbers counts too."""
    for _ in range(steps):
        optimiser.zero_grad()
        module(torch.randn(3, 2, 6, 6)).square().mean().backward()
        optimiser.step()
        average.update(module)


def assert_same(one, other):
    """Two of `trained` are equal to the last bit."""
    exactly = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(one[0].state_dict(), other[0].state_dict(), **exactly)
    torch.testing.assert_close(one[1].state, other[1].state, **exactly)
    assert one[1].count == other[1].count
    torch.testing.assert_close(one[2].state_dict(), other[2].state_dict(), **exactly)


def test_a_checkpoint_gives_all_back_and_goes_on_as_if_nothing_had_been(tmp_path):
    path = tmp_path / "new" / "checkpoint.pt"
    first = trained(5)
    save_checkpoint(path, step=5, config={"size": "T"}, module=first[0], average=first[1], optimiser=first[2])
    again = trained(2, seed=1)
    step = load_checkpoint(path, config={"size": "T"}, module=again[0], average=again[1], optimiser=again[2])
    assert step == 5
    assert_same(again, first)
    take_steps(*again, 3)
    assert_same(again, trained(8))


def test_a_checkpoint_replaces_the_older_one_as_a_whole(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for step in (1, 2):
        module, average, optimiser = trained(step)
        save_checkpoint(path, step=step, config={}, module=module, average=average, optimiser=optimiser)
    assert load_checkpoint(path, config={}, module=module, average=average, optimiser=optimiser) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_failed_write_leaves_the_older_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    module, average, optimiser = trained(1)
    parts = {"module": module, "average": average, "optimiser": optimiser}
    save_checkpoint(path, step=1, config={}, **parts)

    def disk_full(content, part):
        part.write_bytes(b"half of")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match=r"checkpoint.pt: .* got \d+ MiB free .*no space left"):
        save_checkpoint(path, step=2, config={}, **parts)
    assert load_checkpoint(path, config={}, **parts) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_is_told_with_the_checkpoint_that_it_has_no_room_for(tmp_path):
    module, average, optimiser = trained(1)
    (tmp_path / "checkpoint.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="checkpoint.pt: expected room to write it"):
        save_checkpoint(tmp_path / "checkpoint.pt", step=2, config={}, module=module, average=average,
                        optimiser=optimiser)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_checkpoint_that_was_cut_is_named(tmp_path, left):
    path = tmp_path / "checkpoint.pt"
    module, average, optimiser = trained(1)
    parts = {"module": module, "average": average, "optimiser": optimiser}
    save_checkpoint(path, step=1, config={}, **parts)
    path.write_bytes(path.read_bytes()[:int(left * path.stat().st_size)])
    with pytest.raises(ValueError, match="checkpoint .*checkpoint.pt: expected a whole one"):
        load_checkpoint(path, config={}, **parts)


def test_a_checkpoint_of_another_configuration_is_refused_and_changes_nothing(tmp_path):
    path = tmp_path / "checkpoint.pt"
    module, average, optimiser = trained(3)
    saved = {"size": "T", "crop": 128, "batch": 6, "steps": 100}
    save_checkpoint(path, step=3, config=saved, module=module, average=average, optimiser=optimiser)
    other = trained(1, seed=1)
    parts = {"module": other[0], "average": other[1], "optimiser": other[2]}
    with pytest.raises(ValueError) as refused:
        load_checkpoint(path, config={"size": "S", "crop": 128, "batch": 4}, **parts)
    assert str(path) in str(refused.value)
    assert "size: checkpoint 'T', asked for 'S'" in str(refused.value)
    assert "batch: checkpoint 6, asked for 4" in str(refused.value)
    assert "crop" not in str(refused.value).removeprefix(str(path))
    assert_same(other, trained(1, seed=1))
    with pytest.raises(ValueError, match="clip: checkpoint None, asked for 1.0"):
        load_checkpoint(path, config={"clip": 1.0}, **parts)


def test_running_means_are_over_the_window():
    running = Running(window=3)
    for value in (100.0, 1.0, 2.0, 6.0):
        running.add(loss=value)
    running.add(epe=7.0)
    assert running.means() == {"loss": 3.0, "epe": 7.0}


def test_a_process_alone_decides_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes() == (0, 1)
    assert agreed(True, 1) and not agreed(False, 1)
    assert said_by_first(7, 1) == 7
    module = tiny_module()
    wanted = gradients_of(module, 0)
    average_gradients(module, 1)
    for name, gradient in wanted.items():
        assert torch.equal(module.get_parameter(name).grad, gradient)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_two_processes_do_what_the_clock_of_the_first_says():
    says = ("from training.loop import join_processes, said_by_first; rank, processes = join_processes(); "
            "print(said_by_first(4 + rank, processes), said_by_first(9 - rank, processes))")
    there = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    both = [subprocess.Popen([sys.executable, "-c", says], env=there | {"RANK": rank}, stdout=subprocess.PIPE,
                             text=True) for rank in "01"]
    assert [each.communicate(timeout=60)[0] for each in both] == ["4 9\n", "4 9\n"]


def test_two_processes_share_their_mean_gradient_and_their_decisions(tmp_path):
    torch.multiprocessing.spawn(share_gradients, (free_port(), tmp_path), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert [f["joined"] for f in found] == [(0, 2), (1, 2)]
    assert all(f["votes"] == [True, False] for f in found)
    module = tiny_module()
    own = [gradients_of(module, rank) for rank in (0, 1)]
    for each in found:
        assert each["gradients"].keys() == own[0].keys() < dict(module.named_parameters()).keys()
        for name, gradient in each["gradients"].items():
            torch.testing.assert_close(gradient, (own[0][name] + own[1][name]) / 2)
            assert not torch.allclose(gradient, own[0][name])
            assert torch.equal(gradient, found[0]["gradients"][name])


def test_a_step_is_no_longer_than_its_rate_and_counts_in_the_average():
    module = nn.Linear(3, 1, bias=False)
    begin, average = module.weight.detach().clone(), Average(module)
    optimiser = torch.optim.SGD(module.parameters(), lr=9.0)
    descend(module, optimiser, average, 1e6 * module.weight.sum(), 0.01)
    assert (module.weight - begin).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert not torch.equal(average.state["weight"], begin)
