"""Each part alone and both together, measured on a run as it is, small."""

import pytest

from training import throughput
from training.speed import Speed

pytestmark = pytest.mark.usefixtures("same_everywhere")


def test_the_share_is_of_the_slower_part():
    assert throughput.rows_of(10.0, 4.0, Speed(3.0, 3.0, 0.0), 1)[2] == ("both together", 3.0, 3.0, "75%")
    assert throughput.rows_of(2.0, 9.0, Speed(1.0, 1.0, 0.0), 1)[2][-1] == "50%"
    assert throughput.rows_of(2.0, 9.0, Speed(1.9, 7.6, 0.0), 4)[2][-1] == "95%"
    assert throughput.rows_of(2.0, 90.0, Speed(2.0, 81.0, 0.0), float("inf"))[2][-1] == "90%"


def test_the_command_prints_a_table(capsys):
    throughput.main("--crop 64 --batch 2 --workers 0 --seconds 1".split())
    header, _, alone, network, both, about = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "what"
    made, learnt = (float(line.replace("-", "").split()[-1]) for line in (alone, network))
    assert made > 0 and learnt > 0
    assert both.startswith("both together") and both.endswith("%")
    assert about.startswith("batches of 2, 64 pixels, size T, cpu; 0 workers")


def test_a_run_that_has_no_time_for_two_steps_says_so():
    config = throughput.RefinerTraining(crop=64, batch=2, **throughput.ALL_UPDATES)
    with pytest.raises(ValueError, match="seconds: expected time for more than 2 steps of both, got 0.0001"):
        throughput.both_together(config, 1e-4, device="cpu", workers=0, threads=1)
