"""Everything that must hold: python test_all.py (-v shows each test, -k mlp runs those of one script).

Needs only NumPy and matplotlib; no network, no screen. If PyTorch is installed, the nets are also compared
with it; otherwise those tests are reported as skipped.
"""
import ast
import atexit
import functools
import gzip
import hashlib
import io
import itertools
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from argparse import ArgumentTypeError, Namespace
from contextlib import nullcontext, redirect_stderr, redirect_stdout, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module, util
from pathlib import Path
from unittest import mock

# Before NumPy is imported: no window, no network, and one thread each, as several processes run at once.
os.environ.update(MPLBACKEND="Agg", https_proxy="http://127.0.0.1:1", no_proxy="127.0.0.1",
                  OPENBLAS_NUM_THREADS="1")

import matplotlib.pyplot as plt     # looks for fonts, when new: here, not in the scripts that are run
import numpy as np
from PIL import Image

import autoencoder
import cnn
import datasets
import mlp
import perceptron
import rnn

torch, h5py = (util.find_spec(name) and import_module(name) for name in ("torch", "h5py"))
HERE = Path(__file__).parent
SCRIPTS = {"perceptron": perceptron, "mlp": mlp, "cnn": cnn, "rnn": rnn, "autoencoder": autoencoder}
SOURCES = {script: (HERE / f"{script}.py").read_text(encoding="utf-8") for script in (*SCRIPTS, "datasets")}
README = (HERE / "README.md").read_text(encoding="utf-8")
SECTIONS = {script: README.split(f"\n## {script}.py")[1].split("\n## ")[0] for script in SCRIPTS}
FOX = "the quick brown fox jumps over the lazy dog\n"
BOOK = "rnn --dataset @book.txt --window 20 --batch-size 4"
rng = np.random.default_rng(7)
START = rng.bit_generator.state

# --- Tools ----------------------------------------------------------------------------------------------

def double(*layers, into=mlp.Sequential):
    """The layers as a net in float64, all parameters random: zero biases would hide a missing term."""
    for layer, name in [(layer, name) for layer in layers for name in layer.params]:
        W = getattr(layer, name)
        assert getattr(layer, f"d{name}").shape == W.shape      # gradients exist outside a net, too
        setattr(layer, name, 0.5 * rng.standard_normal(W.shape))
    return into(*layers)

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def numeric(f, a, eps=1e-5):
    """The gradient of the number f() with respect to the array a, by central differences."""
    gradient = np.empty_like(a)
    for i, old in np.ndenumerate(a):
        a[i] = old + eps
        above = f()
        a[i] = old - eps
        gradient[i] = (above - f()) / (2 * eps)
        a[i] = old
    return gradient

def loopback():
    """Whether this machine can reach itself, as it cannot in a sandbox without any network interface."""
    with suppress(OSError), socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 1).close()
        return True

@functools.cache
def digits(draw=datasets._digits):
    """The images and labels of digits, drawn once for all tests."""
    return draw(np.random.default_rng(0), 12_000)

class Test(unittest.TestCase):
    """Each test has random numbers that do not depend on the tests before it, and a temporary folder for its
    data sets, with a short book."""
    def setUp(self):
        rng.bit_generator.state = START
        self.folder = Path(self.enter(tempfile.TemporaryDirectory()))
        (self.folder / "book.txt").write_text(FOX * 60)
        self.enter(mock.patch.dict(os.environ, DATASETS_DIR=str(self.folder)))
        self.enter(mock.patch("datasets._digits", lambda *same: digits()))

    def enter(self, context):
        self.addCleanup(context.__exit__, None, None, None)
        return context.__enter__()

    def spy(self, owner, name):
        """From here on, the calls of a function of a module or class go through, and are recorded."""
        real = getattr(owner, name)
        return self.enter(mock.patch.object(owner, name, autospec=True, side_effect=real))

    def close(self, a, b, tolerance=1e-9, what=""):
        """The arrays have the same shape and differ by less than tolerance, relative to their size."""
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        self.assertEqual(a.shape, b.shape, what)
        size = (np.linalg.norm(a) + np.linalg.norm(b)) / 2
        self.assertLess(np.linalg.norm(a - b), tolerance * max(size, 1e-3), what)

    def check_gradients(self, forward, backward, *arrays, what=""):
        """For a random upstream gradient dZ, backward(dZ) gives the gradients with respect to the arrays."""
        dZ = rng.standard_normal(np.shape(forward()))
        gradients = [np.array(gradient) for gradient in backward(dZ.copy())]
        for gradient, a in zip(gradients, arrays, strict=True):
            self.close(gradient, numeric(lambda: np.sum(dZ * forward()), a), 1e-7, what)

    def check_net(self, net, X, **options):
        self.check_gradients(lambda: net.forward(X, **options), lambda dZ: (net.backward(dZ), net.dtheta),
                             X, net.theta)

    def few_digits(self, train, test):
        """From here on, digits and mnist have only so many examples."""
        data, load = datasets.load("digits"), datasets.load
        few = data._replace(X_train=data.X_train[:train], y_train=data.y_train[:train],
                            X_test=data.X_test[:test], y_test=data.y_test[:test])
        self.enter(mock.patch("datasets.load", lambda name=None, *seed:
                              few if name in (None, "digits", "mnist") else load(name, *seed)))
        return few

    def words(self, line):
        """The script and the arguments of a command line, where @ is the test's folder."""
        script, *argv = [word.replace("@", f"{self.folder}{os.sep}") for word in line.split()]
        return SCRIPTS[script], argv

    def learn(self, line, figure=False):
        """What the script returns and prints, given a command line. Draws its figure only if asked."""
        script, argv = self.words(f"{line} --no-show --figure @figure.png")
        def plot(*args):
            self.files = os.listdir(self.folder)                # when a window would open

        drawing, file = nullcontext() if figure else mock.patch.object(script, "plot", plot), Path(argv[-1])
        with drawing, redirect_stdout(io.StringIO()) as out:
            result = script.main(argv)
        if figure:
            self.assertGreater(file.stat().st_size, 10_000)
            file.unlink()
        return result, out.getvalue()

    def check_learns(self, result, *rows):
        """Each row: the command line, bounds of the result, and whether to draw the figure."""
        for line, low, high, *figure in rows:
            self.assertTrue(low < self.learn(line, *figure)[0][result] <= high, line)

    def check_start(self, layer, variance):
        """Weights are random around 0, with this variance; biases are 0."""
        self.assertAlmostEqual(layer.W.var() / variance, 1, delta=0.03)
        self.assertAlmostEqual(layer.W.mean() / variance ** 0.5, 0, delta=0.02)
        self.assertFalse(layer.b.any())

    def fails(self, words, f, *args):
        """f raises a UserError: one line that contains all the words."""
        with self.assertRaises(datasets.UserError) as caught:
            f(*args)
        self.assertNotIn("\n", str(caught.exception))
        for word in words.split():
            self.assertIn(word, str(caught.exception))

# --- perceptron.py --------------------------------------------------------------------------------------

class Test_perceptron(Test):
    def test_gradients_and_steps(self):
        answers = {"logistic": sigmoid, "rosenblatt": lambda z: 1.0 * (z > 0)}
        for (rule, answer), N in itertools.product(answers.items(), (1, 6)):
            neuron = perceptron.Perceptron(4, rule)
            self.assertEqual((neuron.w.tolist(), neuron.b.tolist()), ([[0]] * 4, [[0]]))
            neuron.w, neuron.b = rng.standard_normal((4, 1)), rng.standard_normal((1, 1))
            X, y = rng.standard_normal((4, N)), rng.integers(0, 2, (1, N)).astype(float)

            def forward():
                neuron.forward(X)
                return neuron.loss(neuron.z, y)

            def backward(dL):
                neuron.backward(y)
                return dL * neuron.dw, dL * neuron.db

            self.check_gradients(forward, backward, neuron.w, neuron.b, what=rule)
            w, b = neuron.w[:, 0].copy(), neuron.b[0].copy()
            for _ in range(4):                                                  # straight from the formula
                forward()
                neuron.backward(y)
                neuron.update(0.3)
                errors = [answer(w @ X[:, n] + b) - y[0, n] for n in range(N)]
                w -= 0.3 * sum(errors[n] * X[:, n] for n in range(N)) / N
                b -= 0.3 * sum(errors) / N
            self.close(np.append(neuron.w, neuron.b), np.append(w, b))
        z, y = np.array([[1e4, -1e4, 1e4, -1e4]], np.float32), np.array([[1, 0, 0, 1]])
        with np.errstate(all="raise", under="ignore"):                          # extreme logits
            self.assertEqual(perceptron.log_loss(z, y), 5000)
            self.assertEqual(perceptron.sigmoid(z).tolist(), [[1, 0, 1, 0]])

    def test_both_classes_have_examples(self):
        X, y = np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 1, 0])
        for train, test, names in ((y, y, "CC"), (y, y, "AC"), (y * 0, y, "AB"), (y, y + 2, "AB")):
            data = datasets.Data("", X, train, X, test, "ABC")
            self.fails("two different ones, with examples, of: A, B, C", perceptron.two_classes, data, names)

    def test_learns_a_line_and_fails_without_one(self):
        self.check_learns(
            "accuracy", ("perceptron --dataset iris", 0.8, 1, "figure"),
            ("perceptron --rule rosenblatt", 0.9, 1, "figure"), ("perceptron --rule logistic", 0.9, 1),
            ("perceptron --dataset xor", 0, 0.7), ("perceptron --dataset circles", 0, 0.7))
        row = self.spy(datasets, "plot_mistakes")
        result, _ = self.learn("perceptron --dataset digits --classes 3 8 --epochs 5", "figure")
        _, _, y, P, _ = row.call_args.args
        self.assertAlmostEqual(np.mean(P.argmax(axis=0) == y), result["accuracy"])
        self.assertGreater(result["accuracy"], 0.85)

# --- mlp.py ---------------------------------------------------------------------------------------------

class Test_mlp(Test):
    def test_layers(self):
        for N, D, K in (1, 3, 2), (5, 4, 3), (2, 1, 4):
            net, X = double(mlp.Linear(D, K, rng)), rng.standard_normal((D, N))
            W, b = net.layers[0].W, net.layers[0].b[:, 0]
            self.close(net.forward(X), [[sum(W[k] * X[:, n]) + b[k] for n in range(N)] for k in range(K)])
            self.check_net(net, X)
        X = rng.choice([-1, 1], (4, 3)) * rng.uniform(0.1, 2, (4, 3))           # away from the kink of ReLU
        for layer, right in ((mlp.Sigmoid(), sigmoid(X)), (mlp.Softmax(), np.exp(X) / np.exp(X).sum(axis=0)),
                             (mlp.ReLU(), (abs(X) + X) / 2), (mlp.Tanh(), 2 * sigmoid(2 * X) - 1)):
            self.close(layer.forward(X), right)
            self.close(mlp.Sequential(layer).forward(X), right)                 # a net without parameters
            self.check_gradients(lambda: layer.forward(X), lambda dA: [layer.backward(dA)], X)
        rewound = mock.Mock(random=lambda *args: np.random.default_rng(3).random(*args))    # a fixed mask
        net = double(mlp.Linear(5, 7, rng), mlp.Dropout(0.4, rewound), mlp.Linear(7, 6, rng), mlp.Tanh(),
                     mlp.Linear(6, 3, rng))
        self.check_net(net, rng.standard_normal((5, 4)), training=True)

    def test_losses(self):
        for K, N in (1, 1), (1, 5), (4, 3):
            Z, Y, y = rng.standard_normal((K, N)), rng.random((K, N)), rng.integers(0, K, N)
            P, Q = sigmoid(Z), np.exp(Z) / np.exp(Z).sum(axis=0)
            for loss, target, right in (
                    (mlp.MSELoss(), Y, np.mean((Z - Y) ** 2)),
                    (mlp.BCELoss(), Y, -np.mean(Y * np.log(P) + (1 - Y) * np.log(1 - P))),
                    (mlp.CrossEntropyLoss(), y, -sum(np.log(Q[y[n], n]) for n in range(N)) / N)):
                self.close(loss.forward(Z, target), right)
                self.check_gradients(lambda: loss.forward(Z, target), lambda dL: [dL * loss.backward()], Z)

    def test_extreme_logits(self):
        for dtype in np.float32, np.float64:
            Z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
            with np.errstate(all="raise", under="ignore"):
                for loss, right, wrong, most in ((mlp.CrossEntropyLoss(), [0, 1], [1, 0], 2e4),
                                                 (mlp.BCELoss(), Z > 0, Z < 0, 1e4)):
                    self.assertEqual(loss.forward(Z, np.array(right)), 0)
                    self.assertEqual(np.abs(loss.backward()).max(), 0)
                    self.assertEqual(loss.forward(Z, np.array(wrong)), most)
                    self.assertGreater(np.abs(loss.backward()).min(), 0.2)
                    self.assertEqual(loss.backward().dtype, dtype)
                for layer in mlp.Softmax(), mlp.Sigmoid():
                    self.assertEqual(layer.forward(Z).tolist(), [[1, 0], [0, 1]])

    def test_optimizers_from_the_formula(self):
        """Five steps on L = 1/2 sum c theta^2; large nets are optimized in pieces."""
        for name, decay, D in itertools.product(("sgd", "rmsprop", "adam"), (0, 0.1), (3, 60_000)):
            net, c = double(mlp.Linear(D, 2, rng)), rng.uniform(0.5, 2, 2 * D + 2)
            x, m, s, optimizer = net.theta.copy(), 0, 0, mlp.OPTIMIZERS[name](net, 0.1, decay)
            for t in range(1, 6):
                net.dtheta[:] = c * net.theta
                optimizer.step(0.5)
                g = c * x + decay * x
                if name == "sgd":
                    m = 0.9 * m + g
                    x -= 0.05 * m
                elif name == "rmsprop":
                    s = 0.99 * s + 0.01 * g ** 2
                    x -= 0.05 * g / (np.sqrt(s) + 1e-8)
                elif name == "adam":
                    m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g ** 2
                    x -= 0.05 * (m / (1 - 0.9 ** t)) / (np.sqrt(s / (1 - 0.999 ** t)) + 1e-8)
                self.close(net.theta, x, 1e-12, name)

    def test_memories_do_not_fade_into_slow_floats(self):
        net = mlp.Sequential(mlp.Linear(3, 2, rng))
        for Optimizer in mlp.OPTIMIZERS.values():
            optimizer = Optimizer(net, 0.001)
            for t in range(4000):
                net.dtheta[:] = t == 0
                optimizer.step()
            for memory in optimizer.pieces[0][2:]:
                if memory.any():                                                # not all use both
                    self.assertGreater(np.abs(memory).min(), np.finfo(np.float32).tiny)

    def test_initial_weights_and_dropout(self):
        for activation, variance in ("relu", 2 / 500), ("tanh", 2 / 700), ("sigmoid", 2 / 700):
            data = datasets.Data("", np.zeros((1, 500)), 0, 0, 0, "ABC")
            args = mlp.parse_args(["--hidden", "200", "--activation", activation, "--lr", "1"])
            self.check_start(mlp.build(data, args, rng)[0].layers[0], variance)
        net, X = mlp.Sequential(mlp.Linear(3, 3, rng), mlp.Dropout(0.3, rng)), np.ones((500, 200), np.float32)
        A = net.layers[1].forward(X)
        self.assertAlmostEqual(float((A == 0).mean()), 0.3, delta=0.01)
        self.assertAlmostEqual(float(A.mean()), 1, delta=0.01)
        self.assertEqual(A.dtype, np.float32)
        self.close(net.forward(X[:3]), net.layers[0].forward(X[:3]))            # inactive outside training

    def test_learns(self):
        moons = "mlp --dataset moons --hidden 24 24 --dropout 0.05 --weight-decay 1e-5 --epochs 100"
        self.check_learns(
            "score", ("mlp --dataset sine", 0.08, 0.15, "figure"),
            ("mlp --dataset spirals --epochs 60", 0.98, 1, "figure"),
            ("mlp --dataset digits --epochs 3", 0.9, 1, "figure"),
            ("mlp --dataset moons --epochs 30", 0.97, 1), ("mlp --dataset xor --epochs 30", 0.97, 1),
            ("mlp --dataset circles --epochs 30", 0.9, 1),
            ("mlp --dataset circles --epochs 30 --hidden", 0, 0.7),             # no hidden layers: a line
            (f"{moons} --activation relu --optimizer rmsprop", 0.95, 1),
            (f"{moons} --activation tanh --optimizer sgd", 0.95, 1),
            (f"{moons} --activation sigmoid --optimizer adam", 0.95, 1))
        seeds = [self.learn(f"mlp --dataset iris --seed {seed}", seed == 0)[0] for seed in range(10)]
        self.assertGreaterEqual(np.mean([result["score"] for result in seeds]), 0.96)
        result, out = self.learn("mlp --dataset moons --search 4 --epochs 10", "figure")
        trials = re.findall(r"^trial +\d/4   validation loss (\d\S+)   (--optim.* --lr \d.*)$", out, re.M)
        self.assertEqual(len(trials), 4)
        self.assertIn(f"the best: {min(trials)[1]}\n", out)
        self.assertGreater(result["score"], 0.8)

    def test_photographs_leave_units_alive(self):
        X, y = rng.normal(120, 40, (200, 64, 64)).astype(np.uint8), np.arange(200) % 2
        self.enter(mock.patch.object(datasets, "load", lambda *_: datasets.Data("pets", X, y, X, y, "AB")))
        net = self.learn("mlp --dropout 0 --epochs 20")[0]["net"]
        linear, relu, *_ = net.layers
        fires = relu.forward(linear.forward(datasets.batch_last(X.reshape(200, -1)))) > 0
        self.assertGreater(fires.any(axis=1).mean(), 0.5)

    def test_search_looks_at_held_out_data(self):
        data, args = datasets.as_rows(datasets.load("moons")), mlp.parse_args("--search 3 --epochs 2".split())
        rows = [(1, 0, 2, 0), (1, 0, 5, 0)], [(2, 0, 6, 0), (0, 0, 4, 0)], datasets.UserError
        datasets.fill_in(args, mlp.SMALL)
        with mock.patch.object(mlp, "train", side_effect=rows):
            self.assertEqual([L for L, *_ in mlp.search(data, args, rng)], [5, 4, math.inf])
        for wrong in KeyboardInterrupt, datasets.UserError:
            with mock.patch.object(mlp, "train", side_effect=wrong):
                self.fails("no trial came to an end", self.learn, "mlp --dataset moons --search 2")

    def test_probabilities(self):
        for K, right in (1, lambda Z: np.concatenate([sigmoid(-Z), sigmoid(Z)])), (3, mlp.Softmax().forward):
            net, X = double(mlp.Linear(2, K, rng)), rng.standard_normal((5, 2))
            self.close(datasets.probabilities(net, X), right(net.forward(X.T)), 1e-6)

    def test_held_out_data_are_held_out(self):
        """Different test data, same weights. A search never sees the final test data."""
        data, args = datasets.as_rows(datasets.load("moons")), mlp.parse_args("--hidden 32 --lr 0.01".split())
        rows, thetas = [], []
        for each in data, data._replace(X_test=-data.X_test):
            parts = mlp.build(each, args, np.random.default_rng(0))
            rows += mlp.train(*parts, each, 1, 32, np.random.default_rng(0))
            thetas.append(parts[0].theta.tolist())
        self.assertTrue(thetas[0] == thetas[1] and rows[0][:2] == rows[1][:2] and rows[0][2] != rows[1][2])
        train = self.spy(mlp, "train")
        self.assertIn("moons: 640 ", self.learn("mlp --dataset moons --search 2 --epochs 1")[1])
        last = set(data.X_test[:, 0])
        for _, _, _, part, *_ in [call.args for call in train.call_args_list]:
            self.assertEqual((len(part.X_train), len(part.X_test)), (640, 160))
            self.assertFalse(last & {*part.X_train[:, 0], *part.X_test[:, 0]})

    def test_goes_on_where_it_stopped(self):
        data = datasets.as_rows(datasets.load("moons"))
        args = mlp.parse_args("--hidden 32 --lr 0.01 --dropout 0.1 --weight-decay 0".split())
        net, loss, optimizer = mlp.build(data, args, rng)
        first, second = (list(mlp.train(net, loss, optimizer, data, 3, 32, rng))[-1] for _ in range(2))
        self.assertEqual((optimizer.lr, net.layers[2].p), (0.01, 0.1))
        self.assertLess(second[0], first[0])
        with self.assertRaisesRegex(ValueError, "a layer of its own"):
            mlp.Sequential(*[mlp.Linear(3, 3, rng)] * 2)

# --- cnn.py ---------------------------------------------------------------------------------------------

KERNELS, SIZES = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (2, 3)), ((7, 8), (6, 5))

def windows(X, kH, kW, s):
    """For each place (h, w) in the output, the slice of X (C, H, W, N) that it sees."""
    H, W = (X.shape[1] - kH) // s + 1, (X.shape[2] - kW) // s + 1
    return {(h, w): np.s_[:, s * h:s * h + kH, s * w:s * w + kW] for h, w in np.ndindex(H, W)}

def naive_conv(X, W, b, s, p, dZ):
    """Z, dX, dW and db, one place at a time, straight from the formula."""
    X = np.pad(X, ((0, 0), (p, p), (p, p), (0, 0)))
    Z, dX, dW = np.full_like(dZ, np.nan), np.zeros_like(X), np.zeros_like(W)
    for (h, w), place in windows(X, *W.shape[2:], s).items():
        Z[:, h, w] = np.einsum("kcij,cijn->kn", W, X[place]) + b
        dX[place] += np.einsum("kcij,kn->cijn", W, dZ[:, h, w])
        dW += np.einsum("kn,cijn->kcij", dZ[:, h, w], X[place])
    return Z, dX[:, p:X.shape[1] - p, p:X.shape[2] - p], dW, np.einsum("khwn->k", dZ)[:, None]

def naive_pool(X, kH, kW, s, dA):
    """A and dX, one number at a time."""
    A, dX = np.full_like(dA, np.nan), np.zeros_like(X)
    for ((h, w), place), c, n in itertools.product(windows(X, kH, kW, s).items(), *map(range, X.shape[::3])):
        seen, dseen = X[place][c, :, :, n], dX[place][c, :, :, n]
        i, j = np.unravel_index(seen.argmax(), (kH, kW))                        # of equals, the first
        A[c, h, w, n] = seen[i, j]
        dseen[i, j] += dA[c, h, w, n]
    return A, dX

class Test_cnn(Test):
    def test_layers_from_the_formula(self):
        cases = itertools.product(KERNELS, (1, 2, 3), (0, 1, 2), SIZES, ((1, 2, 1), (3, 2, 2)))
        for kernel, s, p, size, (C, K, N) in cases:
            conv, pool = double(cnn.Conv2d(C, K, kernel, rng, s, p)), cnn.MaxPool2d(kernel, s)
            X, [layer] = rng.standard_normal((C, *size, N)), conv.layers
            if N == 1:
                self.check_net(conv, X)
                self.check_gradients(lambda: pool.forward(X), lambda dA: [pool.backward(dA)], X)
            X = X if p else rng.integers(0, 3, X.shape) * 1.0                   # pooling must meet ties
            Z, A = conv.forward(X), pool.forward(X)
            dZ, dA = rng.standard_normal(Z.shape), rng.standard_normal(A.shape)
            dX, layer.needs_dX = conv.backward(dZ), False                       # as in a first layer
            self.assertIsNone(conv.backward(dZ))
            ours = Z, dX, layer.dW, layer.db, A, pool.backward(dA)
            naive = *naive_conv(X, layer.W, layer.b, s, p, dZ), *naive_pool(X, *kernel, s, dA)
            for mine, right in zip(ours, naive, strict=True):
                self.close(mine, right, what=f"kernel {kernel}, {s=}, {p=}, {size}, {C=}")

    def test_gradients(self):
        net = double(cnn.Conv2d(2, 3, (2, 3), rng, 1, 1), cnn.MaxPool2d(2), cnn.ReLU(), cnn.Flatten(),
                     cnn.Linear(27, 2, rng))
        self.check_net(net, rng.standard_normal((2, 5, 6, 3)))

    def test_impossible_layers_and_first_kernels(self):
        for layer, words in ((cnn.Conv2d(1, 2, 5, rng), "kernel 5, stride 1 fit 4 + 2 x 0"),
                             (cnn.Conv2d(1, 2, (1, 8), rng, 1, 1), "kernel 8, stride 1 fit 5 + 2 x 1"),
                             (cnn.Conv2d(1, 2, 3, rng, 0), "kernel 3, stride 0"),
                             (cnn.Conv2d(1, 2, 3, rng, 1, -1), "2 x -1"),
                             (cnn.MaxPool2d(5), "kernel 5, stride 5 fit 4"),
                             (cnn.MaxPool2d((1, 6), 1), "kernel 6, stride 1 fit 5"),
                             (cnn.MaxPool2d(2, (1, 0)), "kernel 2, stride 0"),
                             (cnn.MaxPool2d(0, 1), "kernel 0, stride 1")):
            self.fails(words, layer.forward, np.zeros((1, 4, 5, 1)))
        self.check_start(cnn.Conv2d(20, 200, 5, rng), 2 / 500)

    def test_learns_and_reads_pictures(self):
        small = "cnn --channels 4 8 --hidden"
        result, out = self.learn(f"{small} --dataset digits --epochs 2 --lr 1e-2 --save @w.npz", "figure")
        self.assertGreater(result["score"], 0.8)
        self.assertRegex(out, r"Conv2d +4 x 24 x 24 +104 +57,600\n(.*\n)*Linear +10 +1,290 +1,280\n"
                              r"total +2,202 +110,080\n")
        data = datasets.load("digits")
        light = data.X_test[np.flatnonzero(data.y_test == 0)[0]]
        dark = 255 - np.kron(light[:, 3:], np.ones((9, 9), np.uint8))           # large and off-centre
        for name, picture in ("light", light), ("dark", dark):
            Image.fromarray(picture).save(self.folder / f"{name}.png")
        many = " @light.png" * 5                                                # on two rows of the figure
        result, out = self.learn(f"{small} --load @w.npz --predict @light.png @dark.png{many}", "figure")
        self.assertEqual(result["P"].argmax(axis=0).tolist(), [0] * 7)
        self.assertNotIn("instead", out)                                        # no attempt to load mnist
        said = re.findall(r"(?:light|dark)\.png: 0 \(\d+\.\d %\), \d \(\d+\.\d %\), \d \(", out)
        self.assertEqual(len(said), 7)

    def test_pictures_are_prepared_as_in_mnist(self):
        def prepared(page, name="mnist", side=28, turned=False):
            Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(self.folder / "page.png")
            X = np.zeros((1, 1, side, side), np.uint8)
            return datasets.prepare(self.folder / "page.png", datasets.Data(name, X, 0, X, 0, (), turned))

        page = np.full((150, 100), 230)
        page[20:100, 75:85] = 20                # a bar of 80 x 10 becomes 20 x 2.5 in the middle
        picture = prepared(page)
        rows, columns = np.nonzero(picture)
        self.assertEqual((rows.min(), rows.max(), np.ptp(columns) + 1, picture.max()), (4, 23, 2, 255))
        self.assertLessEqual(abs(columns.mean() - 14), 0.5)
        y, x = np.mgrid[-1:1:150j, -1:1:100j]   # a photograph: light from a corner, dark ink, grain
        photograph = page * (0.8 - 0.15 * x + 0.1 * y) + 5 * rng.standard_normal(page.shape)
        self.assertLess(np.abs(prepared(photograph) - picture.astype(float)).mean(), 3)
        square = page[:64, :64]                 # for a net that has learnt a user's own pictures
        self.close(prepared(square, "own", 64), square)
        self.close(prepared(square, "own", 64, True), 255 - square)
        page[20:22] = 20                        # ink from edge to edge of the page
        for picture, size in ((prepared(page), [16, 20]), (prepared(255 - page), [16, 20]),
                              (prepared(page, "fashion"), [22, 28])):           # such data fill their frame
            self.assertEqual((np.ptp(np.nonzero(picture), axis=1) + 1).tolist(), size)

# --- rnn.py ---------------------------------------------------------------------------------------------

def recurrent(name, D=3, H=4, K=2):
    return double(rnn.CELLS[name](D, H, rng), rnn.Linear(H, K, rng), into=rnn.Recurrent)

class Test_rnn(Test):
    def test_gradients(self):
        for name, (T, N), last in itertools.product(rnn.CELLS, ((1, 1), (2, 3), (5, 2), (4, 1)), (0, 1)):
            net, X = recurrent(name), rng.standard_normal((T, 3, N))
            state = tuple(rng.standard_normal((4, N)) for _ in range(net.cell.states))

            def backward(dZ):
                dX, dstate = net.backward(dZ)
                return dX, net.dtheta, *dstate

            self.check_gradients(lambda: net.forward(X, state, last)[0], backward, X, net.theta, *state,
                                 what=name)

    def test_cells_step_by_step(self):
        """Against the formula, while the net reads windows and carries its state from one to the next."""
        for name in rnn.CELLS:
            net, X, parts, state = recurrent(name), rng.standard_normal((6, 3, 2)), [], 0
            for window in X[:3], X[3:4], X[4:]:
                Z, state = net.forward(window, state)
                parts.append(Z.reshape(2, -1, 2))
            cell, h, c = net.cell, np.zeros((4, 2)), np.zeros((4, 2))
            for t, Z in enumerate(np.concatenate(parts, axis=1).swapaxes(0, 1)):
                a, u = cell.W_ih @ X[t] + cell.b_ih, cell.W_hh @ h + cell.b_hh
                if name == "rnn":
                    h = np.tanh(a + u)
                elif name == "lstm":
                    i, f, g, o = np.split(a + u, 4)
                    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                    h = sigmoid(o) * np.tanh(c)
                else:
                    r, z, _ = np.split(sigmoid(a + u), 3)
                    h = (1 - z) * np.tanh(a[8:] + r * u[8:]) + z * h
                self.close(Z, net.output.W @ h + net.output.b, 1e-12, name)
            for mine, right in zip(state, (h, c)[:cell.states], strict=True):
                self.close(mine, right, 1e-12, name)

    def test_how_far_the_gradient_reaches(self):
        for name in "rnn", "gru":
            net, X, Y = recurrent(name), rng.standard_normal((5, 3, 2)), rng.standard_normal((2, 10))
            task = mock.Mock(windows=lambda training: iter([(X, Y, None)]))
            norms, H = rnn.reach(net, rnn.MSELoss(), task), net.cell.H[1:].copy()

            def last(h, t):
                """The loss of the last step, given the state h after step t."""
                Z = net.forward(X[t + 1:], (h,), 1)[0] if t < 4 else net.output.forward(h)
                return rnn.MSELoss().forward(Z, Y[:, -2:])

            right = [np.linalg.norm(numeric(lambda: last(H[t], t), H[t])) for t in range(5)][::-1]
            self.close(norms, np.array(right) / right[0], 1e-6, name)

    def test_two_threads(self):
        """Each has half of a large minibatch; together they give what one net gives."""
        for N, threads, halves in (101, "", 2), (101, "1", 2), (101, "2", 1), (99, "1", 1):
            one, first, second = (recurrent("lstm") for _ in range(3))
            first.theta[:] = one.theta
            both = datasets.Halves(first, second)
            X, Y = rng.standard_normal((4, 3, N)), rng.random((2, 2 * N))
            state, loss = rng.standard_normal((2, 4, N)), rnn.MSELoss()
            with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS=threads):
                for begin in 0, tuple(state):
                    for net in one, both:
                        Z, end = net.forward(X, begin, last=2)
                        loss.forward(Z, Y)
                        net.backward(loss.backward())
                        net.results = Z, *end, net.dtheta
                    self.assertEqual(len(both.nets), halves)
                    for mine, right in zip(both.results, one.results, strict=True):
                        self.close(mine, right, 1e-12)

    def test_interrupted_threads_come_to_their_end(self):
        """Else they would write into the nets while these are evaluated."""
        both, done = datasets.Halves(recurrent("rnn"), None), []
        both.nets, interrupted = [None] * 2, mock.Mock(side_effect=KeyboardInterrupt)
        with self.assertRaises(KeyboardInterrupt):
            both.each(lambda net, work: work(), (interrupted, lambda: done.append(time.sleep(0.2))))
        self.assertEqual(len(done), 1)                                          # after the sleep

    def test_first_weights(self):
        cell = rnn.LSTM(100, 400, rng)
        for name in cell.params:
            variance = 1 if name == "W_ih" else 1 / 1200
            self.assertAlmostEqual(getattr(cell, name).var() / variance, 1, delta=0.1)

    def test_clipping(self):
        long = rng.standard_normal(50)
        norm = np.linalg.norm(long)
        for limit, right in (norm, long), (norm + 1e-9, long), (0.5, 0.5 * long / norm):
            g = long.copy()
            rnn.clip(g, limit)
            self.close(g, right, 1e-12)

    def test_forecasts_start_at_the_rule(self):
        for run in self.learn("rnn --dataset airline --compare --epochs 0")[0]["runs"].values():
            self.assertEqual(run["rmse"]["net, one step"], run["rmse"]["last season times growth"])
            self.assertEqual(run["rmse"]["net, free run"], run["rmse"]["constant growth"])

    def test_text(self):
        task = datasets.Text("book", FOX * 20, 2, 8)
        seen, after = zip(*((X.argmax(axis=1), y.reshape(-1, 2)) for X, y, _ in task.windows(training=True)))
        seen, after, half = np.concatenate(seen), np.concatenate(after), len(task.text[0]) // 2
        for n in range(2):
            read = "".join(task.classes[k] for k in seen[:, n])
            self.assertEqual(read, task.text[0][n * half:(n + 1) * half - 1])
        self.assertTrue((seen[1:] == after[:-1]).all())
        net = rnn.Recurrent(rnn.GRU(task.D, 8, rng), rnn.Linear(8, task.K, rng))
        net.theta[:] = 2 * np.random.default_rng(0).standard_normal(net.theta.size)     # each letter counts
        one, same, other = (rnn.sample(net, task, 30, 1, "the", np.random.default_rng(k)) for k in (0, 0, 1))
        self.assertTrue(one == same != other and one.startswith("the") and len(one) == 33)
        for prime in "the", "qui", "fox", "jum", "ove", "laz", "dog", "bro":
            likeliest = rnn.sample(net, task, 5, 1e-6, prime, rng)
            for k in range(3, 8):
                Z = net.forward(task.one_hot(task.encode(likeliest[:k])[:, None]))[0]
                self.assertEqual(task.classes[Z[:, -1].argmax()], likeliest[k])

    def test_readers_and_losses(self):
        """Few characters have few readers. The net need not find the gradient of characters."""
        task = datasets.Text("book", FOX * 20, 3, 7)
        self.assertEqual([task.readers(np.zeros(n)) for n in (0, 7, 16 * 14, 16 * 7 * 9)], [1, 1, 2, 3])
        net, loss = rnn.build("gru", task, Namespace(hidden=3, seed=0))
        self.assertTrue(isinstance(loss, rnn.CrossEntropyLoss) and not net.cell.needs_dX)
        ax = mock.Mock()
        datasets.plot_losses(ax, [(4, 5), (2, 3)], "C1", "GRU")
        drawn = [(list(call.args[1]), call.args[2], call.kwargs["label"]) for call in ax.plot.call_args_list]
        self.assertEqual(drawn, [([4, 2], "C1.--", "GRU, train"), ([5, 3], "C1.-", "GRU, test")])

    def test_telling_units(self):
        """What each unit follows: places by the characters so far, and what comes next."""
        book = re.sub("\n+", "\n", "".join(rng.choice([*"abcdE \n"], 3500)))[:3000]     # 300 are held out
        for book, n in (book.lower(), 3), (f"{book[:2850]}\n\n{book[2850:]}", 5):
            task = datasets.Text("book", book, 1, 7)
            net = rnn.Recurrent(rnn.LSTM(task.D, 5, rng), rnn.Linear(5, task.K, rng))
            found, passage = task.telling(net)
            self.assertEqual(len(found), n)                                     # not what never occurs
            h, text = net.cell.H[1:, :, 0], task.text[1]
            self.assertTrue(len(passage) == 90 and ("\n\n" in passage) == ("\n\n" in text))
            shown = slice(text.index(passage), text.index(passage) + 90)
            starts = [text.rfind("\n", 0, i + 1) for i in range(len(text) - 1)]
            facts = {"place in line": [i - start for i, start in enumerate(starts)],
                     "after a blank line": [start > 0 and text[start - 1] == "\n" for start in starts],
                     "capital next": [a.isupper() for a in text[1:]],
                     "space next": [a in " \n" for a in text[1:]],
                     "vowel next": [a in "aeiouAEIOU" for a in text[1:]]}
            for name in found:
                r = np.corrcoef(facts[name], h.T)[0, 1:]
                best = np.abs(r).argmax()
                self.close(found[name][0], abs(r[best]), 1e-6, name)
                self.close(found[name][1], np.sign(r[best]) * h[shown, best])

    def test_state_is_carried_over_text_that_is_held_out(self):
        """One reader: windows give the same as one long window. Steps of no length leave the net as it is."""
        task, loss = datasets.Text("book", FOX * 18 + FOX[::-1] * 2, 1, 7), rnn.CrossEntropyLoss()
        net = rnn.Recurrent(rnn.LSTM(task.D, 8, rng), rnn.Linear(8, task.K, rng))
        rows = list(rnn.train(net, loss, rnn.SGD(net, 1e-30), task, 1, math.inf))
        for text, L in zip(task.text, rows[0]):
            ids = task.encode(text)
            self.close(L, loss.forward(net.forward(task.one_hot(ids[:-1, None]))[0], ids[1:]), 1e-5)
        self.assertEqual(task.text, (FOX * 18, FOX[::-1] * 2))
        values = np.exp(np.sin(range(60)))
        series = (datasets.Series("", np.append(values, tail), 4) for tail in (values[:30], values[30:]))
        one, two = (list(task.windows(training=True))[0][0].tolist() for task in series)
        self.assertEqual(one, two)

    def test_what_it_says_of_its_results(self):
        truth = np.arange(5.0)
        all_rules = "does not beat last value, last season's value"
        for free, one, free_says, one_says in ((3, 1, "does not beat last value", "beats every simple rule"),
                                               (math.nan, math.nan, all_rules, all_rules)):
            series = mock.Mock(forecasts=lambda net: {
                "truth": truth, "last value": truth + 3, "last season's value": truth - 4,
                "net, free run": truth + free, "net, one step": truth + one})
            with redirect_stdout(io.StringIO()) as out:
                words, more = datasets.Series.report(series, None, 0.0)
            np.testing.assert_equal((words, [*more["rmse"].values()]), (f"RMSE {one}", [3, 4, free, one]))
            self.assertIn(f"one step ahead the net {one_says}\n", out.getvalue())
            self.assertIn(f"sees as little) the net {free_says}\n", out.getvalue())
        for shift, rule in (0, "last season times growth"), (-9, "last season plus growth"):
            self.assertEqual(datasets.Series("", np.arange(1, 61) + shift, 12).rule, rule)
        flat, ax = datasets.Series("flat", np.ones(60), 12), mock.MagicMock()
        with mock.patch.object(flat, "forecasts", return_value={}):
            flat.show(ax, dict(net=None, cell="rnn", rmse={}), None)
        self.assertEqual(ax.set.call_args.kwargs["ylim"], (0, 2))               # not (1, 1)
        words, _ = datasets.Text("book", FOX * 20, 1, 7).report(None, 1.0)
        self.assertEqual(words, "1.00 nats per character (1.44 bits, perplexity 2.7)")

    def test_learns(self):
        result, _ = self.learn("rnn --dataset airline --compare", "figure")
        for run in result["runs"].values():
            rules = [value for name, value in run["rmse"].items() if "net" not in name]
            self.assertLess(run["rmse"]["net, one step"], min(rules))
            self.assertLess(run["rmse"]["net, free run"], run["rmse"]["last season's value"])
        self.close(run["task"].values.sum(), 40363)
        self.close(run["rmse"]["last value"], 48.0412, 1e-5)
        self.close(run["rmse"]["last season times growth"], 15.6208, 1e-5)
        self.close(run["rmse"]["constant growth"], 16.4718, 1e-5)
        adding = "rnn --dataset adding --window 10 --cell gru --hidden 24 --epochs 8"
        self.check_learns("loss", (adding, 0, 0.03, "figure"),
                          (f"{BOOK} --hidden 24 --epochs 20 --lr 0.02", 0, 0.3, "figure"))

# --- autoencoder.py -------------------------------------------------------------------------------------

def transposed():
    """Transposed convolutions of all kinds: the net, its layer, X, and dZ of the shape that Z should have."""
    for kernel, s, p, size in itertools.product((1, 3, 4, (2, 3)), (1, 2, 3), (0, 1), ((1, 1), (3, 4))):
        net = double(autoencoder.ConvTranspose2d(3, 2, kernel, rng, s, p))
        H, W = (s * (side - 1) + k - 2 * p for side, k in zip(size, net.layers[0].kernel))
        if H > 0 and W > 0:
            yield net, net.layers[0], rng.standard_normal((3, *size, 2)), rng.standard_normal((2, H, W, 2))

def small_autoencoder(*argv):
    """A net for pictures of 8 x 8 in float64, all parameters random; its loss; the shape of its pictures."""
    args = autoencoder.parse_args(["--hidden", "6", "--latent", "3", "--lr", "0.01", *argv])
    data = datasets.Data("", np.zeros((1, 8, 8), np.uint8), 0, np.zeros((1, 8, 8), np.uint8), 0, "01")
    data = datasets.as_pictures(data, args.conv)
    with mock.patch("autoencoder.CHANNELS", (2, 3)):
        net, loss, _ = autoencoder.build(data, args, rng)
    net = double(*net.layers)
    net.theta *= 0.6                            # or large signals would magnify rounding errors
    net.layers[0].needs_dX = True
    return net, loss, data.X_train.shape[1:]

AUTOENCODERS = [], ["--conv"], ["--loss", "bce"], ["--conv", "--loss", "bce", "--hidden"]

def naive_map(P, Y):
    """KL divergence and forces, pair by pair."""
    L, dY, pairs = 0, np.zeros_like(Y), list(itertools.permutations(range(len(P)), 2))
    w = {(i, j): 1 / (1 + ((Y[:, i] - Y[:, j]) ** 2).sum()) for i, j in pairs}
    Z = sum(w.values())
    for i, j in pairs:
        L += P[i, j] * math.log(P[i, j] * Z / w[i, j])
        dY[:, i] += 4 * (P[i, j] - w[i, j] / Z) * w[i, j] * (Y[:, i] - Y[:, j])
    return L, dY

class Test_autoencoder(Test):
    def test_transposed_convolution(self):
        """Against the loops of a convolution whose input is our output; and as the transpose of Conv2d."""
        for net, layer, X, dZ in transposed():
            how, case = (layer.stride, layer.padding), f"{layer.kernel} {layer.stride} {layer.padding}"
            self.check_net(net, X)
            lowered, raised, dW, _ = naive_conv(dZ, layer.W, np.zeros((3, 1)), *how, X)
            self.close(net.forward(X), raised + layer.b[:, :, None, None], what=case)
            self.close(net.backward(dZ), lowered, what=case)
            self.close(layer.dW, dW, what=case)
            self.close(layer.db[:, 0], dZ.sum(axis=(1, 2, 3)), what=case)
            down = double(autoencoder.Conv2d(2, 3, layer.kernel, rng, *how))
            down.layers[0].W[:], down.layers[0].b[:] = layer.W, 0
            self.assertAlmostEqual(np.vdot(down.forward(dZ), X), np.vdot(dZ, raised), 10, case)
            self.close(down.backward(X), raised, what=case)
        self.check_start(autoencoder.ConvTranspose2d(100, 20, 4, rng, stride=2), 2 * 2 ** 2 / (100 * 16))

    def test_gradients(self):
        for argv in AUTOENCODERS:
            net, _, shape = small_autoencoder(*argv)
            self.check_net(net, rng.random((*shape, 2)))

    def test_starts_at_the_mean_picture(self):
        X = rng.integers(0, 256, (50, 8, 8), np.uint8) // np.arange(1, 9, dtype=np.uint8)
        X[:, 0, 0], X[:, 0, 1] = 0, 255                 # a sigmoid never reaches 0 and 1
        y, mean = np.zeros(50, int), X.mean(axis=0).reshape(-1, 1) / 255
        for argv in [], ["--conv"], ["--hidden", "--loss", "bce"]:
            args = autoencoder.parse_args(["--hidden", "6", "--lr", "0.01", *argv])
            data = datasets.as_pictures(datasets.Data("", X, y, X, y, "A"), args.conv)
            decoder = autoencoder.build(data, args, rng, 3)[0].decoder
            self.close(decoder.layers[-1].forward(decoder.layers[-2].b),
                       mean.mean(keepdims=True) if args.conv else np.clip(mean, 0.01, 0.99), 1e-6)

    def test_linear_autoencoder_finds_the_subspace_of_pca(self):
        X = rng.standard_normal((200, 6)) * [3, 2.5, 2, 0.5, 0.4, 0.3] @ rng.standard_normal((6, 6)) + 1
        (_, V), (_, S, Vt) = autoencoder.pca(X, 3), np.linalg.svd(X - X.mean(axis=0))
        self.close(V.T @ V, Vt[:3].T @ Vt[:3])
        self.close(abs(autoencoder.pca(X, 2)[1]), abs(Vt[:2]))
        self.close(autoencoder.project(X[:5], *autoencoder.pca(X[:5], 4)), X[:5])   # fewer than dimensions
        net = double(autoencoder.Linear(6, 3, rng), autoencoder.Linear(3, 6, rng))
        loss, optimizer = autoencoder.MSELoss(), autoencoder.Adam(net, 0.05)
        for step in range(3000):
            L = loss.forward(net.forward(X.T), X.T)
            net.backward(loss.backward())
            optimizer.step(1 - step / 3000)
        self.assertTrue(1 - 1e-9 < L / ((S[3:] ** 2).sum() / X.size) < 1.02)
        Q = np.linalg.qr(net.layers[1].W)[0]
        self.close(Q @ Q.T, V.T @ V, 0.1)

    def test_corruption(self):
        X = np.full((100, 1000), 0.5, np.float32)
        noisy, masked = (autoencoder.corrupt(X, *how, rng) for how in ((0.3, 0), (0, 0.3)))
        self.assertAlmostEqual(float(np.std(noisy - X)), 0.3, delta=0.005)
        self.assertAlmostEqual(float(np.mean(noisy)), 0.5, delta=0.005)
        self.assertAlmostEqual(float(np.mean(masked == 0)), 0.3, delta=0.01)
        self.assertEqual(set(np.unique(masked)), {0, 0.5})
        net = autoencoder.Autoencoder([mlp.Linear(64, 5, rng)], [mlp.Linear(5, 64, rng)])
        X = rng.integers(1, 256, (50, 64), np.uint8)
        seen, made, codes, error = autoencoder.evaluate(net, X, mask=0.5)
        self.close(codes.T, net.encoder.forward(seen.T), 1e-6)
        self.assertAlmostEqual(float(np.mean(seen == 0)), 0.5, delta=0.05)
        self.close(made.T, net.forward(seen.T), 1e-6)
        self.assertAlmostEqual(error, np.mean((made - X / 255) ** 2), 5)

    def test_tsne_from_the_formula(self):
        for n, perplexity in (12, 4), (15, 1.5), (9, 7.9):
            X = rng.standard_normal((4, n)) * rng.uniform(0.1, 3, n)
            others, P = ~np.eye(n, dtype=bool), np.zeros((n, n))
            d = ((X[:, :, None] - X[:, None]) ** 2).sum(axis=0)[others].reshape(n, n - 1)
            p = autoencoder.neighbours(d, perplexity)
            beta = np.log(p[:, :1] / p[:, 1:2]) / (d[:, 1:2] - d[:, :1])        # whatever was found for it
            right = np.exp(-beta * d)
            P[others] = (right / right.sum(axis=1, keepdims=True)).ravel()
            self.close(autoencoder.affinities(X.T, perplexity), (P + P.T) / (2 * n))
        for n, size, exaggeration in (8, 0.1, 1), (8, 1, 1), (9, 1e-4, 12):
            P, Y = rng.uniform(0.01, 1, (n, n)), size * rng.standard_normal((2, n))
            P = np.maximum((P + P.T) * (1 - np.eye(n)) / (P.sum() - P.trace()) / 2, 1e-30) * exaggeration
            dY, (L, right) = autoencoder.map_gradient(P, Y.T).T, naive_map(P, Y)
            self.assertAlmostEqual(autoencoder.divergence(P, Y.T), L, places=9)
            self.close(dY, right)
            if n == 8:
                self.close(dY, numeric(lambda: autoencoder.divergence(P, Y.T), Y), 1e-7)

    def test_each_point_has_the_perplexity(self):
        X = rng.standard_normal((5, 200)) * rng.uniform(1e-3, 10, 200)
        X[:, :8], X[:, 8:11], X[:, 11] = X[:, :1], X[:, 8:9] + 1e4, -1e8      # equals, far group, outlier
        d = ((X[:, :, None] - X[:, None]) ** 2).sum(axis=0)[~np.eye(200, dtype=bool)].reshape(200, 199)
        for perplexity in (10, 30, 150, 198.5):
            p = autoencoder.neighbours(d, perplexity)
            H = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
            self.assertLess(abs(np.exp(H) - perplexity).max(), 1e-4)
            self.assertTrue(np.isfinite(autoencoder.affinities(X.T, perplexity)).all())
        self.close(autoencoder.neighbours(np.zeros((2, 5)), 3), np.full((2, 5), 0.2))

    def test_tsne_descends_as_the_paper_says(self):
        """The gradient keeps its sign along one axis of the map and flips it every step along the other."""
        for n, lr, T in (20, 5, 40), (400, 50, 120), (4800, 100, 120):
            X, states, fixed = rng.standard_normal((n, 4)), [], rng.standard_normal((n, 2))

            def watch(P, Y):
                states.append((Y.copy(), P[0], fixed * [1, (-1.1) ** len(states)]))
                return states[-1][2]

            with mock.patch.multiple(autoencoder, map_gradient=watch, affinities=lambda X, p: np.full(1, p),
                                     divergence=watch):
                autoencoder.tsne(X, 5, T)
            self.assertEqual([state[1] for state in states], [60] * (T // 4) + [5] * (T - T // 4 + 1))
            X = X - X.mean(axis=0)
            start = X @ np.linalg.svd(X.T @ X)[0][:, :2]
            self.close(abs(states[0][0]), abs(start) * 1e-4 / start[:, 0].std(), 1e-6)
            for t, (Y, _, dY) in enumerate(states[:-1]):
                if t in (0, T // 4):
                    m, gains = np.zeros((n, 2)), np.ones((n, 2))
                same = m * dY > 0
                gains[same] += 0.2
                gains[~same] *= 0.8
                gains = np.maximum(gains, 0.01)
                m = (0.5 if t < T // 4 else 0.8) * m + gains * dY
                self.close(states[t + 1][0] - Y, -lr * (m - m.mean(axis=0)), 1e-3)

    def test_clusters_stay_apart(self):
        label = np.repeat([0, 1, 2], 30)
        X = (10 * np.eye(5)[label] + rng.standard_normal((90, 5))).astype(np.float32)
        Y, L = autoencoder.tsne(X, 10)
        means = np.stack([Y[label == k].mean(axis=0) for k in range(3)])
        within = np.sqrt(((Y - means[label]) ** 2).sum(axis=1)).max()
        apart = np.sqrt(((means - means[[1, 2, 0]]) ** 2).sum(axis=1)).min()
        self.assertGreater(apart, 2 * within)
        self.assertLess(L, 0.45)
        for perplexity in (89, 0.5, math.nan):
            self.fails("perplexity 90 points", autoencoder.affinities, X, perplexity)

    def test_learns(self):
        few, small = self.few_digits(600, 60), "autoencoder --epochs 2 --hidden 32 --latent"
        result, out = self.learn(f"{small} 5 2 2", "figure")
        self.assertEqual(out.count("learns"), 2)                                # the same twice is once
        self.assertRegex(out, r"test error 0\.\d{4} per pixel \(PCA: 0\.\d{4}\) after \d s\n(.*\n)+figure: ")
        self.fails("perplexity 60 points", self.learn, "autoencoder --perplexity 60")
        self.fails("800 codes 784 pixels", self.learn, "autoencoder --latent 800")
        X, X_test = few.X_train.reshape(600, -1) / 255, few.X_test.reshape(60, -1) / 255
        lost = autoencoder.project(X_test, *autoencoder.pca(X, 2)) - X_test
        self.assertAlmostEqual(result["PCA"], np.mean(lost ** 2), 6)
        several = f"{small} 2 5 --noise 0.5 --labels 400 --classify"
        accuracy = autoencoder.regression(X, few.y_train, X_test, few.y_test, 10, rng)
        self.assertTrue(0.7 < accuracy < 1)
        y = np.arange(99) % 3                           # of three on a line, the middle one needs its bias
        x, update = np.array([[0.0], [100], [250]])[y], self.spy(autoencoder.Adam, "update")
        self.assertEqual(autoencoder.regression(x, y, x, y, 3, rng), 1)
        steps = update.call_count
        autoencoder.regression(x[:2], y[:2], x, y, 3, rng)
        self.assertLess(update.call_count, 3 * steps)   # few examples take no more steps than a hundred
        x, y = np.zeros((99, 1)), np.ones(99, int)      # features without a spread: the bias alone knows
        self.assertEqual(autoencoder.regression(x, y, x, y, 3, rng), 1)
        regression = self.enter(mock.patch.object(autoencoder, "regression", return_value=0.5))
        result, out = self.learn(several, "figure")
        sizes = [tuple(len(part) for part in call.args[:4]) for call in regression.call_args_list]
        self.assertEqual(set(sizes), {(600, 600, 60, 60), (400, 400, 60, 60)})
        self.assertEqual([len(run[400] + run[600]) for run in result["runs"].values()], [6, 6])
        self.assertRegex(out, r"codes +test error +PCA\n +2 +0\.\d+ +0\.\d+\n +5 ")
        self.assertEqual(self.learn(f"{several} --labels 9999")[1].count("regression"), 2)  # all labels once
        sheets = self.spy(datasets, "plot_sheet")
        result, _ = self.learn(f"{small} 6 --conv --loss bce --mask 0.3", "figure")
        self.assertLess(result["history"][1][1], result["history"][0][1])
        shown = np.split(sheets.call_args_list[0].args[1].reshape(-1, 784), 4)      # 14 pictures in each row
        for row, parts in zip(shown, (few.X_test / 255, result["seen"], result["made"], result["projected"])):
            self.close(row, parts[:14].reshape(14, 784))
        groups, made = (result["codes"][few.y_test == k] for k in range(10)), result["net"].decoder
        typical = [codes[np.linalg.norm(codes - codes.mean(axis=0), axis=1).argmin()] for codes in groups]
        walks = next(call.args[1] for call in sheets.call_args_list if "walks" in str(call.args[-1]))
        self.close(walks[::11].transpose(1, 2, 0), made.forward(np.transpose(typical))[0], 1e-5)

# --- Beside PyTorch -------------------------------------------------------------------------------------

def alone(output):
    """Z or dX alone: Recurrent returns the state as well."""
    return output[0] if isinstance(output, tuple) else output

@unittest.skipIf(torch is None, "PyTorch is not installed")
class TestTorch(Test):
    """The same weights in PyTorch: outputs, gradients and steps agree to 1e-9 in float64."""

    def check_twin(self, net, loss, shape, y, model=None, Optimizer=mlp.Adam, decay=0, limit=math.inf,
                   steps=10):
        from benchmarks.vs_torch import twin, twin_loss, twin_optimizer
        model, criterion = model or twin(net, torch.float64), twin_loss(loss)
        ours, file = Optimizer(net, 0.01, decay), self.folder / "w.npz"
        theirs = twin_optimizer(ours, model)
        np.savez(file, **net.weights)                                      # the weights travel by file
        model.load_state_dict({name: torch.tensor(a) for name, a in np.load(file).items()})
        for step in range(steps):
            X = rng.standard_normal(shape)
            inputs = torch.tensor(np.moveaxis(X, -1, 0).copy(), requires_grad=True)
            outputs = model(inputs)
            error = criterion(outputs, torch.tensor(np.moveaxis(y, -1, 0).copy()))
            theirs.zero_grad()
            error.backward()
            Z = alone(net.forward(X))
            self.close(np.moveaxis(Z, -1, 0), outputs.detach(), what=f"Z in {step=}")
            self.close(loss.forward(Z, y), error.item(), what=f"L in {step=}")
            dX = alone(net.backward(loss.backward()))
            self.close(np.moveaxis(dX, -1, 0), inputs.grad, what=f"dX in {step=}")
            self.close(net.dtheta, torch.cat([p.grad.ravel() for p in model.parameters()]), what=f"{step=}")
            norm = np.linalg.norm(net.dtheta)                                   # PyTorch adds 1e-6 to it
            rnn.clip(net.dtheta, limit)
            torch.nn.utils.clip_grad_norm_(model.parameters(), limit * (1 + 1e-6 / norm))
            ours.step()
            theirs.step()
        np.savez(file, **{name: value.numpy() for name, value in model.state_dict().items()})
        theta, net.theta[:] = net.theta.copy(), 0
        datasets.read_weights(file, net.weights)                           # and back at the end
        self.close(net.theta, theta)

    def test_perceptron(self):
        neuron, model = perceptron.Perceptron(3), torch.nn.Linear(3, 1).double()
        neuron.w, neuron.b = rng.standard_normal((3, 1)), rng.standard_normal((1, 1))
        model.load_state_dict({name: torch.tensor(a.copy()) for name, a in neuron.weights.items()})
        descent, criterion = torch.optim.SGD(model.parameters(), 0.5), torch.nn.BCEWithLogitsLoss()
        for _ in range(10):
            X, y = rng.standard_normal((3, 8)), rng.integers(0, 2, (1, 8)) * 1.0
            descent.zero_grad()
            error = criterion(model(torch.tensor(X.T)), torch.tensor(y.T))
            error.backward()
            neuron.forward(X)
            neuron.backward(y)
            self.close(neuron.loss(neuron.z, y), error.item())
            descent.step()
            neuron.update(0.5)
            for name, a in neuron.weights.items():
                self.close(a, model.state_dict()[name])

    def test_mlp(self):
        losses = (3, mlp.MSELoss()), (2, mlp.BCELoss()), (4, mlp.CrossEntropyLoss())
        for (K, loss), Optimizer, decay in itertools.product(losses, mlp.OPTIMIZERS.values(), (0, 0.1)):
            net = double(mlp.Linear(5, 7, rng), mlp.ReLU(), mlp.Linear(7, 6, rng), mlp.Tanh(),
                         mlp.Linear(6, 6, rng), mlp.Sigmoid(), mlp.Softmax(), mlp.Linear(6, K, rng))
            y = rng.integers(0, K, 8) if K == 4 else rng.random((K, 8))
            self.check_twin(net, loss, (5, 8), y, Optimizer=Optimizer, decay=decay)

    def test_cnn(self):
        net = double(cnn.Conv2d(1, 3, 5, rng), cnn.MaxPool2d(2), cnn.ReLU(), cnn.Conv2d(3, 4, 5, rng),
                     cnn.MaxPool2d(2), cnn.ReLU(), cnn.Flatten(), cnn.Linear(64, 8, rng), cnn.ReLU(),
                     cnn.Linear(8, 10, rng), into=cnn.Sequential)
        net.theta *= 0.3                        # or large signals would magnify rounding errors
        self.check_twin(net, cnn.CrossEntropyLoss(), (1, 28, 28, 6), rng.integers(0, 10, 6))
        for kernel, s, p, size in itertools.product(KERNELS, (1, 2, 3), (0, 1, 2), SIZES):
            for layer in cnn.Conv2d(2, 4, kernel, rng, s, p), cnn.MaxPool2d(kernel, s):
                net = double(layer, cnn.Conv2d(4 if layer.params else 2, 3, 1, rng), cnn.Flatten())
                y = rng.standard_normal(net.forward(np.zeros((2, *size, 3))).shape)
                self.check_twin(net, mlp.MSELoss(), (2, *size, 3), y, steps=1)

    def test_rnn(self):
        for name, limit in itertools.product(rnn.CELLS, (0.05, 100)):
            cell = getattr(torch.nn, name.upper())(3, 4, batch_first=True)
            model = torch.nn.ModuleDict({"cell": cell, "output": torch.nn.Linear(4, 2)}).double()
            model.forward = lambda X: model["output"](model["cell"](X)[0].swapaxes(0, 1).reshape(-1, 4))
            y, loss = rng.integers(0, 2, 24), rnn.CrossEntropyLoss()
            self.check_twin(recurrent(name), loss, (6, 3, 4), y, model, limit=limit)

    def test_autoencoder(self):
        for net, layer, X, dZ in transposed():
            self.check_twin(net, mlp.MSELoss(), X.shape, rng.standard_normal(dZ.shape), steps=1)
        for argv in AUTOENCODERS:
            net, loss, shape = small_autoencoder(*argv)
            self.check_twin(net, loss, (*shape, 5), rng.random((*shape, 5)))

    def test_readme_leads_to_pytorch(self):
        """The nets of the README take our weights and give our outputs."""
        from benchmarks.vs_torch import default_run
        theirs, nets = {}, {}
        self.few_digits(1, 1)
        for block in re.findall(r"```python\n(.*?)```", README.split("## From here to PyTorch")[1], re.S):
            exec(block, theirs)
        for script in mlp, cnn, autoencoder:
            (net, *_), data, _ = default_run(script)
            nets[script.__name__] = net, data.X_train.shape[1:]
        nets["perceptron"] = perceptron.Perceptron(2), (2,)
        nets["perceptron"][0].w += 1
        nets["rnn"] = rnn.Recurrent(rnn.LSTM(65, 128, rng), rnn.Linear(128, 65, rng)), (9, 65)
        for name, (net, shape) in nets.items():
            np.savez(self.folder / "w.npz", **net.weights)
            model = theirs["load"](theirs[name], self.folder / "w.npz")
            X = rng.random((*shape, 4), np.float32)
            Z = alone(net.forward(X))
            Z = net.z if name == "perceptron" else Z                            # logits, not probabilities
            inputs = torch.from_numpy(np.moveaxis(X, -1, 1 if name == "rnn" else 0).copy())
            outputs = alone(model(inputs)).detach().numpy()
            self.close(Z.T, outputs.reshape(Z.T.shape), 1e-5, name)

# --- datasets.py ----------------------------------------------------------------------------------------

def idx(a):
    """The bytes of an IDX file, gzipped."""
    return gzip.compress(np.array([2048 + a.ndim, *a.shape], ">u4").tobytes() + a.tobytes())

class Server(BaseHTTPRequestHandler):
    """Serves `files` by name; promises another `size`, if there is one."""
    files, size, log_message = {}, None, lambda *args: None

    def do_GET(self):
        body = self.files.get(self.path[1:], b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", self.size or len(body))
        self.end_headers()
        self.wfile.write(body)

class Test_datasets(Test):
    def setUp(self):
        super().setUp()
        self.mnist = self.folder / "mnist"
        self.arrays = [rng.integers(0, 256, (30, 5, 5), np.uint8), np.arange(30, dtype=np.uint8) % 10,
                       rng.integers(0, 256, (20, 5, 5), np.uint8), np.arange(20, dtype=np.uint8) % 10]
        self.bodies = dict(zip(datasets._IDX, map(idx, self.arrays)))
        self.sums = tuple(hashlib.md5(body).hexdigest() for body in self.bodies.values())
        self.enter(mock.patch.object(Server, "files", self.bodies))
        server = self.enter(HTTPServer(("127.0.0.1", 0), Server))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.shutdown)
        self.mirrors(f"http://127.0.0.1:{server.server_port}/")

    def mirrors(self, *addresses):
        mnist = datasets._TEN, datasets._IDX, self.sums, addresses
        self.enter(mock.patch.dict(datasets._FILES, mnist=mnist))

    def on_disk(self):
        return {path.name: path.read_bytes() for path in self.mnist.iterdir()}

    def test_generated_and_iris(self):
        for name, classes in dict(blobs=2, xor=2, moons=2, circles=2, spirals=3, sine=0).items():
            data, again, other = (datasets.load(name, seed) for seed in (3, 3, 4))
            self.assertEqual((data.name, len(data.classes)), (name, classes))
            self.assertTrue(all(np.array_equal(a, b) for a, b in zip(data[1:5], again[1:5])), name)
            self.assertFalse(np.array_equal(data.X_train, other.X_train))
            self.assertEqual(np.bincount(data.y_test).tolist() if classes else [], [100] * classes)
        data = datasets.load("iris")
        X = np.concatenate([data.X_train, data.X_test])
        self.close(X.mean(axis=0), [5.8433, 3.0573, 3.7580, 1.1993], 1e-5)
        self.assertEqual([list(np.bincount(y)) for y in (data.y_train, data.y_test)], [[40] * 3, [10] * 3])

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
        rings = (datasets._pen(shape) for shape in ("40 12 17 49 77 72 40", "17 49 77 72 40 12 17"))
        self.close(*[np.sort(places @ points, axis=0) for points, places, _ in rings])  # no seam anywhere

    def test_figures_and_files_that_cannot_be_written(self):
        self.fails("cannot write choose --figure", datasets.finish, plt.figure(),
                   str(self.folder / "book.txt" / "a.png"), False)
        denied = mock.patch("builtins.open", side_effect=PermissionError(13, "denied"))
        with denied, self.assertRaisesRegex(ArgumentTypeError, "cannot be written: denied"):
            datasets._written(".txt")(str(self.folder / "book.txt"))

    def test_a_screen_without_windows(self):
        with mock.patch("matplotlib.pyplot.figure", side_effect=[RuntimeError("broken Tk"), plt.figure()]):
            self.assertEqual(list(datasets.figure("AB", 4, 2)[1]), ["A", "B"])

    def test_features_are_standardised(self):
        X = np.stack([np.arange(9), np.full(9, 7)], axis=1)
        rows = datasets.as_rows(datasets.Data("", X[:6], np.zeros(6), X[6:], np.zeros(3), "AB"))
        self.close(rows.X_train, np.stack([(np.arange(6) - 2.5) / np.arange(6).std(), np.zeros(6)], axis=1))
        self.close(rows.X_test[:, 1], np.zeros(3))

    def test_minibatches(self):
        X, y = np.arange(60, dtype=np.uint8).reshape(10, 2, 3), np.arange(10)
        parts = list(datasets.minibatches(X, y, 3, np.random.default_rng(0)))
        self.assertEqual([pixels.shape for pixels, _ in parts], [*3 * [(2, 3, 3)], (2, 3, 1)])
        numbers = np.concatenate([numbers for _, numbers in parts]).tolist()
        self.assertTrue(sorted(numbers) == list(range(10)) != numbers)          # all of them, shuffled
        for pixels, numbers in parts:
            self.close(pixels, (6 * numbers + np.arange(6).reshape(2, 3, 1)) / 255, 1e-6)
            self.assertEqual(pixels.dtype, np.float32)
        self.assertEqual(sorted(next(datasets.minibatches(X, y, 99, rng))[1]), list(range(10)))

    @unittest.skipUnless(loopback(), "this machine has no network interface at all")
    def test_downloads_once_and_whole(self):
        _, _, _, [address] = datasets._FILES["mnist"]
        self.mirrors("http://127.0.0.1:1/", address)                             # the second one works
        self.enter(mock.patch.object(Server, "size", -5))                        # in spite of what it says
        for _ in range(2):
            data = datasets.load("mnist")
            self.assertTrue(all(np.array_equal(a, b) for a, b in zip(data[1:5], self.arrays)))
            self.assertEqual(self.on_disk(), self.bodies)
            self.enter(mock.patch.object(Server, "files", {}))                   # now from disk

    def test_another_process_downloads_faster(self):
        def too_late(url, path, md5):
            path.parent.mkdir()
            path.touch()
            raise PermissionError("Windows replaces no file that is being read")

        with mock.patch.object(datasets, "_download", too_late):
            self.assertEqual(datasets.find("set", "file", "", ["http://a/"]), self.folder / "set" / "file")

    @unittest.skipUnless(loopback(), "this machine has no network interface at all")
    def test_failed_downloads_leave_nothing(self):
        page = {"files": dict.fromkeys(datasets._IDX, b"<html>")}
        for words, change in (("ended after", {"size": 9999}), ("404", {"files": {}}), ("x", {"size": "x"}),
                              ("checksum web page", page)):
            with mock.patch.multiple(Server, **change):
                self.fails(f"{datasets._IDX[0]} {words}", datasets.load, "mnist")
            self.assertFalse(self.mnist.exists())
        with mock.patch.object(Path, "write_bytes", side_effect=OSError("the disk is full")):
            self.fails("cannot be downloaded the disk is full", datasets.load, "mnist")
        self.mnist.rmdir()                                                       # it is empty
        self.mnist.write_text("a file where a folder should be")
        self.fails("cannot be downloaded", datasets.load, "mnist")
        self.assertEqual(self.mnist.read_text(), "a file where a folder should be")
        self.mirrors("http://127.0.0.1:1/", "http://127.0.0.1:2/")
        failures = r"cannot be downloaded \(127.0.0.1:1: .*; 127.0.0.1:2: .*\)"    # in this order
        self.assertRaisesRegex(datasets.UserError, failures, datasets.load, "mnist")
        with redirect_stdout(io.StringIO()) as out:
            self.assertEqual(datasets.load().name, "digits")
        self.assertEqual(out.getvalue().count("\n"), 1)

    def test_damaged_files(self):
        X, y, X_test, y_test = self.bodies
        whole = self.bodies[X]
        self.mnist.mkdir()
        for name, body, words in (
                (X, whole[:-20], "damaged"), (X, b"5,1\n4,9\n", "damaged"), (y, whole, "damaged 2051 2049"),
                (X, gzip.compress(b"x"), "damaged"), (y, self.bodies[y_test], f"{X} {y} do not fit"),
                (X, gzip.compress(gzip.decompress(whole)[:-1]), "damaged size 749"),
                (y, idx(self.arrays[1] + 5), "do not fit"),
                (X_test, idx(self.arrays[2][:, 1:]), f"{X_test} do not fit")):
            files = {**self.bodies, name: body}
            for file, content in files.items():
                (self.mnist / file).write_bytes(content)
            self.fails(f"mnist {words}", datasets.load)                # nothing replaces what is damaged
            self.assertEqual(self.on_disk(), files)

    def test_cats_and_dogs(self):
        files = [self.folder / "cats-dogs" / name for name in datasets._HDF5]
        files[0].parent.mkdir()
        for file, split, n in zip(files, ("train", "test"), (6, 4)):
            file.touch()
            if h5py:
                with h5py.File(file, "w") as parts:
                    parts[f"X_{split}"] = np.zeros((n, 64, 64), np.uint8)
                    parts[f"Y_{split}"] = np.ones((n, 1))
        if h5py:
            data = datasets.load("cats-dogs")
            self.assertEqual((data.X_train.shape, data.y_test.tolist()), ((6, 64, 64), [1] * 4))
            for dtype, label in (float, 1), (np.uint8, 0.5):
                with h5py.File(files[0], "w") as parts:
                    parts["X_train"], parts["Y_train"] = np.zeros((6, 64, 64), dtype), np.full(6, label)
                self.fails("should hold uint8 images and class numbers", datasets.load, "cats-dogs")
        files[0].write_bytes(b"not HDF5")
        self.fails("cats-dogs damaged" if h5py else "pip install h5py", datasets.load, "cats-dogs")

    def test_folder_of_pictures(self):
        root = self.folder / "pets"
        for (k, name), i in itertools.product(enumerate(("cat", "dog")), range(10)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30 + i, 50), (200 * k,) * 3).save(root / name / f"{i}.{('png', 'jpg')[i % 2]}")
        data = datasets.load(str(root))
        self.assertEqual((data.X_train.shape, data.X_test.shape), ((16, 64, 64), (4, 64, 64)))
        self.assertEqual((data.classes, data.turned), (("cat", "dog"), False))
        self.assertEqual((data.X_train.mean(axis=(1, 2)) > 100).tolist(), (data.y_train == 1).tolist())
        (root / "cat" / "._1.png").write_bytes(b"what a Mac leaves behind")
        for file in (root / "cat").glob("[0-9]*"):                              # now all are light: turned
            Image.new("L", (9, 9), 255).save(file)
        data = datasets.load(str(root))
        self.assertTrue(data.turned)
        self.assertEqual((data.X_train.mean(axis=(1, 2)) > 30).tolist(), (data.y_train == 1).tolist())
        (root / "cat" / "0.png").write_bytes(b"no picture")
        self.fails("0.png not a picture", datasets.load, str(root))
        for file in (root / "cat").iterdir():
            file.unlink()
        self.fails("cat 0 JPEG", datasets.load, str(root))
        self.fails("too few examples", datasets.split, "pets", np.zeros(2), np.arange(2), "AB", rng)
        (root / "cat").rmdir()
        self.fails("at least 2", datasets.load, str(root))                       # one class only

    def test_panels(self):
        panels = [mock.MagicMock() for _ in range(3)]
        datasets.plot_curves(*panels[:2], [(1, 2, 3, 4)], "accuracy", "validation")
        calls = [ax.plot.call_args for ax in panels[:2]]
        lines = [(*zip(*call.args[1], call.kwargs["label"]),) for call in calls]
        self.assertEqual(lines, [((1, "train"), (3, "validation")), ((2, "train"), (4, "validation"))])
        datasets.plot_sheet(panels[0], np.zeros((1, 2, 2)), signed=True)     # silence is white, not red
        shades = panels[0].imshow.call_args.kwargs
        self.assertEqual((shades["vmin"], shades["vmax"]), (-1, 1))
        self.assertEqual(datasets.caption("$1 + $2 and \udce4", 7), "\\$1 …d ?")
        self.assertEqual(datasets.caption("$1 + $2 and \udce4"), "\\$1 + \\$2 and ?")
        datasets.plot_confusion(panels[2], np.array([0, 0, 1]), np.array([1, 1, 1]), "AB")
        texts = [call.args for call in panels[2].text.call_args_list if call.args[2]]
        self.assertEqual(texts, [(1, 0, 2), (1, 1, 1)])                         # the column: what was said
        P = np.array([[0.9, 0.2], [0.1, 0.8]])
        datasets.plot_probabilities(panels[2], P[:, 0], 1, "AB")
        panels[2].barh.return_value.__getitem__.assert_called_with(1)           # the true class
        for y, P, captions in (([0, 1], P, []), ([0, 0], P, ["A:\nsaid B\n80.0 %"]),
                               ([0, 0], P.round(), ["A:\nsaid B\n"])):          # yes or no
            panels[0].reset_mock()
            datasets.plot_mistakes(panels[0], np.zeros((2, 3, 3), np.uint8), np.array(y), P, "AB")
            self.assertEqual([call.args[2] for call in panels[0].text.call_args_list], captions)

    def test_few_examples_get_more_epochs(self):
        for given, examples, epochs in (None, 100, 60), (None, 10_000, 2), (None, 0, 2), (3, 100, 3):
            args = Namespace(epochs=given, batch_size=None)
            datasets.fill_in(args, dict(epochs=2, batch_size=10), examples)
            self.assertEqual(vars(args), dict(epochs=epochs, batch_size=10))
        self.few_digits(60, 40)
        for line, epochs in ("perceptron --dataset digits", 600), (f"{BOOK} --hidden 4", 10):
            self.assertEqual(len(self.learn(line)[0]["history"]), epochs)

    def test_pictures_stand_upright_on_paper(self):
        for ink in 0, 255:                              # dark ink on clear, light ink on clear
            clear = Image.new("LA", (9, 5), (200, 0))
            clear.putpixel((3, 2), (ink, 255))
            clear.save(self.folder / "clear.png")
            paper = np.full((5, 9), 255 - ink)
            paper[2, 3] = ink
            self.assertTrue((np.asarray(datasets.read_picture(self.folder / "clear.png")) == paper).all())
        Image.fromarray(np.full((5, 9), 40_000, np.uint16)).save(self.folder / "deep.png")
        self.assertEqual(set(np.asarray(datasets.read_picture(self.folder / "deep.png")).flat), {155})
        exif = Image.Exif()
        exif[0x0112] = 6                                # the camera was held upright
        Image.new("L", (9, 5)).save(self.folder / "tall.jpg", exif=exif)
        self.assertEqual(datasets.read_picture(self.folder / "tall.jpg").size, (5, 9))

    def test_files_as_spreadsheets_and_editors_write_them(self):
        shop, book, values = self.folder / "shop.csv", self.folder / "book.txt", list(range(20, 0, -1))
        for mark, encoding in itertools.product(",;\t", ("utf-8", "utf-8-sig")):
            rows = [f"sales{mark}day", *(f"{value}{mark}{day}" for day, value in enumerate(values))]
            shop.write_text("\n".join(rows), encoding=encoding)
            book.write_text("\u03b1\n", encoding=encoding)
            for column, expected in ("sales", values), (None, list(range(20))):
                name, found, season = datasets.load_series(str(shop), column)
                self.assertEqual((name, found.tolist(), season), ("shop", expected, 12))
            self.assertEqual(datasets.load_text(str(book)), ("book", "\u03b1\n"))
        for mark in ";\t":                              # decimal commas, blanks, empty columns and lines
            shop.write_text(f"day{mark} sales {mark}\n1{mark} 2,5{mark}\n2{mark} 3{mark}\n{mark}\n\n")
            self.assertEqual(datasets.load_series(str(shop))[1].tolist(), [2.5, 3])
        shop.write_text('day, sales\n1, "2"\n2, "3"\n')
        self.assertEqual(datasets.load_series(str(shop))[1].tolist(), [2, 3])
        for first in "1,2.5", "1;2,5", "+1", "1e3":
            shop.write_text(f"{first}\n{first}\n")
            self.fails("names in its first line", datasets.load_series, str(shop))
        for line in "1,234,5", "2,", "2", "2,no", "", ",", '1,"2,000"':
            shop.write_text(f"day,sales\n1,2\n{line}\n3,4\n")
            words = f"shop.csv line 3 no number in sales: {line.rstrip(',')}"
            self.fails(words, datasets.load_series, str(shop))
        shop.write_text('day,sales\n"1\n1",2\n2,no\n')                          # a cell over two lines
        self.fails("shop.csv line 4 no number in sales: 2,no", datasets.load_series, str(shop))

# --- As a user runs them --------------------------------------------------------------------------------

# Words of the error message: command lines that cause it. @ is the test's folder.
MISTAKES = f"""
not in the range: perceptron --lr -1, mlp --lr nan, mlp --epochs -3, cnn --batch-size 0, mlp --hidden 0
not in the range: mlp --hidden 9999999999999999999, mlp --dropout 1, rnn --clip 0, rnn --temperature 0
not in the range: autoencoder --noise -1, autoencoder --mask 1, autoencoder --latent 1
--epochs invalid int ten: mlp --epochs ten
invalid choice: mlp --optimizer newton, rnn --cell elman
unrecognized --nonsense: mlp --nonsense
the loss is in step try a lower --lr than 1e+06: mlp --dataset sine --optimizer sgd --lr 1e6
the loss is in step 1: try: mlp --dataset sine --optimizer sgd --lr 1e6 --batch-size 1000 --epochs 1
minst mnist, digits: mlp --dataset minst
rnm shakespeare, python-docs: rnn --dataset rnm
cannot be written: No such: mlp --save @none/w.npz, mlp --figure @none/a.png
is a folder: mlp --save @folder.npz
should end in .npz: mlp --save w
should end in .png: mlp --figure a.mov
No such file none: mlp --dataset xor --load @none.npz, cnn --channels 4 8 --load @cnn.npz --predict @none.png
not .npz finite: perceptron --load @words.txt, perceptron --load @nan.npz, perceptron --load @text.npz
npz another net: mlp --dataset moons --load @perceptron.npz, {BOOK} --load @rnn.npz
npz another net: cnn --dataset digits --load @cnn.npz
--search --load: mlp --search 2 --load w.npz
--compare --load: rnn --compare --load w.npz
several --latent: autoencoder --load @rnn.npz --latent 2 8
sine has numbers: perceptron --dataset sine
--classes two different: perceptron --classes A A, perceptron --dataset iris --classes rose tulip
pictures mlp.py iris: cnn --dataset iris
blank.png blank: cnn --channels 4 8 --load @cnn.npz --predict @blank.png
latin UTF-8: rnn --dataset @latin.txt, rnn --dataset @latin.csv
none no data set or file shakespeare: rnn --dataset none.csv, rnn --dataset none.txt
character never occurs 'X': {BOOK} --prime X
too few: rnn --dataset @empty.txt, rnn --dataset @words.txt, rnn --dataset @few.csv --column b
column c: rnn --dataset @few.csv --column c"""

OPTIONS = {     # a command, and options that each change its numbers
    "perceptron --epochs 3": "--lr 0.1, --rule rosenblatt, --batch-size 7, --seed 1",
    "mlp --dataset moons --epochs 2": "--lr 0.1, --optimizer sgd, --batch-size 7, --activation tanh, "
                                      "--dropout 0.5, --weight-decay 0.1, --hidden 5, --seed 1",
    "cnn --dataset digits --channels 2 --hidden --epochs 1": "--lr 0.1, --optimizer sgd, --batch-size 99, "
        "--weight-decay 0.1, --kernel-size 3, --channels 3, --hidden 9, --seed 1",
    f"{BOOK} --hidden 8 --epochs 1 --prime the": "--lr 0.1, --batch-size 3, --optimizer sgd, --clip 0.01, "
        "--weight-decay 0.1, --cell gru, --window 9, --hidden 9, --seed 1",
    "rnn --dataset airline --epochs 3": "--lr 0.1, --season 6, --cell gru, --clip 0.01, --weight-decay 0",
    "autoencoder --dataset digits --hidden 8 --latent 2 --epochs 1": "--lr 0.1, --optimizer sgd, "
        "--noise 0.5, --weight-decay 0.1, --batch-size 99, --mask 0.5, --loss bce, --hidden 9, --seed 1"}

def start(line, folder):
    """A process that runs a command line, without data, network and screen."""
    script, *argv = line.split()
    environment = {**os.environ, "DATASETS_DIR": str(folder), "PYTHONWARNINGS": "error::RuntimeWarning"}
    process = subprocess.Popen([sys.executable, str(HERE / f"{script}.py"), *argv], cwd=folder, text=True,
                               env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    atexit.register(process.kill)
    return process

def finish(process):
    """The exit code of a process, and what it printed."""
    out, err = process.communicate(timeout=1000)
    return process.returncode, out, err

@functools.cache
def usual_runs():
    """Every script with its defaults, in processes that go on beside the tests; and their folder."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    shorter = {"rnn": "rnn --epochs 1 --hidden 64", "cnn": "cnn --epochs 3"}
    return {script: start(shorter.get(script, script), folder.name) for script in SCRIPTS}, Path(folder.name)

class TestCommandLine(Test):
    @classmethod
    def setUpClass(cls):
        usual_runs()                            # looked at by the class whose name comes last

    def test_help_tells_the_consequences(self):
        for script, module in SCRIPTS.items():
            with redirect_stdout(io.StringIO()) as out, self.assertRaises(SystemExit) as end:
                module.main(["--help"])
            self.assertEqual(end.exception.code, 0)
            for option in "dataset epochs batch-size lr seed save load figure no-show".split():
                self.assertRegex(out.getvalue(), rf"\n  --{option}( \S+)?\s\s+\w{{3}}", script)
            self.assertRegex(out.getvalue(), r"\nusual values for \w+:\n  --.* --lr 0\.\d+", script)
        conv = " ".join(f"--{name} {value}" for name, value in autoencoder.CONV.items() if name != "hidden")
        self.assertIn(f"for conv:\n  --hidden {conv.replace('_', '-')}\n", out.getvalue())

    def test_mistakes_end_in_one_line(self):
        texts = {"empty.txt": "", "words.txt": "words", "latin.txt": "\xe9", "latin.csv": "\xe9",
                 "few.csv": "b\n1\n2\n"}
        for name, text in texts.items():
            (self.folder / name).write_text(text, encoding="latin-1")
        for name, weight in ("nan", np.nan), ("text", "one"):
            np.savez(self.folder / f"{name}.npz", weight=np.full((1, 2), weight), bias=np.zeros(1))
        Image.fromarray(np.full((9, 9), 200, np.uint8)).save(self.folder / "blank.png")
        (self.folder / "folder.npz").mkdir()
        for line in "perceptron", "cnn --dataset digits --channels 4 8", f"{BOOK} --cell gru":
            self.learn(f"{line} --epochs 0 --save @{line.split()[0]}.npz")
        rows = [row.rpartition(": ") for row in MISTAKES.strip().split("\n")]
        for words, line in [(words, line) for words, _, lines in rows for line in lines.split(", ")]:
            (script, argv), file = self.words(line), f"{line.split()[0]}.py"
            said, end = io.StringIO(), self.assertRaises(SystemExit)
            with self.subTest(line), mock.patch.object(sys, "argv", [file, *argv]):
                loud = np.errstate(all="raise", under="ignore")
                with redirect_stdout(io.StringIO()), redirect_stderr(said), loud, end:
                    datasets.run(script.main)
                code = end.exception.code                       # a text goes to stderr, with exit code 1
                complaint = said.getvalue() + ("" if code == 2 else f"{code}\n")
                self.assertRegex(complaint, rf"\A{file}: [^\n]+\n\Z")
                self.assertEqual([word for word in words.split() if word not in complaint], [], complaint)

    def test_options_seeds_weights_and_learning_rates(self):
        """Each option changes the numbers. The same seed does not, nor does a run of 0 epochs, with a figure,
        from the weights that another run saved before its window. The learning rate falls in equal steps."""
        self.few_digits(300, 60)
        for line, options in OPTIONS.items():
            (script, _), options = self.words(line), options.split(", ")
            plain, _ = self.learn(f"{line} --save @w.npz")
            self.assertIn("w.npz", self.files)
            again, *others = (self.learn(f"{line} {option}")[0] for option in ["", *options])
            self.assertEqual(again["history"], plain["history"], line)
            for option, other in zip(options, others):
                self.assertNotEqual(other["history"][-1][0], plain["history"][-1][0], f"{line} {option}")
            loaded, out = self.learn(f"{line} --epochs 0 --load @w.npz", "figure")
            score = "test" if "test" in plain else "loss"
            self.assertEqual(loaded[score], plain[score], line)
            if "--prime" in line:
                self.assertRegex(out, r"perplexity(?s:.*)temperature 0.8\nthe")
            if script is perceptron:
                shapes = {name: a.shape for name, a in np.load(self.folder / "w.npz").items()}
                self.assertEqual(shapes, {"weight": (1, 2), "bias": (1,)})
            else:
                with mock.patch.object(script.Optimizer, "step") as step:
                    self.learn(f"{line} --epochs 2")
                shares = [call.args[0] for call in step.call_args_list]
                self.close(shares, 1 - np.arange(len(shares)) / len(shares))
            (self.folder / "w.npz").unlink()

    def test_figures_show_what_they_say(self):
        self.few_digits(300, 60)
        self.enter(mock.patch("matplotlib.figure.Figure.savefig",               # to draw would take seconds
                              lambda fig, path, dpi: Path(path).write_bytes(bytes(20_000))))
        sheet, plane = self.spy(datasets, "plot_sheet"), self.spy(datasets, "plot_plane")
        hist, semilogy = self.spy(plt.Axes, "hist"), self.spy(plt.Axes, "semilogy")
        telling = self.spy(datasets.Text, "telling")

        def nets(line, *epochs):
            return [self.learn(f"{line} --epochs {n}", "figure")[0]["net"] for n in epochs]

        def sheets(words):
            """The images and the title of each sheet whose title has these words."""
            return [call.args[1:3] for call in sheet.call_args_list if words in str(call.args[2:])]

        fresh, net = nets("cnn --dataset digits --channels 2 --hidden", 0, 2)
        before, now = fresh.layers[0].W[:, 0], net.layers[0].W[:, 0]
        self.close(np.array([images for images, _ in sheets("kernels:")]), np.array([before, now - before]))
        picture, title = sheets("one picture")[-1]
        said = datasets.probabilities(net, picture[:, None]).argmax()
        self.assertIn(f"({said})", title)                                       # one that is read correctly

        before, now = (net.layers[0].W for net in nets("mlp --dataset digits --hidden 60", 0, 1))
        for (images, _), W in zip(sheets("blue excites"), (before, now - before), strict=True):
            largest = np.sort(np.linalg.norm(W, axis=1))[:-50:-1]
            self.close(np.linalg.norm(images, axis=(1, 2)), largest, 1e-6)

        nets("mlp --dataset moons", 40, 1)
        self.close(plane.call_args.args[2], datasets.as_rows(datasets.load("moons")).X_test)
        shown = [(call.args[4], len(call.args[0].figure.axes)) for call in plane.call_args_list]
        epochs_and_panels = (0, 5), (2, 5), (40, 5), (0, 4), (1, 4)
        self.assertEqual(shown, [(f"after epoch {epoch}", panels) for epoch, panels in epochs_and_panels])

        [net] = nets("mlp --dataset iris", 20)
        panel, answer, X, _, _, classes = plane.call_args.args
        largest = np.sort(np.linalg.norm(net.layers[0].W, axis=0).argsort()[-2:])       # the others are 0
        rows = np.zeros((30, 4))
        rows[:, largest] = datasets.as_rows(datasets.load("iris")).X_test[:, largest]
        self.close(X, rows[:, largest])
        self.close(answer(X), datasets.probabilities(net, rows))
        self.assertEqual([panel.get_xlabel()[:2], panel.get_ylabel()[:2]], [f"x{k + 1}" for k in largest])
        self.assertEqual([text.get_text() for text in panel.get_legend().get_texts()], [*classes])

        result, _ = self.learn("perceptron --epochs 20", "figure")
        _, answer, X, y, _ = plane.call_args.args
        self.assertEqual(np.mean(answer(X).argmax(axis=0) == y), result["accuracy"])
        groups = {call.kwargs["label"]: call.args[1] for call in hist.call_args_list}
        self.assertEqual(np.sum(groups["A"] <= 0) + np.sum(groups["B"] > 0), result["accuracy"] * len(y))
        neuron = self.learn("perceptron --dataset digits --epochs 1", "figure")[0]["neuron"]
        [(w, title)] = sheets("blue speaks")
        self.assertIn("blue speaks for 8, red for 9", title)                    # w > 0, for 9, is red
        self.close(w.ravel(), -neuron.w[:, 0])

        nets("rnn --dataset adding --window 10 --hidden 8", 1)
        self.assertTrue(np.isfinite([call.args[1] for call in semilogy.call_args_list]).all())
        [net] = nets(f"{BOOK} --hidden 8", 1)
        before, now = (call.args[1] for call in telling.call_args_list)
        self.assertTrue(now is net is not before)

    def test_interrupted_in_the_first_epoch(self):
        """While it trains, or while its result is reported. The figure has the state before the training, and
        the present one, as that of epoch 1."""
        interrupted = mock.Mock(side_effect=KeyboardInterrupt)
        for training, say, rows in (iter(interrupted, None), print, []), (iter([(2,)]), interrupted, [(2,)]):
            states = mock.Mock(side_effect=["new", "trained a little", "trained a little"])
            with redirect_stdout(io.StringIO()) as out:
                result = datasets.watch(training, 5, "", say, states)
            self.assertEqual(result[:2], (rows, {0: "new", 1: "trained a little"}))
            self.assertIn("interrupted in epoch 1", out.getvalue())
        self.assertEqual(str(datasets.finite(-0.0, 1, 1)), "0.0")

    def test_exit_codes(self):
        with mock.patch.object(datasets, "find_spec", return_value=None):
            self.assertRaisesRegex(SystemExit, "pip install matplotlib", datasets.run, None)
        processes = {script: start(f"{script} --dataset none", self.folder) for script in SCRIPTS}
        for script, process in processes.items():
            code, out, err = finish(process)
            self.assertEqual((code, out), (1, ""))
            self.assertRegex(err, rf"\A{script}\.py: no data set [^\n]+\n\Z")

    def test_letters_that_console_and_font_lack(self):
        (self.folder / "book.txt").write_text(FOX.replace("e", "\u6c34") * 60, encoding="utf-8")
        with mock.patch.dict(os.environ, PYTHONIOENCODING="ascii", MPLBACKEND="module://of.a.notebook"):
            line = "rnn --dataset book.txt --epochs 1 --hidden 8 --window 20 --batch-size 4 --no-show"
            code, out, err = finish(start(line, self.folder))
        self.assertEqual((code, err), (0, ""))
        self.assertIn("?", out)

    @unittest.skipIf(os.name == "nt", "Windows cannot send a Ctrl-C to one process")
    def test_interrupt_goes_on_and_reader_leaves(self):
        signal.signal(signal.SIGINT, signal.default_int_handler)                # background jobs ignore it
        process = start("mlp --dataset moons --epochs 2000", self.folder)
        while "epoch" not in process.stdout.readline():
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        code, out, err = finish(process)
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"interrupted in epoch \d+(?s:.*)test accuracy(?s:.*)figure: ")
        process = start("mlp --dataset moons", self.folder)
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(finish(process), (0, "", ""))

class Test_what_users_see(Test):
    def test_what_the_readme_promises_is_printed(self):
        """Without network or screen, into a pipe. The docstring has the first of the README's outputs."""
        runs, folder = usual_runs()
        for script, process in runs.items():
            code, out, err = finish(process)
            self.assertEqual((code, err), (0, ""), script)
            text = datasets.load_text("python-docs")[1] if script == "rnn" else ""
            self.assertEqual({c for c in out if not c.isascii() or c == "\r"} - set(text), set(), script)
            self.assertRegex(out, rf"\A(.* using \S+ instead\n)?{script}\.py learns", script)
            self.assertTrue((folder / out.split()[-1]).exists(), script)
            promises = re.findall(r"with\n\n((?:    .+\n)+)", SECTIONS[script])    # the last is offline
            self.assertIn(f"with\n\n{promises[0]}", SOURCES[script], script)
            pattern = re.escape(promises[-1].replace("    ", "")).replace(r"\.\.\.", "(?s:.*)")
            self.assertRegex(out, re.sub(r"\d[\d,]*(\\\.\d+)?", r"[\\d.,]+", pattern) + r"\Z", script)
            if script != "rnn":                                                 # processors round differently
                promised, printed = (float(re.findall(r"^ *test .*?(\d+\.\d+)", text, re.M)[-1])
                                     for text in (promises[-1], out))
                self.assertLess(abs(promised - printed), 1 if promised > 1 else 0.1 * promised, script)

# --- What the files promise -----------------------------------------------------------------------------

PER_SCRIPT = {"main", "plot", "build", "train", "evaluate", "parse_args"}

class TestText(Test):
    def test_one_name_one_meaning(self):
        seen = {}
        for script, text in SOURCES.items():
            for node in ast.parse(text).body:
                if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name not in PER_SCRIPT:
                    code = ast.get_source_segment(text, node)
                    words = f"{node.name} in {script}.py differs from its copy in another script"
                    self.assertEqual(seen.setdefault(node.name, code), code, words)

    def test_commands_of_readme_and_docstrings(self):
        """Each gets as far as loading its data or its weights."""
        commands = re.findall(r"python (\w+)\.py([^`\n#]*)", "\n".join([README, *SOURCES.values()]))
        self.assertGreater(len(commands), 60)
        stop = mock.Mock(side_effect=InterruptedError)
        self.enter(mock.patch.multiple(datasets, load=stop, read_weights=stop, choose_task=stop))
        for script, options in [command for command in commands if command[0] in SCRIPTS]:
            with self.subTest(f"{script}{options}"), self.assertRaises(InterruptedError):
                SCRIPTS[script].main(shlex.split(options.partition("  ")[0]))

    def test_check_of_a_layer_in_the_readme(self):
        self.enter(mock.patch.dict(sys.modules, test_all=sys.modules[__name__]))
        [code] = re.findall(r"```python\n([^`]*from test_all import .*?)```", README, re.S)
        with redirect_stdout(io.StringIO()) as out:
            exec(code, {})
        self.assertLess(max(map(float, out.getvalue().split())), 1e-9)

    def test_margin(self):
        """Equations start in one column; the README's section has the same numbers in the same order."""
        self.assertNotRegex(README, r"\\(operatorname|mbox|phantom)\b")         # GitHub refuses these
        margins, derived = {}, {}
        for script, text in SOURCES.items():
            self.assertLessEqual(max(map(len, text.splitlines())), 110, script)
            found = re.findall(r"^(.*)# \((\d+)\)", text, re.M)
            for code, number in found:
                self.assertEqual(len(code), max(56, len(code.rstrip()) + 2), f"({number}) in {script}.py")
            margins[script] = list(dict.fromkeys(number for _, number in found))
        for script in SCRIPTS:                          # some steps of cnn.py and rnn.py stand in datasets.py
            numbers = dict.fromkeys(re.findall(r"(?:\\tag\{|\[\()(\d+)[)}]", SECTIONS[script]))
            derived.update(numbers)
            elsewhere = [number for number in margins["datasets"] if number in numbers]
            self.assertEqual(margins[script] + elsewhere, list(numbers))
        self.assertLessEqual(set(margins["datasets"]), set(derived))

if __name__ == "__main__":
    unittest.main()
