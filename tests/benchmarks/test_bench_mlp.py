import numpy as np
import pytest

from benchmarks.mlp import MLPPredictor, Settings, examples, fit_mlp, views

QUICK = Settings(epochs=60)


def test_examples_by_hand():
    rows, curves = np.array([[7.0], [8.0]]), np.array([[4.0, 3, 2, 1], [8.0, 6, 4, 2]])
    inputs, targets = examples(rows, curves, 2)
    # configuration | steps 1 2 | values | target step
    np.testing.assert_array_equal(
        inputs, [[7, 1, 2, 4, 3, 3], [7, 1, 2, 4, 3, 4], [8, 1, 2, 8, 6, 3], [8, 1, 2, 8, 6, 4]]
    )
    np.testing.assert_array_equal(targets, [2, 1, 4, 2])


def test_views_share_memory_with_the_flat_vector():
    flat = np.zeros(2 * 3 + 3 + 3 * 1 + 1)
    weights, biases = views(flat, [(2, 3), (3, 1)])
    weights[0][:], biases[1][:] = 1, 2
    assert flat.sum() == 6 + 2


def test_mlp_learns_a_function_and_is_seeded():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    y = 5 + 2 * X[:, 0] - np.abs(X[:, 1])
    new = rng.normal(size=(80, 4))
    truth = 5 + 2 * new[:, 0] - np.abs(new[:, 1])
    got = fit_mlp(X, y, 1, QUICK).predict(new)
    assert 1 - np.mean((got - truth) ** 2) / truth.var() > 0.7
    np.testing.assert_array_equal(fit_mlp(X, y, 1, QUICK).predict(new), got)
    assert not np.array_equal(fit_mlp(X, y, 2, QUICK).predict(new), got)


def test_weight_decay_shrinks():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    size = [
        sum(np.sum(w**2) for w in fit_mlp(X, y, 0, Settings(epochs=30, weight_decay=d)).weights) for d in (1e-4, 1.0)
    ]
    assert size[1] < 0.5 * size[0]


def test_predictor_on_curves(tasks):
    task = tasks[0]
    model = MLPPredictor(0, QUICK).fit(task.rows[:20], task.eval_loss[:20], 4)
    got = model.predict(task.rows[20:], task.eval_loss[20:, :4])
    assert np.corrcoef(got, task.eval_loss[20:, -1])[0, 1] > 0.5
    assert got.mean() == pytest.approx(task.eval_loss[20:, -1].mean(), rel=0.2)
