import pytest

from engine.explain.cost import passes, usual_bytes
from engine.explain.settings import Measures, Settings


def counted(method, targets=1, units="word", faithfulness=0.0, stability=0.0, **settings):
    return passes(method, Settings(**settings), Measures(), targets, units, faithfulness, stability)


def test_passes_by_hand():
    assert counted("pooling") == 2 + 1
    assert counted("attnlrp", targets=2) == 2 + 2 * 3
    assert counted("integrated_gradients", steps=20) == 2 + 60
    assert counted("lime", samples=80) == 2 + 80
    assert counted("kernel_shap", units="sentence") == 2 + 4 * 60


def test_random_copies_are_asked_for_once_and_ranked_ones_for_each_target():
    assert counted("pooling", targets=2, faithfulness=1.0) - counted("pooling", targets=2) == 5 * 10 + 2 * 10
    assert counted("pooling", faithfulness=0.1) == pytest.approx(2 + 1 + 6)


def test_stability_explains_every_copy_again():
    more = counted("attnlrp", targets=2, stability=0.5, perturbations=4) - counted("attnlrp", targets=2)
    assert more == pytest.approx(2 * 0.5 * 4 * (3 + 1))


def test_slow_methods_cost_more():
    order = ["random", "attnlrp", "occlusion", "integrated_gradients", "kernel_shap"]
    costs = [counted(method) for method in order]
    assert costs == sorted(costs) and counted("fused") > 8 * counted("attnlrp")


def test_a_shard_is_some_seconds_of_work():
    assert usual_bytes(0.8, gpu=False) == 20 * 8 * 1024
    assert usual_bytes(99.8, gpu=True) == 20 * 8 * 1024 * 50 // 100
    assert (
        usual_bytes(0.0, gpu=False) == 800 * 1024 and usual_bytes(0.0, gpu=True) == 1024**2 and usual_bytes(1e9, gpu=False) == 1
    )
