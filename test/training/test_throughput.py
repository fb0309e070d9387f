"""Each part alone and both together, measured on a run as it is, small."""

import pytest

from training import throughput

pytestmark = pytest.mark.usefixtures("same_everywhere")


@pytest.mark.parametrize("reuse", [1, 2])
def test_the_command_prints_what_each_part_reaches_alone_and_both_together(capsys, reuse):
    throughput.main(f"--crop 64 --batch 2 --workers 0 --seconds 0.1 --reuse {reuse}".split())
    header, _, *rows, about = capsys.readouterr().out.splitlines()
    assert header.startswith("what") and header.endswith("of the slower")
    alone, network, both = (row[len("network alone"):].split() for row in rows)
    made, learnt = float(alone[0]), float(network[1])
    assert alone[1:] == ["-", "-"] and network[0] == network[2] == "-"
    assert float(both[1]) == pytest.approx(reuse * float(both[0]), abs=0.01)
    share = float(both[1]) / min(learnt, reuse * made)
    assert float(both[2].rstrip("%")) == pytest.approx(100 * share, abs=2)
    assert about.startswith("batches of 2, 64 pixels, size T, cpu; 0 workers")
