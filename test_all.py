"""Everything that must hold: python test_all.py (-v to see each test, -k cnn for one script; pytest works too).

Needs NumPy and matplotlib only, no network, no screen. Where PyTorch is installed, the same nets are also compared
with it; elsewhere those tests are skipped, and say so.
"""
import contextlib
import gzip
import hashlib
import io
import itertools
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

os.environ["MPLBACKEND"] = "Agg"

import numpy as np

import datasets
import mlp
import perceptron

try:
    import torch
except ImportError:
    torch = None

HERE = Path(__file__).parent
SCRIPTS = [name for name in ("perceptron", "mlp", "cnn", "rnn", "autoencoder") if (HERE / f"{name}.py").exists()]
README = (HERE / "README.md").read_text(encoding="utf-8")
rng = np.random.default_rng(7)
needs_torch = unittest.skipIf(torch is None, "PyTorch is not installed")


# --- Tools ----------------------------------------------------------------------------------------------------

def away_from_zero(*shape):
    """Random numbers at least 0.1 from 0, where ReLU has its kink."""
    return rng.choice([-1, 1], shape) * rng.uniform(0.1, 2, shape)


def double(*layers):
    """The layers as a net in float64, all parameters random: zero biases would hide a missing term."""
    for layer in layers:
        for name in layer.params:
            setattr(layer, name, 0.5 * rng.standard_normal(getattr(layer, name).shape))
    return mlp.Sequential(*layers)


def numeric(f, a, eps=1e-5):
    """The gradient of the number f() by the array a, by central differences."""
    gradient = np.empty_like(a)
    for i in np.ndindex(a.shape):
        old = a[i]
        a[i] = old + eps
        above = f()
        a[i] = old - eps
        gradient[i] = (above - f()) / (2 * eps)
        a[i] = old
    return gradient


class Test(unittest.TestCase):
    def close(self, a, b, tolerance=1e-9, what=""):
        """The arrays have one shape and differ by less than tolerance, relative to their size."""
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        self.assertEqual(a.shape, b.shape, what)
        self.assertLess(np.linalg.norm(a - b), tolerance * max(np.linalg.norm(a) + np.linalg.norm(b), 1e-3), what)

    def check_gradients(self, net, X, **options):
        """Every gradient of the net at X, under a random upstream gradient, against central differences."""
        upstream = rng.standard_normal(net.forward(X, **options).shape)

        def f():
            return float(np.sum(upstream * net.forward(X, **options)))

        f()
        self.close(net.backward(upstream), numeric(f, X), 1e-7, "dX")
        self.close(net.dtheta, numeric(f, net.theta), 1e-7, "dtheta")

    def check_loss(self, loss, Z, y):
        loss.forward(Z, y)
        self.close(loss.backward(), numeric(lambda: loss.forward(Z, y), Z), 1e-7, type(loss).__name__)

    def run_main(self, script, *argv):
        """What script.main returns and prints, its figure in a folder that goes away."""
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
            result = script.main([*argv, "--no-show", "--figure", f"{folder}/figure.png"])
            self.assertTrue(Path(folder, "figure.png").stat().st_size > 10_000)
        return result, out.getvalue()

    def fails(self, words, f, *args):
        """f raises a UserError, one line that has all the words."""
        with self.assertRaises(datasets.UserError) as caught:
            f(*args)
        for word in words.split():
            self.assertIn(word, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


# --- perceptron.py --------------------------------------------------------------------------------------------

class TestPerceptron(Test):
    def test_gradients(self):
        for rule, N in itertools.product(perceptron.RULES, (1, 6)):
            neuron = perceptron.Perceptron(4, rule)
            neuron.w, neuron.b = rng.standard_normal((4, 1)), rng.standard_normal((1, 1))
            X, y = rng.standard_normal((4, N)), rng.integers(0, 2, (1, N)).astype(float)

            def f():
                neuron.forward(X)
                return neuron.loss(neuron.z, y)

            f()
            neuron.backward(y)
            for name in "wb":
                self.close(getattr(neuron, "d" + name), numeric(f, getattr(neuron, name)), 1e-7, rule + name)

    def test_steps_from_the_formula(self):
        X, y = rng.standard_normal((3, 5)), np.array([[0, 1, 1, 0, 1.0]])
        for rule, answer in ("logistic", lambda z: 1 / (1 + math.exp(-z))), ("rosenblatt", lambda z: float(z > 0)):
            neuron = perceptron.Perceptron(3, rule)
            w, b = [0.0] * 3, 0.0
            for _ in range(4):
                neuron.forward(X)
                neuron.backward(y)
                neuron.update(0.3)
                errors = [answer(sum(w[d] * X[d, n] for d in range(3)) + b) - y[0, n] for n in range(5)]
                w = [w[d] - 0.3 * sum(e * X[d, n] for n, e in enumerate(errors)) / 5 for d in range(3)]
                b -= 0.3 * sum(errors) / 5
            self.close(neuron.w[:, 0], w, 1e-6)
            self.close(neuron.b[0], [b], 1e-6)

    def test_learns_a_line_and_fails_without_one(self):
        for rule in perceptron.RULES:
            self.assertGreater(self.run_main(perceptron, "--rule", rule)[0]["accuracy"], 0.9)
        self.assertLess(self.run_main(perceptron, "--dataset", "xor")[0]["accuracy"], 0.7)
        self.assertLess(self.run_main(perceptron, "--dataset", "circles")[0]["accuracy"], 0.7)

    def test_any_two_classes(self):
        result, out = self.run_main(perceptron, "--dataset", "digits", "--classes", "3", "8", "--epochs", "5")
        self.assertGreater(result["accuracy"], 0.85)
        self.assertIn("3 or 8", out)
        self.fails("--classes two different", perceptron.main, ["--dataset", "digits", "--classes", "3", "3"])
        self.fails("--classes two different", perceptron.main, ["--dataset", "iris", "--classes", "rose", "setosa"])

    def test_extreme_logits(self):
        z = np.array([[1e4, -1e4, 1e4, -1e4]], np.float32)
        with np.errstate(all="raise", under="ignore"):
            self.assertEqual(perceptron.log_loss(z, np.array([[1, 0, 0, 1]])), 5000)
            self.assertEqual(perceptron.sigmoid(z).tolist(), [[1, 0, 1, 0]])


# --- mlp.py ---------------------------------------------------------------------------------------------------

class TestMlp(Test):
    def test_gradients_of_layers(self):
        for N, D, K in (1, 3, 2), (5, 4, 3), (2, 1, 4):
            self.check_gradients(double(mlp.Linear(D, K, rng)), rng.standard_normal((D, N)))
        for layer in mlp.Sigmoid, mlp.Tanh, mlp.ReLU, mlp.Softmax:
            self.check_gradients(double(mlp.Linear(4, 4, rng), layer()), rng.standard_normal((4, 3)))
            X, upstream = away_from_zero(4, 3), rng.standard_normal((4, 3))
            alone = layer()
            alone.forward(X)
            self.close(alone.backward(upstream), numeric(lambda: np.sum(upstream * alone.forward(X)), X), 1e-7)

    def test_gradient_of_dropout(self):
        class Rewound:
            """Draws the same mask every time."""
            def random(self, shape, dtype):
                return np.random.default_rng(3).random(shape, dtype)

        self.check_gradients(double(mlp.Linear(4, 6, rng), mlp.Dropout(0.4, Rewound()), mlp.Linear(6, 2, rng)),
                             rng.standard_normal((4, 3)), training=True)

    def test_gradient_of_a_deep_net(self):
        for activation in mlp.ACTIVATIONS.values():
            net = double(mlp.Linear(5, 7, rng), activation(), mlp.Linear(7, 6, rng), activation(), mlp.Linear(6, 3, rng))
            self.check_gradients(net, rng.standard_normal((5, 4)))

    def test_gradients_of_losses(self):
        for K, N in (1, 1), (1, 5), (4, 3):
            Z, Y = rng.standard_normal((K, N)), rng.random((K, N))
            self.check_loss(mlp.MSELoss(), Z, Y)
            self.check_loss(mlp.BCELoss(), Z, Y)
            self.check_loss(mlp.CrossEntropyLoss(), Z, rng.integers(0, K, N))

    def test_losses_from_the_formula(self):
        Z, Y, y = rng.standard_normal((3, 4)), rng.random((3, 4)), rng.integers(0, 3, 4)
        cells = list(np.ndindex(3, 4))
        self.close(mlp.MSELoss().forward(Z, Y), sum((Z[i] - Y[i]) ** 2 for i in cells) / 12)
        self.close(mlp.BCELoss().forward(Z, Y), sum(
            -Y[i] * math.log(1 / (1 + math.exp(-Z[i]))) - (1 - Y[i]) * math.log(1 - 1 / (1 + math.exp(-Z[i])))
            for i in cells) / 12)
        P = [[math.exp(Z[k, n]) / sum(math.exp(z) for z in Z[:, n]) for n in range(4)] for k in range(3)]
        self.close(mlp.CrossEntropyLoss().forward(Z, y), -sum(math.log(P[y[n]][n]) for n in range(4)) / 4)
        self.close(mlp.Softmax().forward(Z), P)

    def test_linear_from_the_formula(self):
        net, X, dZ = double(mlp.Linear(3, 2, rng)), rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
        W, b = net.layers[0].W, net.layers[0].b
        self.close(net.forward(X), [[sum(W[k, d] * X[d, n] for d in range(3)) + b[k, 0] for n in range(4)]
                                    for k in range(2)])
        self.close(net.backward(dZ), [[sum(W[k, d] * dZ[k, n] for k in range(2)) for n in range(4)]
                                      for d in range(3)])

    def test_extreme_logits(self):
        for dtype in np.float32, np.float64:
            Z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
            for loss, right, wrong, most in ((mlp.CrossEntropyLoss(), [0, 1], [1, 0], 2e4),
                                             (mlp.BCELoss(), Z > 0, Z < 0, 1e4)):
                with np.errstate(all="raise", under="ignore"):
                    self.assertEqual(loss.forward(Z, np.array(right)), 0)
                    self.assertEqual(np.abs(loss.backward()).max(), 0)
                    self.assertEqual(loss.forward(Z, np.array(wrong)), most)
                    self.assertGreater(np.abs(loss.backward()).min(), 0.2)
                    self.assertEqual(loss.backward().dtype, dtype)
            self.assertTrue(math.isfinite(mlp.MSELoss().forward(Z, -Z)))

    def test_optimizers_from_the_formula(self):
        """Five steps on L = 1/2 sum c theta^2, one parameter at a time in plain Python."""
        for name, decay in itertools.product(mlp.OPTIMIZERS, (0, 0.1)):
            net, c = double(mlp.Linear(3, 2, rng)), rng.uniform(0.5, 2, 8)
            start = net.theta.copy()
            optimizer = mlp.OPTIMIZERS[name](net, 0.05, decay)
            for _ in range(5):
                net.dtheta[:] = c * net.theta
                optimizer.step()
            for i, x in enumerate(start):
                m = s = 0.0
                for t in range(1, 6):
                    g = c[i] * x + decay * x
                    if name == "sgd":
                        m = 0.9 * m + g
                        x -= 0.05 * m
                    elif name == "rmsprop":
                        s = 0.99 * s + 0.01 * g * g
                        x -= 0.05 * g / (math.sqrt(s) + 1e-8)
                    else:
                        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
                        x -= 0.05 * (m / (1 - 0.9 ** t)) / (math.sqrt(s / (1 - 0.999 ** t)) + 1e-8)
                self.close(net.theta[i], x, 1e-12, name)

    def test_large_nets_are_optimized_in_pieces(self):
        net = mlp.Sequential(mlp.Linear(400, 300, rng))
        net.dtheta[:] = 1
        before = net.theta.copy()
        mlp.Adam(net, 0.1).step()
        self.close(before - net.theta, np.full(net.theta.size, 0.1), 1e-5)

    def test_initial_weights(self):
        for init, variance in ("he", 2 / 500), ("xavier", 2 / 700):
            W = mlp.Linear(500, 200, np.random.default_rng(0), init).W
            self.assertAlmostEqual(W.var() / variance, 1, delta=0.02)
            self.assertAlmostEqual(W.mean(), 0, delta=0.001)

    def test_dropout_keeps_the_mean(self):
        layer, X = mlp.Dropout(0.3, np.random.default_rng(0)), np.ones((500, 200), np.float32)
        A = layer.forward(X)
        self.assertAlmostEqual(float((A == 0).mean()), 0.3, delta=0.01)
        self.assertAlmostEqual(float(A.mean()), 1, delta=0.01)
        self.assertEqual(A.dtype, np.float32)
        net = mlp.Sequential(mlp.Linear(3, 3, rng), layer)
        self.close(net.forward(X[:3]), net.layers[0].forward(X[:3]))          # silent outside training

    def test_learns(self):
        for name, least in ("circles", 0.97), ("moons", 0.97), ("spirals", 0.98), ("xor", 0.97):
            self.assertGreater(self.run_main(mlp, "--dataset", name, "--epochs", "60")[0]["score"], least, name)
        self.assertLess(self.run_main(mlp, "--dataset", "sine")[0]["score"], 0.15)
        self.assertGreater(self.run_main(mlp, "--dataset", "digits", "--epochs", "3")[0]["score"], 0.9)

    def test_iris(self):
        scores = [self.run_main(mlp, "--dataset", "iris", "--seed", str(seed))[0]["score"] for seed in range(10)]
        self.assertGreaterEqual(np.mean(scores), 0.96)

    def test_every_option_learns(self):
        for activation, optimizer in ("tanh", "sgd"), ("sigmoid", "rmsprop"):
            result, _ = self.run_main(mlp, "--dataset", "moons", "--activation", activation, "--optimizer", optimizer,
                                      "--dropout", "0.1", "--weight-decay", "1e-4", "--hidden", "24", "24", "24")
            self.assertGreater(result["score"], 0.95, activation)
        self.assertLess(self.run_main(mlp, "--dataset", "circles", "--hidden")[0]["score"], 0.7)    # no hidden layer

    def test_search(self):
        result, out = self.run_main(mlp, "--dataset", "moons", "--search", "4", "--epochs", "10")
        self.assertEqual(len(re.findall(r"^ +\d  (?:adam|rmsprop|sgd)", out, re.M)), 4)
        self.assertGreater(result["score"], 0.8)


@needs_torch
class TestMlpTorch(Test):
    """The same weights in PyTorch: outputs, gradients and ten steps agree to 1e-9 in float64."""

    def twin(self, net):
        layers = {"Linear": lambda l: torch.nn.Linear(l.W.shape[1], l.W.shape[0], dtype=torch.float64),
                  "Softmax": lambda l: torch.nn.Softmax(dim=1)}
        twin = torch.nn.Sequential(*(layers.get(type(l).__name__, lambda l: getattr(torch.nn, type(l).__name__)())(l)
                                     for l in net.layers))
        twin.load_state_dict({name: torch.tensor(value.copy()) for name, value in net.state_dict().items()})
        return twin
'''
