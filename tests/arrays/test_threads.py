"""Threads: limited where there are any, and not asked for where there are none."""

import sys
from types import SimpleNamespace

from threadpoolctl import threadpool_info

from mgt_np.arrays.threads import has_threads, limited, watched


def most():
    return max((info["num_threads"] for info in threadpool_info()), default=1)


def test_linear_algebra_is_limited_within_the_block():
    before = most()
    with limited(1):
        assert most() == 1
    assert most() == before


def test_a_browser_has_no_threads_to_limit_or_to_watch_with(monkeypatch):
    bar = SimpleNamespace(monitor_interval=10)
    assert has_threads()
    assert watched(bar).monitor_interval == 10
    monkeypatch.setattr(sys, "platform", "emscripten")
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert not has_threads()
    assert watched(bar) is bar
    assert bar.monitor_interval == 0
    with limited(1):
        pass
