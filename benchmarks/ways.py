"""What a training step costs here, and in the usual batch-first NumPy code; and how near it is to the peak.

    python benchmarks/ways.py

Prints for the default nets of mlp.py and cnn.py and the cells of rnn.py how many floating-point
operations of products a step needs, how long it takes, and which share of the machine's best rate of
float32 products that is (measured here, with the same threads). The batch-first step does the same sums,
with images (N, C, H, W), im2col and col2im, and Adam one parameter after the other; the two take turns.
"""
import math
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import cnn
import datasets
import mlp
import vs_torch

rng = np.random.default_rng(0)


# --- The usual way: the batch first ---------------------------------------------------------------------

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

class Columns:
    """im2col: the pixels under each window as a row; and back: col2im."""
    def __init__(self, kernel, stride):
        self.kernel, self.stride = kernel, stride

    def forward(self, X):
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
        return dX

class Convolve:
    def __init__(self, W, b):
        self.columns, self.shape = Columns(W.shape[2:], 1), W.shape
        self.params = [W.reshape(len(W), -1).T.copy(), b[:, 0].copy()]

    def forward(self, X):
        self.rows = self.columns.forward(X)
        Z = self.rows @ self.params[0] + self.params[1]
        return Z.reshape(len(X), *self.columns.out, -1).transpose(0, 3, 1, 2)

    def backward(self, dZ):
        dZ = dZ.transpose(0, 2, 3, 1).reshape(-1, self.shape[0])
        self.grads = [self.rows.T @ dZ, dZ.sum(axis=0)]
        return self.columns.backward(dZ @ self.params[0].T)

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

def batch_first(net):
    """The layers of one of our nets, with copies of its weights."""
    make = {"Linear": lambda layer: Dense(layer.W, layer.b),
            "Conv2d": lambda layer: Convolve(layer.W, layer.b),
            "MaxPool2d": lambda layer: Pool(layer.kernel[0]), "ReLU": lambda layer: Bend()}
    return [make[name](layer) for layer in net.layers if (name := type(layer).__name__) in make]

def usual_step(layers, memory, X, y, t, lr=0.001):
    for layer in layers:
        X = layer.forward(X)
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
    """Of the products of a step: forward, by the weights, and (but for the first layer) by the input."""
    total = 0
    for layer in net.layers:
        X = layer.forward(X)
        if layer.params:
            total += 2 * layer.W.size * math.prod(X.shape[1:]) * (3 if layer.needs_dX else 2)
    return total

def main():
    best = peak()
    print(f"large product: {best / 1e9:.0f} GFLOP/s")
    for script, name in (mlp, "mlp.py"), (cnn, "cnn.py"):
        (net, loss, optimizer), data, args = vs_torch.default_run(script)
        X, y = next(datasets.minibatches(data.X_train, data.y_train, args.batch_size, rng))
        layers, rows = batch_first(net), np.ascontiguousarray(np.moveaxis(X, -1, 0))
        memory = [np.zeros((2, *p.shape), p.dtype) for layer in layers for p in getattr(layer, "params", [])]
        Z, start = net.forward(X), rows
        for layer in layers:
            start = layer.forward(start)
        assert np.allclose(Z.T, start, atol=1e-4), "both ways must give the same outputs"

        def ours():
            loss.forward(net.forward(X, training=True), y)
            net.backward(loss.backward())
            optimizer.step()

        mine, usual = [], []
        for round_ in range(5):
            mine.append(seconds(ours))
            usual.append(seconds(lambda: usual_step(layers, memory, rows, y, 1 + round_), 15))
        mine, usual = statistics.median(mine), statistics.median(usual)
        share = operations(net, X) / mine / best
        print(f"{name}: {1000 * mine:.2f} ms per step, {100 * share:.0f} % of the peak; the usual way "
              f"{usual / mine:.1f} times as long")
    T, N, H, K = 64, 32, 128, 65
    for cell, gates in ("rnn", 1), ("lstm", 4), ("gru", 3):
        step = statistics.median(vs_torch.rnn_steps(cell, "numpy")[10:]) / 1000
        work = 2 * T * N * (gates * H * (2 * K + 3 * H) + 3 * H * K)
        print(f"rnn.py, {cell}: {1000 * step:.2f} ms per step, {100 * work / step / best:.0f} % of the peak")


if __name__ == "__main__":
    main()
