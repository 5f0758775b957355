"""What a training step costs here and in the usual batch-first NumPy code, and how close it is to the peak.

    python benchmarks/ways.py

Prints, for the default net of each script, how long a step takes and what share of the machine's peak rate
of float32 products (measured here, with the same threads) its products reach. The batch-first step computes
the same with images (N, C, H, W), im2col and col2im, sequences (N, T, D), all products time step by time
step, and Adam one parameter array at a time; the two take turns.
"""
import argparse
import math
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import autoencoder
import cnn
import datasets
import mlp
import rnn
import vs_torch

rng = np.random.default_rng(0)

# --- The usual way: batch first -------------------------------------------------------------------------

class Dense:
    def __init__(self, W, b):
        self.params = [W.T.copy(), b[:, 0].copy()]

    def forward(self, X):
        self.shape, self.X = X.shape, X.reshape(len(X), -1)
        return self.X @ self.params[0] + self.params[1]

    def backward(self, dZ):
        self.grads = [self.X.T @ dZ, dZ.sum(axis=0)]
        return (dZ @ self.params[0].T).reshape(self.shape)

class Bend:
    def forward(self, Z):
        self.positive = Z > 0
        return Z * self.positive

    def backward(self, dA):
        return dA * self.positive

class Squash:
    def forward(self, Z):
        self.A = 1 / (1 + np.exp(-Z))
        return self.A

    def backward(self, dA):
        return dA * self.A * (1 - self.A)

class Reshape:
    def __init__(self, *shape):
        self.to = shape

    def forward(self, X):
        self.shape = X.shape
        return X.reshape(-1, *self.to)

    def backward(self, dA):
        return dA.reshape(self.shape)

class Columns:
    """im2col: the pixels under each window, as a row; backward: col2im."""
    def __init__(self, kernel, stride, padding=0):
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, X):
        p = self.padding
        X = np.pad(X, ((0, 0), (0, 0), (p, p), (p, p)))
        (N, C, H, W), (kH, kW), s = X.shape, self.kernel, self.stride
        self.shape, self.out = X.shape, ((H - kH) // s + 1, (W - kW) // s + 1)
        OH, OW = self.out
        columns = np.empty((N, C, kH, kW, OH, OW), X.dtype)
        for i in range(kH):
            for j in range(kW):
                columns[:, :, i, j] = X[:, :, i:i + s * OH:s, j:j + s * OW:s]
        return columns.transpose(0, 4, 5, 1, 2, 3).reshape(N * OH * OW, -1)

    def backward(self, dcolumns):
        (N, C, _, _), (kH, kW), s, (OH, OW) = self.shape, self.kernel, self.stride, self.out
        dcolumns = dcolumns.reshape(N, OH, OW, C, kH, kW).transpose(0, 3, 4, 5, 1, 2)
        dX = np.zeros(self.shape, dcolumns.dtype)
        for i in range(kH):
            for j in range(kW):
                dX[:, :, i:i + s * OH:s, j:j + s * OW:s] += dcolumns[:, :, i, j]
        p = self.padding
        return dX[:, :, p:-p, p:-p] if p else dX

class Convolve:
    def __init__(self, layer):
        self.columns, self.shape = Columns(layer.kernel, layer.stride, layer.padding), layer.W.shape
        self.params = [layer.W.reshape(len(layer.W), -1).T.copy(), layer.b[:, 0].copy()]

    def forward(self, X):
        self.rows = self.columns.forward(X)
        Z = self.rows @ self.params[0] + self.params[1]
        return Z.reshape(len(X), *self.columns.out, -1).transpose(0, 3, 1, 2)

    def backward(self, dZ):
        dZ = dZ.transpose(0, 2, 3, 1).reshape(-1, self.shape[0])
        self.grads = [self.rows.T @ dZ, dZ.sum(axis=0)]
        return self.columns.backward(dZ @ self.params[0].T)

class Transposed:
    """A convolution turned round: col2im forward, im2col backward."""
    def __init__(self, layer):
        self.layer, self.columns = layer, Columns(layer.kernel, layer.stride, layer.padding)
        self.params = [layer.W.reshape(len(layer.W), -1).copy(), layer.b[:, 0].copy()]

    def forward(self, X):
        N, C, H, W = X.shape
        s, (kH, kW) = self.layer.stride, self.layer.kernel
        self.rows, self.small = X.transpose(0, 2, 3, 1).reshape(-1, C), (N, H, W, C)
        self.columns.out = H, W
        self.columns.shape = N, self.layer.W.shape[1], s * (H - 1) + kH, s * (W - 1) + kW
        return self.columns.backward(self.rows @ self.params[0]) + self.params[1][:, None, None]

    def backward(self, dZ):
        dcolumns = self.columns.forward(dZ)
        self.grads = [self.rows.T @ dcolumns, dZ.sum(axis=(0, 2, 3))]
        return (dcolumns @ self.params[0].T).reshape(self.small).transpose(0, 3, 1, 2)

class Pool:
    def __init__(self, side):
        self.side, self.columns = side, Columns((side, side), side)

    def forward(self, X):
        rows = self.columns.forward(X).reshape(-1, self.side ** 2)
        self.first, self.size = rows.argmax(axis=1), rows.shape
        return rows.max(axis=1).reshape(len(X), *self.columns.out, -1).transpose(0, 3, 1, 2)

    def backward(self, dA):
        drows = np.zeros(self.size, dA.dtype)
        drows[np.arange(len(drows)), self.first] = dA.transpose(0, 2, 3, 1).ravel()
        return self.columns.backward(drows)

class Remember:
    """The LSTM, one time step after the other."""
    def __init__(self, cell):
        self.params = [cell.W_ih.T.copy(), cell.W_hh.T.copy(), (cell.b_ih + cell.b_hh)[:, 0]]

    def forward(self, X):
        N, T, _ = X.shape
        Wx, Wh, b = self.params
        h, c = np.zeros((2, N, len(Wh)), X.dtype)
        self.X, self.kept, out = X, [], np.empty((N, T, len(Wh)), X.dtype)
        for t in range(T):
            i, f, g, o = np.split(X[:, t] @ Wx + h @ Wh + b, 4, axis=1)
            i, f, g, o = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))
            self.kept.append((i, f, g, o, h, c))
            c = f * c + i * g
            h = out[:, t] = o * np.tanh(c)
        return out

    def backward(self, dH):
        Wx, Wh, b = self.params
        dX, dWx, dWh, db, dh, dc = np.empty_like(self.X), 0, 0, 0, 0, 0
        for t in reversed(range(dH.shape[1])):
            i, f, g, o, h, c = self.kept[t]
            tanhc = np.tanh(f * c + i * g)
            dh = dh + dH[:, t]
            dc = dc + dh * o * (1 - tanhc ** 2)
            da = np.concatenate([dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g ** 2),
                                 dh * tanhc * o * (1 - o)], axis=1)
            dWx, dWh, db = dWx + self.X[:, t].T @ da, dWh + h.T @ da, db + da.sum(axis=0)
            dX[:, t], dh, dc = da @ Wx.T, da @ Wh.T, dc * f
        self.grads = [dWx, dWh, db]
        return dX

def batch_first(net):
    """The layers of one of our nets, with copies of its weights."""
    if isinstance(net, rnn.Recurrent):
        return [Remember(net.cell), Reshape(net.cell.size), Dense(net.output.W, net.output.b)]
    make = {"Linear": lambda layer: Dense(layer.W, layer.b),
            "Conv2d": Convolve, "ConvTranspose2d": Transposed,
            "MaxPool2d": lambda layer: Pool(layer.kernel[0]), "ReLU": lambda layer: Bend(),
            "Sigmoid": lambda layer: Squash(), "Unflatten": lambda layer: Reshape(*layer.shape)}
    return [make[name](layer) for layer in net.layers if (name := type(layer).__name__) in make]

def usual_step(layers, memory, X, y, t, lr=0.001):
    """One training step: cross-entropy for class numbers y, mean squared error for pictures."""
    for layer in layers:
        X = layer.forward(X)
    if y.dtype.kind == "f":
        L, d = np.mean((X - y) ** 2), 2 / X.size * (X - y)
    else:
        P = np.exp(X - X.max(axis=1, keepdims=True))
        P /= P.sum(axis=1, keepdims=True)
        L = -np.log(P[np.arange(len(y)), y]).mean()
        P[np.arange(len(y)), y] -= 1
        d = P / len(y)
    for layer in reversed(layers):
        d = layer.backward(d)
    pairs = [pair for layer in layers if hasattr(layer, "grads") for pair in zip(layer.params, layer.grads)]
    for (theta, g), (m, s) in zip(pairs, memory):
        m += 0.1 * (g - m)
        s += 0.001 * (g ** 2 - s)
        theta -= lr * (m / (1 - 0.9 ** t)) / (np.sqrt(s / (1 - 0.999 ** t)) + 1e-8)
    return float(L)

# --- The measurement ------------------------------------------------------------------------------------

def seconds(step, repeats=60):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[repeats // 5:])

def peak():
    """Floating-point operations per second in a large product of float32 matrices."""
    A, B = rng.standard_normal((2, 2048, 2048), dtype=np.float32)
    return 2 * 2048 ** 3 / seconds(lambda: A @ B, 10)

def operations(net, X):
    """Those of a step's products: forward, for dW, and (except in the first layer) for dX."""
    total = 0
    for layer in net.layers:
        before, X = X, layer.forward(X)
        if layer.params:
            small = before if isinstance(layer, autoencoder.ConvTranspose2d) else X
            total += 2 * layer.W.size * math.prod(small.shape[1:]) * (3 if layer.needs_dX else 2)
    return total

def compare(name, ours, layers, X, y, work, best):
    """Time both steps in turn; `work` is the number of operations in ours."""
    memory = [np.zeros((2, *p.shape), p.dtype) for layer in layers for p in getattr(layer, "params", [])]
    mine, usual = [], []
    for round_ in range(5):
        mine.append(seconds(ours))
        usual.append(seconds(lambda: usual_step(layers, memory, X, y, 1 + round_), 15))
    mine, usual = statistics.median(mine), statistics.median(usual)
    print(f"{name}: {1000 * mine:.2f} ms per step, {100 * work / mine / best:.0f} % of the peak; the usual "
          f"way takes {usual / mine:.1f} times as long", flush=True)

def main():
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    best = peak()
    print(f"large product: {best / 1e9:.0f} GFLOP/s")
    for name, script, *argv in (("mlp.py", mlp), ("cnn.py", cnn), ("autoencoder.py", autoencoder),
                                ("autoencoder.py --conv", autoencoder, "--conv")):
        (net, loss, optimizer), data, args = vs_torch.default_run(script, *argv)
        X, y = next(datasets.minibatches(data.X_train, data.y_train, args.batch_size, rng))
        y = X if script is autoencoder else y

        def ours():
            loss.forward(net.forward(X, training=True), y)
            net.backward(loss.backward())
            optimizer.step()

        rows, layers = np.ascontiguousarray(np.moveaxis(X, -1, 0)), batch_first(net)
        out = rows
        for layer in layers:
            out = layer.forward(out)
        assert np.allclose(np.moveaxis(net.forward(X), -1, 0), out, atol=1e-4), "outputs must agree"
        compare(name, ours, layers, rows, rows if y is X else y, operations(net, X), best)

    T, N, H, K = 64, 32, 128, 65
    text = rng.integers(0, K, (T + 1, N))
    X = np.eye(K, dtype=np.float32)[:, text[:-1]].transpose(1, 0, 2)
    for cell, gates in ("rnn", 1), ("gru", 3), ("lstm", 4):
        work = 2 * T * N * (gates * H * (2 * K + 3 * H) + 3 * H * K)
        net, loss = rnn.Recurrent(rnn.CELLS[cell](K, H, rng), rnn.Linear(H, K, rng)), rnn.CrossEntropyLoss()
        net.cell.needs_dX, optimizer = False, rnn.Adam(net, 0.001)

        def ours():
            loss.forward(net.forward(X)[0], text[1:].ravel())
            net.backward(loss.backward())
            rnn.clip(net.dtheta, 1)
            optimizer.step()

        if cell != "lstm":
            print(f"rnn.py, {cell}: {100 * work / seconds(ours) / best:.0f} % of the peak", flush=True)
    rows, layers = np.ascontiguousarray(X.transpose(2, 0, 1)), batch_first(net)
    out = rows
    for layer in layers:
        out = layer.forward(out)
    Z = net.forward(X)[0].reshape(K, T, N).transpose(2, 1, 0).reshape(-1, K)
    assert np.allclose(Z, out, atol=1e-4), "outputs must agree"
    compare("rnn.py, lstm", ours, layers, rows, text[1:].T.ravel(), work, best)

if __name__ == "__main__":
    main()
