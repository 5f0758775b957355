"""Everything that must hold: python test_all.py (-v shows each test, -k mlp runs those of one script).

Needs NumPy and matplotlib only, no network, no screen. Where PyTorch is installed, the nets are also compared
with it; elsewhere those tests are skipped, and say so.
"""
import ast
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
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

os.environ["MPLBACKEND"] = "Agg"

import numpy as np

import cnn
import datasets
import mlp
import perceptron
import rnn

try:
    import torch
except ImportError:
    torch = None

HERE = Path(__file__).parent
SCRIPTS = ["perceptron", "mlp", "cnn", "rnn"]
README = (HERE / "README.md").read_text(encoding="utf-8")
rng = np.random.default_rng(7)
needs_torch = unittest.skipIf(torch is None, "PyTorch is not installed")


# --- Tools ----------------------------------------------------------------------------------------------

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
        size = np.linalg.norm(a) + np.linalg.norm(b)
        self.assertLess(np.linalg.norm(a - b), tolerance * max(size, 1e-3), what)

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


# --- perceptron.py --------------------------------------------------------------------------------------

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
        answers = {"logistic": lambda z: 1 / (1 + math.exp(-z)), "rosenblatt": lambda z: float(z > 0)}
        for rule, answer in answers.items():
            neuron = perceptron.Perceptron(3, rule)
            neuron.w, neuron.b = np.zeros((3, 1)), np.zeros((1, 1))
            w, b = [0.0] * 3, 0.0
            for _ in range(4):
                neuron.forward(X)
                neuron.backward(y)
                neuron.update(0.3)
                errors = [answer(sum(w[d] * X[d, n] for d in range(3)) + b) - y[0, n] for n in range(5)]
                w = [w[d] - 0.3 * sum(e * X[d, n] for n, e in enumerate(errors)) / 5 for d in range(3)]
                b -= 0.3 * sum(errors) / 5
            self.close(neuron.w[:, 0], w)
            self.close(neuron.b[0], [b])

    def test_learns_a_line_and_fails_without_one(self):
        for rule in perceptron.RULES:
            self.assertGreater(self.run_main(perceptron, "--rule", rule)[0]["accuracy"], 0.9)
        self.assertLess(self.run_main(perceptron, "--dataset", "xor")[0]["accuracy"], 0.7)
        self.assertLess(self.run_main(perceptron, "--dataset", "circles")[0]["accuracy"], 0.7)

    def test_any_two_classes(self):
        result, out = self.run_main(perceptron, "--dataset", "digits", "--classes", "3", "8", "--epochs", "5")
        self.assertGreater(result["accuracy"], 0.85)
        self.assertIn("3 or 8", out)
        for wrong in ["digits", "--classes", "3", "3"], ["iris", "--classes", "rose", "tulip"]:
            self.fails("--classes two different", perceptron.main, ["--dataset", *wrong])

    def test_extreme_logits(self):
        z = np.array([[1e4, -1e4, 1e4, -1e4]], np.float32)
        with np.errstate(all="raise", under="ignore"):
            self.assertEqual(perceptron.log_loss(z, np.array([[1, 0, 0, 1]])), 5000)
            self.assertEqual(perceptron.sigmoid(z).tolist(), [[1, 0, 1, 0]])


# --- mlp.py ---------------------------------------------------------------------------------------------

class TestMlp(Test):
    def test_gradients_of_layers(self):
        for N, D, K in (1, 3, 2), (5, 4, 3), (2, 1, 4):
            self.check_gradients(double(mlp.Linear(D, K, rng)), rng.standard_normal((D, N)))
        for layer in mlp.Sigmoid, mlp.Tanh, mlp.ReLU, mlp.Softmax:
            self.check_gradients(double(mlp.Linear(4, 4, rng), layer()), rng.standard_normal((4, 3)))
            X, upstream = away_from_zero(4, 3), rng.standard_normal((4, 3))
            alone = layer()
            numbers = numeric(lambda: np.sum(upstream * alone.forward(X)), X)
            alone.forward(X)
            self.close(alone.backward(upstream), numbers, 1e-7)

    def test_gradient_of_dropout(self):
        class Rewound:
            """Draws the same mask every time."""
            def random(self, shape, dtype):
                return np.random.default_rng(3).random(shape, dtype)

        net = double(mlp.Linear(4, 6, rng), mlp.Dropout(0.4, Rewound()), mlp.Linear(6, 2, rng))
        self.check_gradients(net, rng.standard_normal((4, 3)), training=True)

    def test_gradient_of_a_deep_net(self):
        for activation in mlp.ACTIVATIONS.values():
            net = double(mlp.Linear(5, 7, rng), activation(), mlp.Linear(7, 6, rng), activation(),
                         mlp.Linear(6, 3, rng))
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
            with np.errstate(all="raise", under="ignore"):
                self.assertEqual(mlp.Softmax().forward(Z).tolist(), [[1, 0], [0, 1]])
                self.assertEqual(mlp.Sigmoid().forward(Z).tolist(), [[1, 0], [0, 1]])

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

    def test_memories_do_not_fade_into_slow_floats(self):
        net = mlp.Sequential(mlp.Linear(3, 2, rng))
        optimizer = mlp.Adam(net, 0.001)
        for t in range(2000):
            net.dtheta[:] = t == 0
            optimizer.step()
        for memory in optimizer.pieces[2:]:
            self.assertGreater(np.abs(memory[0]).min(), np.finfo(np.float32).tiny)

    def test_initial_weights(self):
        for init, variance in ("he", 2 / 500), ("xavier", 2 / 700):
            W = mlp.Linear(500, 200, np.random.default_rng(0), init).W
            self.assertAlmostEqual(W.var() / variance, 1, delta=0.02)
            self.assertAlmostEqual(W.mean(), 0, delta=0.001)
        for activation, variance in ("relu", 2 / 500), ("tanh", 2 / 700), ("sigmoid", 2 / 700):
            data = datasets.Data("", np.zeros((1, 500)), 0, 0, 0, "ABC")
            args = mlp.parse_args(["--hidden", "200", "--activation", activation, "--lr", "1"])
            W = mlp.build(data, args, np.random.default_rng(0))[0].layers[0].W
            self.assertAlmostEqual(W.var() / variance, 1, delta=0.02)

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
            result, _ = self.run_main(mlp, "--dataset", name, "--epochs", "60")
            self.assertGreater(result["score"], least, name)
        self.assertLess(self.run_main(mlp, "--dataset", "sine")[0]["score"], 0.15)
        self.assertGreater(self.run_main(mlp, "--dataset", "digits", "--epochs", "3")[0]["score"], 0.9)

    def test_iris(self):
        with mock.patch.object(mlp, "plot"), contextlib.redirect_stdout(io.StringIO()):
            scores = [mlp.main(["--dataset", "iris", "--seed", str(seed)])["score"] for seed in range(10)]
        self.assertGreaterEqual(np.mean(scores), 0.96)

    def test_every_option_learns(self):
        for activation, optimizer in ("relu", "rmsprop"), ("tanh", "sgd"), ("sigmoid", "adam"):
            result, _ = self.run_main(
                mlp, "--dataset", "moons", "--activation", activation, "--optimizer", optimizer,
                "--dropout", "0.05", "--weight-decay", "1e-5", "--hidden", "24", "24")
            self.assertGreater(result["score"], 0.95, activation)
        result, _ = self.run_main(mlp, "--dataset", "circles", "--hidden")     # without hidden layers: a line
        self.assertLess(result["score"], 0.7)

    def test_search(self):
        result, out = self.run_main(mlp, "--dataset", "moons", "--search", "4", "--epochs", "10")
        self.assertEqual(len(re.findall(r"^ +\d  (?:adam|rmsprop|sgd)", out, re.M)), 4)
        self.assertGreater(result["score"], 0.8)


@needs_torch
class TestMlpTorch(Test):
    """The same weights in PyTorch: outputs, gradients and ten steps agree to 1e-9 in float64."""

    def check_twin(self, net, loss, X, y, optimizer=None, **options):
        from benchmarks.vs_torch import twin, twin_loss, twin_optimizer
        model, criterion = twin(net, torch.float64), twin_loss(loss)
        inputs = torch.tensor(np.moveaxis(X, -1, 0).copy(), requires_grad=True)
        targets = torch.tensor(np.moveaxis(y, -1, 0).copy())
        ours = optimizer and optimizer(net, **options)
        theirs = optimizer and twin_optimizer(ours, model)
        for _ in range(10 if optimizer else 1):
            L = loss.forward(net.forward(X), y)
            dX = net.backward(loss.backward())
            model.zero_grad()
            output = criterion(model(inputs), targets)
            output.backward()
            self.close(L, output.item())
            self.close(net.forward(X), np.moveaxis(model(inputs).detach().numpy(), 0, -1))
            for (name, parameter), mine in zip(model.named_parameters(), self.gradients(net)):
                self.close(mine, parameter.grad.numpy(), 1e-9, name)
            if optimizer:
                ours.step()
                theirs.step()
        if not optimizer:
            self.close(dX, np.moveaxis(inputs.grad.numpy(), 0, -1), 1e-9, "dX")
        for name, value in model.state_dict().items():
            self.close(net.state_dict()[name], value.numpy(), 1e-9, name)

    def gradients(self, net):
        return [getattr(layer, "d" + name) if name == "W" else getattr(layer, "d" + name)[:, 0]
                for layer in net.layers for name in layer.params]

    def cases(self):
        """A net with every layer, with each loss, and data for it."""
        for K, loss in (3, mlp.MSELoss()), (2, mlp.BCELoss()), (4, mlp.CrossEntropyLoss()):
            net = double(mlp.Linear(5, 7, rng), mlp.ReLU(), mlp.Linear(7, 6, rng), mlp.Tanh(),
                         mlp.Linear(6, 6, rng), mlp.Sigmoid(), mlp.Softmax(), mlp.Linear(6, K, rng))
            classes = isinstance(loss, mlp.CrossEntropyLoss)
            y = rng.integers(0, K, 8) if classes else rng.random((K, 8))
            yield net, loss, rng.standard_normal((5, 8)), y

    def test_outputs_and_gradients(self):
        for case in self.cases():
            self.check_twin(*case)

    def test_ten_steps(self):
        for optimizer, decay in itertools.product(mlp.OPTIMIZERS.values(), (0, 0.1)):
            for case in self.cases():
                self.check_twin(*case, optimizer, lr=0.01, weight_decay=decay)

    def test_weights_travel_both_ways(self):
        from benchmarks.vs_torch import twin
        net, other = (mlp.Sequential(mlp.Linear(4, 3, rng), mlp.ReLU(), mlp.Linear(3, 2, rng))
                      for _ in range(2))
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours = f"{folder}/theirs.npz", f"{folder}/ours.npz"
            np.savez(theirs, **{name: value.numpy() for name, value in twin(other).state_dict().items()})
            datasets.read_weights(theirs, net.state_dict())
            np.savez(ours, **net.state_dict())
            model = twin(mlp.Sequential(mlp.Linear(4, 3, rng), mlp.ReLU(), mlp.Linear(3, 2, rng)))
            model.load_state_dict({name: torch.tensor(a) for name, a in np.load(ours).items()})
        X = rng.standard_normal((4, 6)).astype(np.float32)
        self.close(net.forward(X), model(torch.from_numpy(X.T)).detach().numpy().T, 1e-6)


# --- cnn.py ---------------------------------------------------------------------------------------------

def naive_conv(X, W, b, s, p, dZ=None):
    """Z by loops straight from the formula; given dZ, the gradients (dX, dW, db)."""
    (C, H, width, N), (K, _, kH, kW) = X.shape, W.shape
    Z = np.zeros((K, (H + 2 * p - kH) // s + 1, (width + 2 * p - kW) // s + 1, N)) + b[:, :, None, None]
    dX, dW = np.zeros_like(X), np.zeros_like(W)
    for (k, h, w), c, i, j in itertools.product(np.ndindex(Z.shape[:3]), range(C), range(kH), range(kW)):
        y, x = s * h + i - p, s * w + j - p
        if 0 <= y < H and 0 <= x < width:
            Z[k, h, w] += W[k, c, i, j] * X[c, y, x]
            if dZ is not None:
                dW[k, c, i, j] += np.sum(dZ[k, h, w] * X[c, y, x])
                dX[c, y, x] += dZ[k, h, w] * W[k, c, i, j]
    return Z if dZ is None else (dX, dW, np.array([[dZ[k].sum()] for k in range(K)]))

def naive_pool(X, kH, kW, s, dA=None):
    (C, H, W, N) = X.shape
    A, dX = np.zeros((C, (H - kH) // s + 1, (W - kW) // s + 1, N)), np.zeros_like(X)
    for c, h, w, n in np.ndindex(A.shape):
        seen = [(X[c, s * h + i, s * w + j, n], -i, -j) for i in range(kH) for j in range(kW)]
        A[c, h, w, n], i, j = max(seen)                 # of equals the first, row by row
        if dA is not None:
            dX[c, s * h - i, s * w - j, n] += dA[c, h, w, n]
    return A if dA is None else dX

class TestCnn(Test):
    KERNELS, SIZES = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (2, 3)), ((7, 8), (6, 5))

    def test_convolution_from_the_formula(self):
        cases = itertools.product(self.KERNELS, (1, 2, 3), (0, 1, 2), self.SIZES, ((1, 2, 1), (3, 2, 2)))
        for kernel, s, p, size, (C, K, N) in cases:
            net, X = double(cnn.Conv2d(C, K, kernel, rng, s, p)), rng.standard_normal((C, *size, N))
            layer, Z, case = net.layers[0], net.forward(X), f"kernel {kernel}, {s=}, {p=}, {size}"
            self.close(Z, naive_conv(X, layer.W, layer.b, s, p), what=case)
            dZ = rng.standard_normal(Z.shape)
            ours = net.backward(dZ), layer.dW, layer.db
            for mine, right in zip(ours, naive_conv(X, layer.W, layer.b, s, p, dZ)):
                self.close(mine, right, what=case)

    def test_pooling_from_the_formula(self):
        for kernel, s, size, ties in itertools.product(self.KERNELS, (1, 2, 3), self.SIZES, (False, True)):
            X = rng.integers(0, 3, (2, *size, 2)) * 1.0 if ties else rng.standard_normal((2, *size, 2))
            layer, case = cnn.MaxPool2d(kernel, s), f"kernel {kernel}, stride {s}, {size}, ties {ties}"
            A = layer.forward(X)
            self.close(A, naive_pool(X, *kernel, s), what=case)
            dA = rng.standard_normal(A.shape)
            self.close(layer.backward(dA), naive_pool(X, *kernel, s, dA), what=case)

    def test_gradients(self):
        for kernel, s, p, pool in (3, 1, 0, 2), ((2, 3), 2, 1, 1), (5, 1, 2, (3, 2)), (1, 3, 0, 1):
            net = double(cnn.Conv2d(2, 3, kernel, rng, s, p), cnn.MaxPool2d(pool, 1), mlp.Tanh(),
                         cnn.Conv2d(3, 2, 1, rng), cnn.Flatten())
            self.check_gradients(net, rng.standard_normal((2, 6, 7, 2)))

    def test_first_layer_skips_its_input(self):
        net = double(cnn.Conv2d(1, 2, 3, rng))
        dZ = rng.standard_normal(net.forward(rng.standard_normal((1, 5, 5, 2))).shape)
        net.backward(dZ)
        dtheta, net.layers[0].needs_dX = net.dtheta.copy(), False
        self.assertIsNone(net.backward(dZ))
        self.close(net.dtheta, dtheta)

    def test_initial_kernels(self):
        W = cnn.Conv2d(20, 100, 5, np.random.default_rng(0)).W
        self.assertAlmostEqual(W.var() * 20 * 25 / 2, 1, delta=0.02)

    def test_impossible_layers(self):
        self.fails("window of 5 larger image 4", cnn.Conv2d(1, 2, 5, rng).forward, np.zeros((1, 4, 9, 1)))
        self.fails("window of 3 larger image 2", cnn.MaxPool2d(3).forward, np.zeros((1, 5, 2, 1)))
        for kernel, stride, padding in (0, 1, 0), (3, 0, 0), (3, 1, -1):
            self.fails(f"convolution {stride}", cnn.Conv2d, 1, 2, kernel, rng, stride, padding)
        self.fails("pooling stride 0", cnn.MaxPool2d, 2, 0)
        self.fails("larger image", cnn.main, ["--dataset", "digits", "--kernel-size", "29"])
        self.fails("pictures mlp.py iris", cnn.main, ["--dataset", "iris"])

    def test_learns_saves_and_reads_pictures(self):
        from PIL import Image
        with tempfile.TemporaryDirectory() as folder:
            file, other = f"{folder}/w.npz", ["--dataset", "digits", "--hidden", "--load"]
            result, out = self.run_main(cnn, "--dataset", "digits", "--channels", "4", "8", "--hidden",
                                        "--epochs", "3", "--lr", "1e-2", "--save", file)
            self.assertGreater(result["score"], 0.8)
            self.assertRegex(out, r"Conv2d +4 x 24 x 24 +104 +57,600\n")
            self.assertRegex(out, r"Linear +10 +1,290 +1,280\nin all +2,202 +110,080\n")
            self.fails("weights another net", cnn.main, [*other, file])
            data = datasets.load("digits")
            digit = data.X_test[next(i for i in range(99) if data.y_test[i] == 0)]
            large = np.kron(digit[:, 3:], np.ones((9, 9), np.uint8))
            pictures = {"light.png": digit, "dark.png": 255 - large}
            for name, a in pictures.items():
                Image.fromarray(a).save(f"{folder}/{name}")
            Image.fromarray(np.full((9, 9), 200, np.uint8)).save(f"{folder}/blank.png")
            Path(folder, "words.png").write_text("not a picture")
            read = ["--channels", "4", "8", "--hidden", "--load", file, "--predict"]
            result, out = self.run_main(cnn, *read, *(f"{folder}/{name}" for name in pictures))
            self.assertEqual(result["P"].argmax(axis=0).tolist(), [0, 0])
            said = re.findall(r"(?:light|dark)\.png: 0 \(\d+\.\d %\), \d \(\d+\.\d %\), \d \(", out)
            self.assertEqual(len(said), 2)
            wrong = {"blank.png": "blank", "words.png": "not a picture", "none.png": "No such file"}
            for name, words in wrong.items():
                self.fails(words, cnn.main, [*read, f"{folder}/{name}"])

    def test_pictures_are_prepared_like_mnist(self):
        from PIL import Image
        page = np.full((300, 200), 230, np.uint8)
        page[40:200, 150:170] = 20              # a bar of 160 x 20 comes to 20 x 2 in the middle
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            Image.fromarray(page).save(file.name)
            picture = cnn.read_picture(file.name, 28, 28)
        rows, columns = np.nonzero(picture)
        self.assertEqual((rows.min(), rows.max(), np.ptp(columns) + 1, picture.max()), (4, 23, 2, 255))
        self.assertLessEqual(abs(columns.mean() - 14), 0.5)

@needs_torch
class TestCnnTorch(Test):
    def test_layers(self):
        cases = itertools.product(TestCnn.KERNELS, (1, 2, 3), (0, 1, 2), TestCnn.SIZES)
        for kernel, s, p, size in cases:
            X = rng.standard_normal((2, *size, 3))
            twin = torch.nn.Conv2d(2, 4, kernel, s, p, dtype=torch.float64)
            pool, its_pool = cnn.MaxPool2d(kernel, s), torch.nn.MaxPool2d(kernel, s)
            net = double(cnn.Conv2d(2, 4, kernel, rng, s, p))
            twin.load_state_dict({name[2:]: torch.tensor(a.copy()) for name, a in net.state_dict().items()})
            for mine, its in (net, twin), (pool, its_pool):
                x = torch.tensor(np.moveaxis(X, -1, 0).copy(), requires_grad=True)
                Z, z = mine.forward(X), its(x)
                dZ = rng.standard_normal(Z.shape)
                z.backward(torch.tensor(np.moveaxis(dZ, -1, 0).copy()))
                self.close(Z, np.moveaxis(z.detach().numpy(), 0, -1))
                self.close(mine.backward(dZ), np.moveaxis(x.grad.numpy(), 0, -1))
            self.close(net.layers[0].dW, twin.weight.grad)
            self.close(net.layers[0].db[:, 0], twin.bias.grad)

    def test_ten_steps_and_weights_both_ways(self):
        from benchmarks.vs_torch import twin as vs_torch_twin
        args = cnn.parse_args(["--channels", "3", "4", "--hidden", "8", "--lr", "0.01"])
        blank = np.zeros((0, 1, 28, 28), np.uint8)
        net = double(*cnn.build(datasets.Data("", blank, 0, blank, 0, "0123456789"), args, rng)[0].layers)
        twin = vs_torch_twin(net, torch.float64)
        with tempfile.TemporaryDirectory() as folder:   # NumPy to PyTorch, and back into a net that was wiped
            np.savez(f"{folder}/ours.npz", **net.state_dict())
            with np.load(f"{folder}/ours.npz") as file:
                twin.load_state_dict({name: torch.tensor(file[name]) for name in file})
            net.theta[:] = 0
            np.savez(f"{folder}/theirs.npz", **{name: a.numpy() for name, a in twin.state_dict().items()})
            datasets.read_weights(f"{folder}/theirs.npz", net.state_dict())
        loss, mine = cnn.CrossEntropyLoss(), cnn.Adam(net, 0.01)
        its = torch.optim.Adam(twin.parameters(), 0.01)
        for step in range(10):
            X, y = rng.random((1, 28, 28, 6)), rng.integers(0, 10, 6)
            Z = twin(torch.tensor(np.moveaxis(X, -1, 0).copy()))
            L = torch.nn.functional.cross_entropy(Z, torch.tensor(y))
            its.zero_grad()
            L.backward()
            self.close(loss.forward(net.forward(X), y), L.item(), what=f"loss in step {step}")
            net.backward(loss.backward())
            self.close(net.dtheta, np.concatenate([p.grad.ravel() for p in twin.parameters()]))
            mine.step()
            its.step()
            self.close(net.theta, np.concatenate([p.detach().ravel() for p in twin.parameters()]))


# --- rnn.py ---------------------------------------------------------------------------------------------

def recurrent(name, D=3, H=4, K=2):
    """A net in float64, all parameters random: zero biases would hide a missing term."""
    layers = rnn.CELLS[name](D, H, rng), rnn.Output(H, K, rng)
    for layer in layers:
        for parameter in layer.params:
            setattr(layer, parameter, 0.5 * rng.standard_normal(getattr(layer, parameter).shape))
    return rnn.Recurrent(*layers)

def random_state(net, N):
    return tuple(rng.standard_normal((net.cell.size, N)) for _ in range(net.cell.states))

def sigmoid(z):
    return 1 / (1 + math.exp(-z))

class TestRnn(Test):
    def test_gradients(self):
        for name, (T, N), last in itertools.product(rnn.CELLS, ((1, 1), (2, 3), (5, 2)), (None, 1)):
            net, X = recurrent(name), rng.standard_normal((T, 3, N))
            state, upstream = random_state(net, N), rng.standard_normal((last or T, 2, N))

            def f():
                return float(np.sum(upstream * net.forward(X, state, last)[0]))

            f()
            dX, dstate = net.backward(upstream)
            self.close(net.dtheta, numeric(f, net.theta), 1e-7, name)
            self.close(dX, numeric(f, X), 1e-7, name)
            for d, s in zip(dstate, state, strict=True):
                self.close(d, numeric(f, s), 1e-7, name)

    def test_cells_step_by_step(self):
        """Every number by itself, from the formula."""
        for name in rnn.CELLS:
            net, X = recurrent(name, 2, 3), rng.standard_normal((4, 2, 1))
            state, cell, H = random_state(net, 1), net.cell, 3
            h, c = state[0][:, 0].tolist(), state[-1][:, 0].tolist()
            for t in range(4):
                a = [b[0] + sum(w[d] * X[t, d, 0] for d in range(2)) for w, b in zip(cell.W_ih, cell.b_ih)]
                u = [b[0] + sum(w[j] * h[j] for j in range(H)) for w, b in zip(cell.W_hh, cell.b_hh)]
                for k in range(H):
                    if name == "rnn":
                        h[k] = math.tanh(a[k] + u[k])
                    elif name == "lstm":
                        i, f, g, o = (a[q * H + k] + u[q * H + k] for q in range(4))
                        c[k] = sigmoid(f) * c[k] + sigmoid(i) * math.tanh(g)
                        h[k] = sigmoid(o) * math.tanh(c[k])
                    else:
                        r, z = sigmoid(a[k] + u[k]), sigmoid(a[H + k] + u[H + k])
                        h[k] = (1 - z) * math.tanh(a[2 * H + k] + r * u[2 * H + k]) + z * h[k]
            out, after = cell.forward(X, state)
            self.close(out[-1, :, 0], h, 1e-12, name)
            self.close(after[0][:, 0], h, 1e-12, name)
            if name == "lstm":
                self.close(after[1][:, 0], c, 1e-12)

    def test_carried_state_equals_a_long_pass(self):
        for name in rnn.CELLS:
            net, X, parts, state = recurrent(name), rng.standard_normal((7, 3, 2)), [], None
            for window in X[:3], X[3:4], X[4:]:
                Z, state = net.forward(window, state)
                parts.append(Z)
            self.close(np.concatenate(parts), net.forward(X)[0], 1e-12, name)

    def test_loss(self):
        Z, y, loss = rng.standard_normal((4, 5, 3)), rng.integers(0, 5, (4, 3)), rnn.SequenceCrossEntropy()
        L = -sum(math.log(math.exp(Z[t, y[t, n], n]) / sum(map(math.exp, Z[t, :, n])))
                 for t, n in np.ndindex(4, 3))
        self.close(loss.forward(Z, y), L / 12)
        self.check_loss(loss, Z, y)
        with np.errstate(all="raise", under="ignore"):
            Z = np.array([[[1e4], [-1e4]]], np.float32)
            self.assertEqual(loss.forward(Z, np.array([[0]])), 0)
            self.assertEqual(loss.forward(Z, np.array([[1]])), 2e4)

    def test_clipping(self):
        g = rng.standard_normal(50)
        norm, direction = np.linalg.norm(g), g / np.linalg.norm(g)
        self.close(rnn.clip(g, norm + 1e-9), norm)
        self.close(g, norm * direction, 1e-12)                       # short enough: untouched
        rnn.clip(g, 0.5)
        self.close(g, 0.5 * direction, 1e-12)

    def text(self, name="book", N=2, T=8):
        return rnn.Text(name, "the quick brown fox jumps over the lazy dog\n" * 20, N, T)

    def test_windows_hold_the_text(self):
        task = self.text()
        seen, after = zip(*((X.argmax(axis=1), y) for X, y in task.windows(training=True)))
        seen, after = np.concatenate(seen), np.concatenate(after)
        half = len(task.text[0]) // 2
        for n in range(2):
            read = "".join(task.classes[k] for k in seen[:, n])
            self.assertEqual(read, task.text[0][n * half:(n + 1) * half - 1])
        self.assertTrue((seen[1:] == after[:-1]).all())

    def test_sample(self):
        task = self.text()
        net = rnn.Recurrent(rnn.GRU(task.D, 8, rng), rnn.Output(8, task.K, rng))
        texts = [rnn.sample(net, task, 30, 1, "the", np.random.default_rng(seed)) for seed in (0, 0, 1)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])
        self.assertTrue(texts[0].startswith("the") and len(texts[0]) == 33)
        likeliest = rnn.sample(net, task, 5, 1e-6, "the", rng)
        for k in range(3, 8):
            Z = net.forward(task.one_hot(task.encode(likeliest[:k])[:, None]))[0]
            self.assertEqual(task.classes[Z[-1, :, 0].argmax()], likeliest[k])

    def test_learns(self):
        result, out = self.run_main(rnn, "--dataset", "airline", "--compare")
        for run in result["runs"].values():
            rules = [value for name, value in run["rmse"].items() if "net" not in name]
            self.assertLess(run["rmse"]["net, one step"], min(rules))
            self.assertLess(run["rmse"]["net, free run"], run["rmse"]["last year's value"])
        self.close(run["task"].values.sum(), 40363)
        self.close(run["rmse"]["last value"], 48.0412, 1e-4)
        self.close(run["rmse"]["last year times growth"], 15.6208, 1e-4)
        result, _ = self.run_main(rnn, "--dataset", "adding", "--window", "10", "--cell", "gru",
                                  "--hidden", "24", "--epochs", "8")
        self.assertLess(result["loss"], 0.03)

    def test_text_saved_and_loaded(self):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "book.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
            path, weights = f"{folder}/book.txt", f"{folder}/w.npz"
            small = "--dataset", path, "--hidden", "24", "--window", "20", "--batch-size", "4"
            result, _ = self.run_main(rnn, *small, "--epochs", "20", "--lr", "0.02", "--save", weights)
            self.assertLess(result["loss"], 0.3)
            again, out = self.run_main(rnn, *small, "--epochs", "0", "--load", weights, "--prime", "the")
            self.close(again["loss"], result["loss"], 1e-6)
            self.assertIn("perplexity", out)
            with contextlib.redirect_stdout(io.StringIO()):
                self.fails("weights of another net", rnn.main, [*small, "--cell", "gru", "--load", weights])
            self.fails("never has character 'X'", rnn.main, [*small, "--prime", "X"])
            for text in "", "short":
                Path(folder, "book.txt").write_text(text)
                self.fails("too few", rnn.main, [*small])
            for words, rows in (("line 3", "a,b\n1,2\n3,\n"), ("line 3", "a,b\n1,2\n1,no\n"),
                                ("too few", "b\n1\n2\n")):
                Path(folder, "s.csv").write_text(rows)
                self.fails(words, rnn.main, ["--dataset", f"{folder}/s.csv", "--column", "b"])
            self.fails("column c", rnn.main, ["--dataset", f"{folder}/s.csv", "--column", "c"])
        for option in ("--temperature", "0"), ("--temperature", "-1"), ("--cell", "elman"), ("--clip", "0"):
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as said:
                rnn.main([*option])
            self.assertEqual(said.getvalue().count("\n"), 1)

@needs_torch
class TestRnnTorch(Test):
    def test_ten_clipped_steps(self):
        for name, limit in itertools.product(rnn.CELLS, (0.05, 100)):
            net, X, y = recurrent(name), rng.standard_normal((6, 3, 4)), rng.integers(0, 2, (6, 4))
            with tempfile.TemporaryDirectory() as folder:            # the weights travel by file
                np.savez(f"{folder}/w.npz", **net.state_dict())
                arrays = {key: torch.tensor(value) for key, value in np.load(f"{folder}/w.npz").items()}
            cell = getattr(torch.nn, name.upper())(3, 4, dtype=torch.float64)
            output = torch.nn.Linear(4, 2, dtype=torch.float64)
            twin = torch.nn.ModuleDict({"cell": cell, "output": output})
            twin.load_state_dict(arrays)
            optimizer, twins = rnn.Adam(net, 0.01), torch.optim.Adam(twin.parameters(), 0.01)
            loss = rnn.SequenceCrossEntropy()
            X_ = torch.tensor(X.transpose(0, 2, 1).copy(), requires_grad=True)
            for step in range(10):
                Z, _ = net.forward(X)
                L = loss.forward(Z, y)
                dX, _ = net.backward(loss.backward())
                H_, _ = cell(X_)
                Z_ = output(H_)
                L_ = torch.nn.functional.cross_entropy(Z_.reshape(-1, 2), torch.tensor(y).reshape(-1))
                twins.zero_grad()
                X_.grad = None
                L_.backward()
                self.close(Z.transpose(0, 2, 1), Z_.detach(), 1e-9, name)
                self.close(L, L_.item())
                self.close(dX.transpose(0, 2, 1), X_.grad, 1e-9, name)
                gradient = torch.cat([p.grad.reshape(-1) for p in twin.parameters()])
                self.close(net.dtheta, gradient, 1e-9, name)
                norm = rnn.clip(net.dtheta, limit)          # PyTorch adds 1e-6 to the norm
                torch.nn.utils.clip_grad_norm_(twin.parameters(), limit * (1 + 1e-6 / norm))
                optimizer.step()
                twins.step()
            for key, value in twin.state_dict().items():
                self.close(net.state_dict()[key], value, 1e-9, key)


# --- datasets.py ----------------------------------------------------------------------------------------

def idx(*arrays):
    """The bytes of IDX files, gzipped."""
    return [gzip.compress(np.array([2048 + a.ndim, *a.shape], ">u4").tobytes() + a.tobytes()) for a in arrays]

class Server(BaseHTTPRequestHandler):
    """Serves `files` by name; promises `extra` bytes more than it sends."""
    files, extra = {}, 0

    def do_GET(self):
        body = self.files.get(self.path.split("/")[-1])
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"") + self.extra))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args):
        pass

class TestDatasets(Test):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "mnist")
        self.arrays = (rng.integers(0, 256, (30, 5, 5), np.uint8), np.arange(30, dtype=np.uint8) % 10,
                       rng.integers(0, 256, (20, 5, 5), np.uint8), np.arange(20, dtype=np.uint8) % 10)
        self.bodies = idx(*self.arrays)
        server = HTTPServer(("127.0.0.1", 0), type("Local", (Server,), {
            "files": dict(zip(datasets._IDX, self.bodies))}))
        self.handler, self.server = server.RequestHandlerClass, server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        sums = tuple(hashlib.md5(body).hexdigest() for body in self.bodies)
        self.source(sums, f"http://127.0.0.1:{server.server_port}/")
        patch = mock.patch.dict(os.environ, {"DATASETS_DIR": folder.name})
        patch.start()
        self.addCleanup(patch.stop)

    def source(self, sums, *mirrors):
        patch = mock.patch.dict(datasets._FILES, mnist=(datasets._TEN, datasets._IDX, sums, mirrors))
        patch.start()
        self.addCleanup(patch.stop)

    def write(self, **bodies):
        """The four files on disk, some with other bytes."""
        self.folder.mkdir(exist_ok=True)
        for key, name, body in zip(("X", "y", "X_test", "y_test"), datasets._IDX, self.bodies):
            (self.folder / name).write_bytes(bodies.get(key, body))

    def test_generated(self):
        for name, classes in dict(blobs=2, xor=2, moons=2, circles=2, spirals=3, sine=0).items():
            data, again = datasets.load(name, 3), datasets.load(name, 3)
            self.assertEqual((data.name, len(data.classes)), (name, classes))
            for a, b in zip(data[1:5], again[1:5]):
                np.testing.assert_array_equal(a, b)
            self.assertFalse(np.array_equal(data.X_train, datasets.load(name, 4).X_train))
            if classes:
                self.assertEqual(set(np.bincount(data.y_test)), {100})

    def test_iris(self):
        data = datasets.load("iris")
        X = np.concatenate([data.X_train, data.X_test])
        self.close(X.mean(axis=0), [5.8433, 3.0573, 3.7580, 1.1993], 1e-5)
        self.assertEqual(np.bincount(data.y_train).tolist(), [40, 40, 40])
        self.assertEqual(np.bincount(data.y_test).tolist(), [10, 10, 10])

    def test_digits(self):
        data = datasets.load("digits")
        self.assertEqual((data.X_train.shape, data.X_test.shape), ((10_000, 28, 28), (2_000, 28, 28)))
        self.assertEqual(data.X_train.dtype, np.uint8)
        self.assertEqual(set(np.bincount(np.concatenate([data.y_train, data.y_test]))), {1200})
        ink = data.X_train.astype(float)
        for axis in 1, 2:                       # as in MNIST: 20 pixels of ink around the centre of mass
            centre = (ink.sum(axis=3 - axis) * np.arange(28)).sum(axis=1) / ink.sum(axis=(1, 2))
            self.assertLess(np.abs(centre - 14).mean(), 0.3)
        boxes = [max(np.ptp(axis) + 1 for axis in np.nonzero(image > 40)) for image in data.X_train[:500]]
        self.assertTrue(18 <= np.median(boxes) <= 22)

    def test_minibatches(self):
        X, y = np.arange(20, dtype=np.uint8).reshape(10, 2), np.arange(10)
        parts = list(datasets.minibatches(X, y, 4, np.random.default_rng(0)))
        self.assertEqual([part[0].shape for part in parts], [(2, 4), (2, 4), (2, 2)])
        self.assertEqual(parts[0][0].dtype, np.float32)
        self.assertEqual(sorted(np.concatenate([part[1] for part in parts])), list(range(10)))
        for pixels, numbers in parts:
            self.close(pixels[0], 2 * numbers / 255, 1e-6)
        self.assertEqual(next(datasets.minibatches(X, y, 99))[1].tolist(), list(range(10)))
        images = rng.integers(0, 256, (3, 4, 5), np.uint8)
        self.close(datasets.batch_last(images)[2, 4, 1], images[1, 2, 4] / 255, 1e-6)

    def test_downloads_once_and_whole(self):
        data = datasets.load("mnist")
        for mine, theirs in zip(data[1:5], self.arrays):
            np.testing.assert_array_equal(mine, theirs)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), sorted(datasets._IDX))
        self.handler.files = {}
        datasets.load("mnist")                                                   # from disk

    def test_second_mirror(self):
        self.source(datasets._FILES["mnist"][2], "http://127.0.0.1:1/", *datasets._FILES["mnist"][3])
        self.assertEqual(len(datasets.load("mnist").X_train), 30)

    def test_failed_downloads_leave_nothing(self):
        sums = datasets._FILES["mnist"][2]
        for words, change in (("ended after", {"extra": 7}), ("404", {"files": {}}), (
                "wrong checksum web page", {"files": dict.fromkeys(datasets._IDX, b"<html>")})):
            with mock.patch.multiple(self.handler, **change):
                self.fails(f"{datasets._IDX[0]} {words}", datasets.load, "mnist")
            self.assertEqual(list(self.folder.iterdir()), [])
        self.source(sums, "http://127.0.0.1:1/")
        self.fails("cannot be downloaded refused", datasets.load, "mnist")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.assertEqual(datasets.load("mnist", fallback="digits").name, "digits")
        self.assertEqual(out.getvalue().count("\n"), 1)

    def test_unwritable_folder(self):
        self.folder.write_bytes(b"a file where a folder should be")
        self.fails("cannot be downloaded", datasets.load, "mnist")
        self.assertEqual(self.folder.read_bytes(), b"a file where a folder should be")

    def test_damaged_files(self):
        for key, body, words in (
                ("X", self.bodies[0][:-20], "damaged"), ("X", b"5,1\n4,9\n", "damaged"),
                ("y", self.bodies[0], "not a whole IDX"), ("X", gzip.compress(b"x"), "not a whole IDX file"),
                ("X", gzip.compress(gzip.decompress(self.bodies[0])[:-1]), "not a whole IDX file"),
                ("y", self.bodies[3], "do not fit"), ("y", idx(self.arrays[1] + 5)[0], "do not fit"),
                ("X_test", idx(self.arrays[2][:, 1:])[0], "do not fit")):
            self.write(**{key: body})
            before = {path: path.read_bytes() for path in self.folder.iterdir()}
            self.fails(f"mnist {words}", datasets.load, "mnist", 0, "digits")         # no fallback for damage
            self.assertEqual(before, {path: path.read_bytes() for path in self.folder.iterdir()})

    def test_cats_and_dogs(self):
        try:
            import h5py
        except ImportError:
            (self.folder.parent / "cats-dogs").mkdir()
            for name in datasets._HDF5:
                (self.folder.parent / "cats-dogs" / name).touch()
            return self.fails("pip install h5py", datasets.load, "cats-dogs")
        (self.folder.parent / "cats-dogs").mkdir()
        for name, split, n in zip(datasets._HDF5, ("train", "test"), (6, 4)):
            with h5py.File(self.folder.parent / "cats-dogs" / name, "w") as file:
                file[f"X_{split}"], file[f"Y_{split}"] = np.full((n, 64, 64), n, np.uint8), np.ones((n, 1))
        data = datasets.load("cats-dogs")
        self.assertEqual((data.X_train.shape, data.y_test.tolist()), ((6, 64, 64), [1] * 4))
        (self.folder.parent / "cats-dogs" / datasets._HDF5[0]).write_bytes(b"not HDF5")
        self.fails("cats-dogs damaged", datasets.load, "cats-dogs")

    def test_folder_of_pictures(self):
        from PIL import Image
        root = self.folder.parent / "pets"
        for k, name in enumerate(("cat", "dog")):
            (root / name).mkdir(parents=True)
            for i in range(10):
                file = root / name / f"{i}.{('png', 'jpg')[i % 2]}"
                Image.new("RGB", (30 + i, 50), (200 * k,) * 3).save(file)
        data = datasets.load(str(root))
        self.assertEqual((data.X_train.shape, data.X_test.shape), ((16, 64, 64), (4, 64, 64)))
        self.assertEqual(data.classes, ("cat", "dog"))
        self.assertEqual((data.X_train.mean(axis=(1, 2)) > 100).tolist(), (data.y_train == 1).tolist())
        (root / "cat" / "0.png").write_bytes(b"no picture")
        self.fails("0.png not a picture", datasets.load, str(root))
        for file in (root / "cat").iterdir():
            file.unlink()
        self.fails("cat 0 JPEG", datasets.load, str(root))
        (root / "cat").rmdir()
        self.fails("at least 2", datasets.load, str(root))                       # one class only

    def test_no_such_name(self):
        self.fails("minst mnist, digits", datasets.load, "minst")


# --- As a user runs them --------------------------------------------------------------------------------

class TestCommandLine(Test):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def start(self, script, *argv):
        environment = {**os.environ, "DATASETS_DIR": self.folder, "PYTHONWARNINGS": "error::RuntimeWarning"}
        environment.pop("DISPLAY", None)
        return subprocess.Popen([sys.executable, str(HERE / f"{script}.py"), *argv], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder, text=True)

    def finish(self, *argv):
        process = self.start(*argv)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def test_in_a_pipe(self):
        for script in SCRIPTS:
            small = {"cnn": ["digits", "--epochs", "1"], "rnn": ["airline"]}.get(script, ["moons"])
            code, out, err = self.finish(script, "--dataset", *small)
            self.assertEqual((code, err), (0, ""), script)
            self.assertTrue(out.isascii() and "\r" not in out, script)
            self.assertTrue(out.startswith(f"{script}.py learns"), script)
            self.assertRegex(out, r"\ntest .+ after \d+ s\n(.*\n)*figure: figures/.+\.png\n$")
            self.assertTrue(Path(self.folder, out.split()[-1]).exists(), script)

    def test_help_tells_the_consequences(self):
        for script in SCRIPTS:
            code, out, _ = self.finish(script, "--help")
            self.assertEqual(code, 0)
            for option in "dataset epochs batch-size lr seed save load figure no-show".split():
                self.assertRegex(out, rf"--{option}\b[^\n]*(\n +)?[^\n]*\w{{3}}", script)

    def test_mistakes_end_in_one_line(self):
        for line in ("mlp --lr -1", "mlp --lr nan", "mlp --epochs -3", "mlp --epochs ten",
                     "mlp --batch-size 0", "mlp --dataset minst", "mlp --dataset mnist", "mlp --hidden 0",
                     "mlp --dropout 1",
                     "mlp --optimizer newton", "mlp --nonsense", "mlp --load none.npz --dataset xor",
                     "mlp --dataset moons --epochs 1 --save no/such/folder/w.npz",
                     "perceptron --dataset sine", "perceptron --classes A A"):
            script, *argv = line.split()
            code, _, err = self.finish(script, *argv)
            self.assertNotEqual(code, 0, argv)
            self.assertRegex(err, rf"^{script}\.py: [^\n]+\n$", argv)

    def test_loss_overflows(self):
        code, out, err = self.finish("mlp", "--dataset", "sine", "--optimizer", "sgd", "--lr", "1e6")
        self.assertEqual(code, 1)
        self.assertRegex(err, r"^mlp\.py: the loss is (nan|inf) in step \d+: try a lower --lr than 1e\+06\n$")

    def test_interrupt_goes_on(self):
        process = self.start("mlp", "--dataset", "moons", "--epochs", "100000")
        while "epoch" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertRegex(out, r"interrupted in epoch \d+(?s:.*)test accuracy(?s:.*)figure: ")

    def test_reader_leaves(self):
        process = self.start("mlp", "--dataset", "moons")
        process.stdout.readline()
        process.stdout.close()
        with process.stderr:
            self.assertEqual(process.stderr.read(), "")
        process.wait(timeout=30)

    def test_same_seed_same_numbers(self):
        runs = [self.run_main(script, "--dataset", "moons", "--seed", seed, "--epochs", "20")[0]["loss"]
                for script in (mlp, perceptron) for seed in ("1", "1", "2")]
        self.assertTrue(runs[0] == runs[1] != runs[2] and runs[3] == runs[4] != runs[5])

    def test_weights_are_saved_and_loaded(self):
        for script in mlp, perceptron:
            file = f"{self.folder}/{script.__name__}.npz"
            first, _ = self.run_main(script, "--dataset", "moons", "--epochs", "20", "--save", file)
            again, _ = self.run_main(script, "--dataset", "moons", "--epochs", "0", "--load", file)
            self.assertEqual(first["loss"], again["loss"])
        shapes = {name: a.shape for name, a in np.load(file).items()}
        self.assertEqual(shapes, {"weight": (1, 2), "bias": (1,)})
        self.fails("perceptron.npz another net", mlp.main, ["--dataset", "moons", "--load", file])
        Path(file).write_bytes(b"not a zip")
        self.fails("perceptron.npz no weights", mlp.main, ["--dataset", "moons", "--load", file])

    def test_batch_larger_than_the_data(self):
        self.assertGreater(self.run_main(mlp, "--dataset", "blobs", "--batch-size", "10000")[0]["score"], 0.9)


# --- What the files promise -----------------------------------------------------------------------------

PER_SCRIPT = {"main", "plot", "build", "train", "evaluate", "parse_args"}

class TestText(Test):
    def source(self, script):
        return (HERE / f"{script}.py").read_text(encoding="utf-8")

    def test_one_name_one_meaning(self):
        seen = {}
        for script in SCRIPTS:
            text = self.source(script)
            for node in ast.parse(text).body:
                if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name not in PER_SCRIPT:
                    self.assertEqual(seen.setdefault(node.name, ast.get_source_segment(text, node)),
                                     ast.get_source_segment(text, node), f"{node.name} in {script}.py")

    def test_margin(self):
        """Equations stand in one column; the README's section has the same numbers in the same order."""
        for script in SCRIPTS:
            lines = self.source(script).splitlines()
            self.assertLessEqual(max(map(len, lines)), 110, script)
            found = [re.search(r"# \((\d+)\)", line) for line in lines]
            for line, match in zip(lines, found):
                if match:
                    self.assertEqual(match.start(), max(56, len(line[:match.start()].rstrip()) + 2), line)
            margin = list(dict.fromkeys(match[1] for match in found if match))
            section = README.split(f"\n## {script}.py")[1].split("\n## ")[0]
            derived = re.findall(r"(?:\\tag\{|\[\()(\d+)[)}]", section)
            self.assertEqual(margin, list(dict.fromkeys(derived)), script)

    def test_readme_promises_what_runs_print(self):
        """Docstring and README promise the same last lines; a default run without data prints them."""
        for script in SCRIPTS:
            promises = re.findall(r"with\n\n((?:    .+\n)+)", self.source(script))
            for promise in promises:
                self.assertIn(f"with\n\n{promise}", README, script)
            shorter = ["--epochs", "1"] if script == "rnn" else []      # its default takes too long here
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, str(HERE / f"{script}.py"), *shorter]
                out = subprocess.run(command, cwd=folder, text=True, check=True, stdout=subprocess.PIPE,
                                     env={**os.environ, "DATASETS_DIR": folder}).stdout
            pattern = re.escape(promises[-1].replace("    ", "")).replace(r"\.\.\.", "(?s:.*)")
            self.assertRegex(out, re.sub(r"\d[\d,]*(\\\.\d+)?", r"[\\d.,]+", pattern) + r"\Z", script)
            if not shorter:                                                 # other processors round otherwise
                promised, printed = (float(re.findall(r"^ *test .*?(\d+\.\d+)", text, re.M)[-1])
                                     for text in (promises[-1], out))
                self.assertLess(abs(promised - printed), 1, script)


if __name__ == "__main__":
    unittest.main()
