from flowpose_ros.runtime.drop_log import DropLog


def test_counts_by_reason():
    drops = DropLog()
    drops.add("clipped")
    drops.add("clipped", count=4)
    drops.add("unknown_class", "expected mug, got 'cup'")
    assert drops.counts() == {"clipped": 5, "unknown_class": 1}


def test_news_tell_growth_with_the_latest_detail_but_not_too_often():
    drops = DropLog()
    drops.add("unknown_class", "got 'cup'")
    assert drops.news(now=0.0) == ["unknown_class: 1 left out: got 'cup'"]
    drops.add("unknown_class", "got 'pan'", count=2)
    assert drops.news(now=1.0) == []
    assert drops.news(now=11.0) == ["unknown_class: 2 left out: got 'pan'"]
    assert drops.news(now=30.0) == []


def test_a_detail_is_optional():
    drops = DropLog()
    drops.add("clipped")
    assert drops.news(now=0.0) == ["clipped: 1 left out"]


def test_what_was_counted_elsewhere_is_no_news():
    drops = DropLog()
    drops.add("stale", "by 3 s")
    drops.take_over({"stale": 4, "superseded": 2})
    assert drops.counts() == {"stale": 5, "superseded": 2}
    assert drops.news(now=0.0) == ["stale: 1 left out: by 3 s"]
    drops.add("superseded", "again")
    assert drops.news(now=20.0) == ["superseded: 1 left out: again"]
